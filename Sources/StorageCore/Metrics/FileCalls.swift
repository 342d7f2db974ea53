internal import CStorage
internal import Glibc

/// The system calls of the log and the files derived from it, a parameter so that tests can let them fail. Each returns
/// -1 and sets `errno` as the call of its name does.
struct FileCalls: Sendable {
    var write: @Sendable (Int32, UnsafeRawPointer?, Int) -> Int
    var synchronize: @Sendable (Int32) -> Int32
    var truncate: @Sendable (Int32, Int) -> Int32

    static let system = FileCalls(
        write: { cs_write($0, $1, $2) }, synchronize: { cs_fdatasync($0) }, truncate: { cs_ftruncate($0, off_t($1)) })

    /// Appends all of it to a descriptor with `O_APPEND` whose file has that length, or nothing: what a short write
    /// left is cut off and tried again. In the usual case this is exactly one `write(2)`.
    ///
    /// Throws when the storage refuses; `isTorn` is then set if not even the piece could be cut off, so that the file
    /// ends within a line.
    func append(
        _ bytes: UnsafeRawBufferPointer, to file: OpenFile, length: Int, isTorn: inout Bool
    ) throws(StorageError) {
        var shortWrites = 0
        while true {
            let count = write(file.descriptor, bytes.baseAddress, bytes.count)
            let number = count < 0 ? errno : 0
            if count == bytes.count { return }
            if number == EINTR { continue }
            isTorn = !cutBack(file, to: length)
            if number != 0 { throw .system(number, "write", file.path) }
            shortWrites += 1
            // The second try usually tells why: ENOSPC, EDQUOT.
            if isTorn || shortWrites >= 3 {
                throw StorageError(
                    .io, "write \(quoted(file.path)): only \(count) of \(bytes.count) bytes were taken",
                    details: [("operation", "write"), ("path", .string(file.path))], isRetryable: true)
            }
        }
    }

    /// The same for an array.
    func append(
        _ bytes: ArraySlice<UInt8>, to file: OpenFile, length: Int, isTorn: inout Bool
    ) throws(StorageError) {
        let result = bytes.withUnsafeBytes { bytes -> Result<Void, StorageError> in
            do throws(StorageError) {
                try append(bytes, to: file, length: length, isTorn: &isTorn)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// Whether the file has that length now.
    private func cutBack(_ file: OpenFile, to length: Int) -> Bool {
        var info = stat()
        if cs_fstat(file.descriptor, &info) == 0, Int(info.st_size) == length { return true }
        return truncate(file.descriptor, length) == 0
    }
}
