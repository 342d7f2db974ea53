internal import CStorage
internal import Glibc

/// A response's body on its way into a file: gathered into pieces that end on multiples of their size, each written at once,
/// its CRC-32C taken while the bytes are in the cache.
///
/// A system's curl hands over 16 KiB at a time, ours what one look at the socket has brought, and the headers shift all of
/// it. Writes that small and crooked cost the page cache twice to three times as much as aligned ones of this size.
final class FileBody {
    /// Stays in a core's second-level cache between the socket and the file, together with curl's own buffer.
    static let pieceSize = 256 << 10

    private let file: OpenFile
    /// In the file, of what has not been written.
    private var offset: Int
    /// Bytes that are in the file.
    private(set) var written = 0
    /// CRC-32C of each whole block of those, what earlier tries have brought included.
    private(set) var blocks: [UInt32]
    /// Of what there is of the next block, and how much that is.
    private(set) var block: UInt32
    private(set) var blockLength: Int

    private let capacity: Int
    private var buffer: UnsafeMutableRawBufferPointer?
    private var filled = 0

    /// - `offset`: in the file, of the first byte to come.
    /// - `expected`: how many bytes are to come; no more room is taken.
    init(_ file: OpenFile, offset: Int, expected: Int, after begun: HTTPReceipt.State) {
        self.file = file
        self.offset = offset
        blocks = begun.blocks
        block = begun.block
        blockLength = begun.blockLength
        capacity = max(1, min(expected, Self.pieceSize))
    }

    deinit { buffer?.deallocate() }

    func take(_ bytes: UnsafeRawBufferPointer) throws(StorageError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let room = roomOfPiece - filled
            if filled == 0, rest.count >= room {
                // A whole piece as it came.
                try write(UnsafeRawBufferPointer(rebasing: rest.prefix(room)))
                rest = rest.dropFirst(room)
                continue
            }
            let part = rest.prefix(room)
            gather(UnsafeRawBufferPointer(rebasing: part))
            rest = rest.dropFirst(part.count)
            if filled >= roomOfPiece { try flush() }
        }
    }

    /// Writes what has been gathered.
    func flush() throws(StorageError) {
        guard let buffer, filled > 0 else { return }
        let piece = UnsafeRawBufferPointer(rebasing: buffer[..<filled])
        // Not twice, whatever becomes of it.
        filled = 0
        try write(piece)
    }

    /// The CRCs of all blocks, the last one shorter.
    func endBlocks() -> [UInt32] {
        if blockLength > 0 { endBlock() }
        return blocks
    }

    /// From `offset` up to where the piece ends.
    private var roomOfPiece: Int { min(capacity, Self.pieceSize - offset % Self.pieceSize) }

    private func gather(_ bytes: UnsafeRawBufferPointer) {
        let target = buffer ?? .allocate(byteCount: capacity, alignment: 64)
        buffer = target
        UnsafeMutableRawBufferPointer(rebasing: target[filled...]).copyMemory(from: bytes)
        filled += bytes.count
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(StorageError) {
        var done = 0
        while done < bytes.count {
            let start = off_t(offset)
            let count = try System.check("pwrite", file.path) {
                cs_pwrite(file.descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, start)
            }
            check(UnsafeRawBufferPointer(rebasing: bytes[done..<(done + count)]))
            done += count
            offset += count
            written += count
        }
    }

    private func check(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(CRC32C.blockSize - blockLength)
            block = CRC32C.update(block, UnsafeRawBufferPointer(rebasing: piece))
            blockLength += piece.count
            if blockLength == CRC32C.blockSize { endBlock() }
            rest = rest.dropFirst(piece.count)
        }
    }

    private func endBlock() {
        blocks.append(block)
        block = 0
        blockLength = 0
    }
}
