internal import Glibc

/// One segment that is being written. Not thread-safe: `MetricsLog` holds its lock around every call.
struct MetricsSegment: Sendable {
    let name: MetricsSegmentName
    let file: OpenFile
    /// Bytes in the file.
    private(set) var length = 0
    /// Bytes that an fsync has made durable.
    private(set) var synced = 0
    /// What was written since, from `synced` on; ends early when there was no room to keep more.
    private(set) var tail: [UInt8] = []
    /// A failed fsync: the kernel may have dropped pages and calls them clean, so a later success means nothing.
    var isSuspect = false
    /// The file ends within a line that could not be cut off.
    private var isTorn = false

    var isDirty: Bool { isSuspect || length > synced }

    /// Creates the file, which must not exist.
    init(_ name: MetricsSegmentName, directory: String) throws(StorageError) {
        self.name = name
        file = try OpenFile(Path.join(directory, name.fileName), O_RDWR | O_CREAT | O_EXCL | O_APPEND)
    }

    /// Appends one line. `framed` is a newline, the line and its own newline; the first one is written only when the
    /// file ends within a line, so that the torn piece stays alone. Keeps at most `room` bytes for `unsynced()`.
    mutating func append(_ framed: [UInt8], room: Int, _ calls: FileCalls) throws(StorageError) {
        let start = isTorn ? 0 : 1
        do throws(StorageError) {
            try calls.append(framed[start...], to: file, length: length, isTorn: &isTorn)
        } catch {
            if isTorn {
                // Bytes that nobody counted: what is unsynced is read from the file if it must be written again.
                length = max(length, try file.status().size)
                tail = []
            }
            throw error
        }
        isTorn = false
        let count = framed.count - start
        if tail.count == length - synced, count <= room { tail += framed[start...] }
        length += count
    }

    /// Notes that an fsync which began at that length succeeded.
    mutating func markSynced(_ length: Int) {
        guard length > synced else { return }
        tail.removeFirst(min(tail.count, length - synced))
        synced = length
    }

    /// Everything that no fsync has made durable, from memory as far as it was kept, the rest from the file: with luck
    /// the page cache still has it.
    func unsynced() throws(StorageError) -> [UInt8] {
        var bytes = tail
        while bytes.count < length - synced {
            let offset = synced + bytes.count
            var chunk = [UInt8](repeating: 0, count: min(1 << 20, length - offset))
            let count = try System.check("read", file.path) {
                chunk.withUnsafeMutableBytes { pread(file.descriptor, $0.baseAddress, $0.count, off_t(offset)) }
            }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        return bytes
    }
}
