internal import CStorage
internal import Glibc

/// A file descriptor that knows its path. `close()` reports what the kernel says; letting go of it closes in silence.
final class OpenFile: Sendable {
    let descriptor: Int32
    let path: String
    private let isOpen = Flag(true)

    /// Opens with `O_CLOEXEC`; `mode` is for `O_CREAT` and subject to the umask.
    init(_ path: String, _ flags: Int32, mode: UInt32 = 0o666) throws(StorageError) {
        self.path = path
        descriptor = try System.check("open", path) { cs_open(path, flags, mode_t(mode)) }
    }

    /// Takes over a descriptor that is open.
    init(owning descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { if isOpen.clear() { _ = cs_close(descriptor) } }

    /// Closes; NFS tells of lost writes here (ENOSPC, EDQUOT, EIO).
    func close() throws(StorageError) {
        guard isOpen.clear() else { return }
        // Linux has closed the descriptor even after EINTR: never repeat.
        if cs_close(descriptor) == -1, errno != EINTR { throw .system(errno, "close", path) }
    }

    func status() throws(StorageError) -> System.FileStatus {
        var info = stat()
        try System.check("fstat", path) { cs_fstat(descriptor, &info) }
        return System.FileStatus(info)
    }

    /// `fsync`. After an error the file's content is not to be trusted, whatever a second fsync says: write it anew.
    func sync() throws(StorageError) { try System.check("fsync", path) { cs_fsync(descriptor) } }

    func syncData() throws(StorageError) { try System.check("fdatasync", path) { cs_fdatasync(descriptor) } }

    /// Writes all of it at the descriptor's position.
    func write(_ bytes: [UInt8]) throws(StorageError) {
        var done = 0
        while done < bytes.count {
            let count = try System.check("write", path) {
                bytes.withUnsafeBytes { buffer in
                    cs_write(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done)
                }
            }
            done += count
        }
    }

    /// Reads once, at most `limit` bytes and as many as the buffer holds; how many were read, 0 at the end.
    func read(into buffer: inout [UInt8], limit: Int, at offset: Int) throws(StorageError) -> Int {
        let count = min(buffer.count, max(0, limit))
        return try System.check("read", path) {
            buffer.withUnsafeMutableBytes { cs_pread(descriptor, $0.baseAddress, count, off_t(offset)) }
        }
    }

    /// Everything from the start to the end, at most `limit` bytes; more is an error.
    func readAll(limit: Int) throws(StorageError) -> [UInt8] {
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let offset = content.count
            let count = try System.check("read", path) {
                buffer.withUnsafeMutableBytes { cs_pread(descriptor, $0.baseAddress, $0.count, off_t(offset)) }
            }
            if count == 0 { return content }
            content.append(contentsOf: buffer.prefix(count))
            if content.count > limit {
                throw StorageError(
                    .io, "\(quoted(path)) is larger than \(limit) bytes", details: [("path", .string(path))])
            }
        }
    }
}
