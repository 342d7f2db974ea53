internal import CStorage
internal import Glibc

/// One segment that is being written. Not thread-safe: `MetricsLog` holds its lock around every call.
struct MetricsSegment: Sendable {
    let name: MetricsSegmentName
    let file: OpenFile
    /// Bytes in the file.
    private(set) var length = 0
    /// Bytes that an fsync has made durable.
    private(set) var synced = 0
    /// What the file holds from `tailStart` on: what was written since the last fsync, and before it the synced lines of the
    /// last blocks. Ends early when there was no room to keep more.
    private var tail: [UInt8] = []
    /// Where the tail begins: at a line, at most `synced`.
    private var tailStart = 0
    /// A failed fsync: the kernel may have dropped pages and calls them clean, so a later success means nothing.
    var isSuspect = false
    /// The file ends within a line that could not be cut off.
    private var isTorn = false

    var isDirty: Bool { isSuspect || length > synced }

    /// A write-back that fails takes whole pages, with what an earlier fsync had made durable in them. The largest page
    /// that Linux has.
    static let blockBytes = 64 << 10

    /// Unsynced bytes that are kept in memory.
    var keptBytes: Int { max(0, tailStart + tail.count - synced) }

    /// Creates the file, which must not exist.
    init(_ name: MetricsSegmentName, directory: String) throws(StorageError) {
        self.name = name
        file = try OpenFile(Path.join(directory, name.fileName), O_RDWR | O_CREAT | O_EXCL | O_APPEND)
    }

    /// Appends one line. `framed` is a newline, the line and its own newline; the first one is written only when the
    /// file ends within a line, so that the torn piece stays alone. Keeps at most `room` bytes for `endangered()`.
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
        if tailStart + tail.count == length, count <= room { tail += framed[start...] }
        length += count
    }

    /// Notes that an fsync which began at that length succeeded.
    mutating func markSynced(_ length: Int) {
        guard length > synced else { return }
        synced = length
        if tailStart + tail.count < synced {
            // More than was kept. What the disk has now can be read again while nothing has failed yet.
            tailStart = max(tailStart, synced - Self.blockBytes)
            tail = (try? read(from: tailStart, to: synced)) ?? []
        }
        // Whole lines go; the one that reaches into the last blocks stays, all of it.
        let spare = synced - Self.blockBytes - tailStart
        guard spare > 0, let end = tail.prefix(spare).lastIndex(of: 0x0A) else { return }
        tail.removeFirst(end + 1)
        tailStart += end + 1
    }

    /// Everything that a failed fsync may have taken: what none has made durable, and the lines of the last blocks. From
    /// memory as far as it was kept, the rest from the file: with luck the page cache still has it.
    func endangered() throws(StorageError) -> [UInt8] {
        tail + (try read(from: tailStart + tail.count, to: length))
    }

    private func read(from start: Int, to end: Int) throws(StorageError) -> [UInt8] {
        var bytes: [UInt8] = []
        while start + bytes.count < end {
            let offset = start + bytes.count
            var chunk = [UInt8](repeating: 0, count: min(1 << 20, end - offset))
            let count = try System.check("read", file.path) {
                chunk.withUnsafeMutableBytes { cs_pread(file.descriptor, $0.baseAddress, $0.count, off_t(offset)) }
            }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        return bytes
    }
}
