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
    /// In the file, of the body's first byte.
    private let start: Int
    /// What is in the file, that of earlier tries included.
    private(set) var received: HTTPReceipt.State

    private let capacity: Int
    private var buffer: UnsafeMutableRawBufferPointer?
    private var filled = 0

    /// - `offset`: in the file, of the body's first byte.
    /// - `expected`: bytes of the whole body; no more room is taken than for what is to come.
    init(_ file: OpenFile, offset: Int, expected: Int, after begun: HTTPReceipt.State = .init()) {
        self.file = file
        start = offset
        received = begun
        capacity = max(1, min(expected - begun.length, Self.pieceSize))
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
        if received.blockLength > 0 { endBlock() }
        return received.blocks
    }

    /// In the file, of what has not been written.
    private var offset: Int { start + received.length }
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
            let place = off_t(offset)
            let count = try System.check("pwrite", file.path) {
                cs_pwrite(file.descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, place)
            }
            check(UnsafeRawBufferPointer(rebasing: bytes[done..<(done + count)]))
            done += count
            received.length += count
        }
    }

    private func check(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(CRC32C.blockSize - received.blockLength)
            received.block = CRC32C.update(received.block, UnsafeRawBufferPointer(rebasing: piece))
            received.blockLength += piece.count
            if received.blockLength == CRC32C.blockSize { endBlock() }
            rest = rest.dropFirst(piece.count)
        }
    }

    private func endBlock() {
        received.blocks.append(received.block)
        received.block = 0
        received.blockLength = 0
    }
}
