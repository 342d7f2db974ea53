internal import CStorage
internal import Glibc

/// Glibc's macros, which Swift does not see.
private let seekData: Int32 = 3
private let seekHole: Int32 = 4

/// Moves a range of one open file through a small buffer: read, CRC while the bytes are in the cache, write. Holes are
/// stepped over: nothing is read or written there, and their CRC is computed from their length.
struct BlockStream {
    let source: Int32
    /// nil: only read.
    let destination: Int32?
    /// For error texts; made into paths only when needed.
    let root: RootDirectory
    let destinationRoot: RootDirectory?
    let path: String
    let mayHaveHoles: Bool
    let buffer: UnsafeMutableRawBufferPointer
    let progress: Progress
    let hooks: TransferHooks
    /// What is done to the file, for the error when it is shorter than expected: "captured".
    let activity: String

    private var sourcePath: String { root.full(path) }
    private var destinationPath: String { destinationRoot?.full(path) ?? path }

    /// `range` begins at a block and ends at one or at the end of the file. `block` gets offset, length and CRC of each.
    func run(
        _ range: Range<Int>, _ block: (_ offset: Int, _ length: Int, _ crc: UInt32) throws(StorageError) -> Void
    ) throws(StorageError) {
        var position = range.lowerBound
        // Where the bytes known to be data or hole end.
        var dataEnd = mayHaveHoles ? position : range.upperBound
        var holeEnd = position
        while position < range.upperBound {
            try progress.checkCancelled()
            let start = position
            let end = min(range.upperBound, start + CRC32C.blockSize)
            if let hook = hooks.beforeBlock { hook(sourcePath, start) }
            var crc: UInt32 = 0
            while position < end {
                if position >= dataEnd, position >= holeEnd {
                    (holeEnd, dataEnd) = try extent(at: position, limit: range.upperBound)
                }
                if position < holeEnd {
                    let count = min(end, holeEnd) - position
                    crc = CRC32C.updateZeros(crc, count: count)
                    position += count
                    continue
                }
                let count = try read(at: position, min(min(end, dataEnd) - position, buffer.count))
                let bytes = UnsafeRawBufferPointer(buffer).prefix(count)
                crc = CRC32C.update(crc, UnsafeRawBufferPointer(rebasing: bytes))
                try write(count, at: position)
                position += count
            }
            try block(start, end - start, crc)
            progress.advance(bytes: end - start)
        }
    }

    /// The end of the hole that begins at `position` (or `position`), and the end of the data behind it.
    private func extent(at position: Int, limit: Int) throws(StorageError) -> (holeEnd: Int, dataEnd: Int) {
        let data = try seek(position, seekData) ?? limit
        if data >= limit { return (limit, limit) }
        return (max(position, data), min(limit, try seek(data, seekHole) ?? limit))
    }

    /// nil: nothing of that kind until the end. A file system that does not know holes says that all is data.
    private func seek(_ position: Int, _ what: Int32) throws(StorageError) -> Int? {
        let result = cs_lseek(source, off_t(position), what)
        if result != -1 { return Int(result) }
        if errno == ENXIO { return nil }
        if errno == EINVAL { return what == seekData ? position : nil }
        throw .system(errno, "lseek", sourcePath)
    }

    private func read(at position: Int, _ count: Int) throws(StorageError) -> Int {
        var got = cs_pread(source, buffer.baseAddress, count, off_t(position))
        while got == -1 {
            if errno != EINTR { throw .system(errno, "read", sourcePath) }
            got = cs_pread(source, buffer.baseAddress, count, off_t(position))
        }
        if got == 0 { throw .changed(sourcePath, "it ends at byte \(position)", during: activity) }
        return got
    }

    private func write(_ count: Int, at position: Int) throws(StorageError) {
        guard let destination else { return }
        var done = 0
        while done < count {
            let put = cs_pwrite(destination, buffer.baseAddress.map { $0 + done }, count - done, off_t(position + done))
            if put > 0 {
                done += put
            } else if put == 0 || errno != EINTR {
                throw .system(put == 0 ? EIO : errno, "write", destinationPath)
            }
        }
    }
}

/// Where tests reach in.
struct TransferHooks: Sendable {
    /// Called before a block is read, with the full path and the offset.
    var beforeBlock: (@Sendable (String, Int) -> Void)?
    /// In place of `fsync`: returns an errno, 0 for success.
    var sync: (@Sendable (String) -> Int32)?

    static let none = TransferHooks()
}
