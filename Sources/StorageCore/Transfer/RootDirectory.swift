internal import CStorage
internal import Glibc

/// An open directory and what lies below it, addressed relative to it: a path that fits in the source then fits in
/// the copy, however long the name of the copy's root is, and renaming the root changes nothing.
final class RootDirectory: Sendable {
    private let directory: OpenFile
    let path: String
    var descriptor: Int32 { directory.descriptor }
    private let creating = (0..<16).map { _ in Turns() }

    /// Who makes a file waits for whoever makes another one in that directory.
    private final class Turns: Sendable {
        let mutex = SlowMutex(())
    }

    /// Opens an existing directory; a final symbolic link is followed when `followLink` is set.
    init(_ path: String, followLink: Bool = true) throws(StorageError) {
        self.path = path
        directory = try OpenFile(path, O_RDONLY | O_DIRECTORY | (followLink ? 0 : O_NOFOLLOW))
    }

    /// The full path of an entry, for error texts.
    func full(_ relative: String) -> String { relative.isEmpty ? path : Path.join(path, relative) }

    @inline(__always)
    private func check<Number: FixedWidthInteger>(
        _ operation: String, _ relative: String, _ call: () -> Number
    ) throws(StorageError) -> Number {
        while true {
            let result = call()
            if result != -1 { return result }
            let number = errno
            if number != EINTR { throw .system(number, operation, full(relative)) }
        }
    }

    /// Opens an entry; a symbolic link in the last place is not followed, and a FIFO does not block.
    func open(_ relative: String, _ flags: Int32, mode: UInt32 = 0) throws(StorageError) -> Descriptor {
        Descriptor(
            try check("open", relative) {
                cs_openat(descriptor, relative, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode_t(mode))
            })
    }

    /// Makes a file and opens it. One at a time in a directory: Linux allows no more either, but lets those who wait burn
    /// their cores meanwhile.
    func create(_ relative: String, _ flags: Int32, mode: UInt32) throws(StorageError) -> Descriptor {
        let parent = relative.utf8.lastIndex(of: UInt8(ascii: "/")).map { relative[..<$0].hashValue } ?? 0
        let turns = creating[Int(UInt(bitPattern: parent) % UInt(creating.count))]
        return try turns.mutex.withLock { (_) throws(StorageError) in
            try open(relative, flags | O_CREAT | O_EXCL, mode: mode)
        }
    }

    /// Calls `body` with the bytes of each name in a directory below (or in the root: ""), in no order, without `.`
    /// and `..`. Names need not be UTF-8.
    func forEachName(
        in relative: String, _ body: (UnsafeRawBufferPointer) throws(StorageError) -> Void
    ) throws(StorageError) {
        let file = try open(relative.isEmpty ? "." : relative, O_RDONLY | O_DIRECTORY)
        try Self.forEachName(in: file, { full(relative) }, body)
    }

    /// The same for a directory that is open.
    static func forEachName(
        in file: consuming Descriptor, _ path: () -> String,
        _ body: (UnsafeRawBufferPointer) throws(StorageError) -> Void
    ) throws(StorageError) {
        let number = file.release()
        guard let stream = cs_fdopendir(number) else {
            let error = errno
            _ = cs_close(number)
            throw .system(error, "opendir", path())
        }
        defer { cs_closedir(stream) }
        let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19
        let dot = UInt8(ascii: ".")
        while true {
            errno = 0
            guard let entry = cs_readdir(stream) else {
                if errno != 0 { throw .system(errno, "readdir", path()) }
                return
            }
            // Not through `d_name`: its type says 256 bytes, of which only those of this record exist.
            let room = max(0, Int(entry.pointee.d_reclen) - offset)
            let bytes = UnsafeRawBufferPointer(start: UnsafeRawPointer(entry) + offset, count: room)
            let name = UnsafeRawBufferPointer(rebasing: bytes.prefix { $0 != 0 })
            if name.count <= 2, name.allSatisfy({ $0 == dot }) { continue }
            try body(name)
        }
    }

    /// `fstatat` without following; nil when there is nothing.
    func status(_ relative: String) throws(StorageError) -> System.FileStatus? {
        if relative.isEmpty { return try directory.status() }
        var info = stat()
        while cs_fstatat(descriptor, relative, &info, AT_SYMLINK_NOFOLLOW) == -1 {
            let number = errno
            if number == ENOENT || number == ENOTDIR { return nil }
            if number != EINTR { throw .system(number, "stat", full(relative)) }
        }
        return System.FileStatus(info)
    }

    /// `fstat` of an entry that is open.
    func status(of number: Int32, _ relative: String) throws(StorageError) -> System.FileStatus {
        var info = stat()
        _ = try check("fstat", relative) { cs_fstat(number, &info) }
        return System.FileStatus(info)
    }

    /// Closes; network file systems tell of lost writes here.
    func close(_ file: consuming Descriptor, _ relative: String) throws(StorageError) {
        // Linux has closed the descriptor even after EINTR: never repeat.
        if cs_close(file.release()) == -1, errno != EINTR { throw .system(errno, "close", full(relative)) }
    }

    /// False when it is there already.
    @discardableResult
    func makeDirectory(_ relative: String, mode: UInt32) throws(StorageError) -> Bool {
        while cs_mkdirat(descriptor, relative, mode_t(mode)) == -1 {
            let number = errno
            if number == EEXIST { return false }
            if number != EINTR { throw .system(number, "mkdir", full(relative)) }
        }
        return true
    }

    func makeLink(_ relative: String, target: String) throws(StorageError) {
        _ = try check("symlink", relative) { cs_symlinkat(target, descriptor, relative) }
    }

    func readLink(_ relative: String) throws(StorageError) -> String {
        let text: String? = try withUnsafeTemporary(4096) { (buffer) throws(StorageError) in
            let count = try check("readlink", relative) {
                buffer.baseAddress.map {
                    cs_readlinkat(descriptor, relative, $0.assumingMemoryBound(to: CChar.self), buffer.count)
                } ?? 0
            }
            return String(validating: buffer.prefix(count), as: UTF8.self)
        }
        guard let text else {
            throw StorageError(
                .invalidArgument, "the target of the link \(quoted(full(relative))) is not UTF-8",
                details: [("path", .string(full(relative)))])
        }
        return text
    }

    func rename(_ from: String, to: String) throws(StorageError) {
        _ = try check("rename", from) { cs_renameat(descriptor, from, descriptor, to) }
    }

    /// Renames an entry into another directory, replacing what has its name there.
    func move(_ from: String, to other: RootDirectory, _ to: String) throws(StorageError) {
        _ = try check("rename", from) { cs_renameat(descriptor, from, other.descriptor, to) }
    }

    /// False when there is nothing.
    @discardableResult
    func unlink(_ relative: String, isDirectory: Bool = false) throws(StorageError) -> Bool {
        while cs_unlinkat(descriptor, relative, isDirectory ? AT_REMOVEDIR : 0) == -1 {
            let number = errno
            if number == ENOENT { return false }
            if number != EINTR { throw .system(number, isDirectory ? "rmdir" : "unlink", full(relative)) }
        }
        return true
    }

    /// Whether this process may read the entry.
    func isReadable(_ relative: String) -> Bool {
        cs_faccessat(descriptor, relative, R_OK, AT_EACCESS) == 0 || errno != EACCES
    }

    /// Gives permission bits to an entry that is no link. File systems without such bits refuse; that loses nothing.
    func setMode(_ relative: String, _ mode: UInt32) throws(StorageError) {
        let target = relative.isEmpty ? "." : relative
        while cs_fchmodat(descriptor, target, mode_t(mode), 0) == -1 {
            let number = errno
            if number == EPERM || number == EOPNOTSUPP || number == EINVAL { return }
            if number != EINTR { throw .system(number, "chmod", full(relative)) }
        }
    }

    /// Sets the mtime of an entry, of a link itself and not of its target.
    func setModified(_ relative: String, nanoseconds: Int64) throws(StorageError) {
        let times = Self.times(modifiedNanoseconds: nanoseconds)
        let result = withUnsafePointer(to: times) { pointer in
            pointer.withMemoryRebound(to: timespec.self, capacity: 2) {
                cs_utimensat(descriptor, relative.isEmpty ? "." : relative, $0, AT_SYMLINK_NOFOLLOW)
            }
        }
        if result == -1, errno != EPERM, errno != EOPNOTSUPP, errno != EINVAL {
            throw .system(errno, "utimensat", full(relative))
        }
    }

    /// Sets the mtime of an open file and, where they differ from `status`, its permission bits; returns its status.
    func finish(
        _ number: Int32, _ relative: String, mode: UInt32, modifiedNanoseconds: Int64
    ) throws(StorageError) -> System.FileStatus {
        let times = Self.times(modifiedNanoseconds: modifiedNanoseconds)
        let result = withUnsafePointer(to: times) { pointer in
            pointer.withMemoryRebound(to: timespec.self, capacity: 2) { cs_futimens(number, $0) }
        }
        if result == -1, errno != EPERM, errno != EOPNOTSUPP, errno != EINVAL {
            throw .system(errno, "futimens", full(relative))
        }
        let status = try status(of: number, relative)
        if status.mode & 0o777 == mode { return status }
        // The umask cut bits off at creation. Special bits stay what the directory made them.
        if cs_fchmod(number, mode_t(status.mode & ~0o777 | mode)) == -1 {
            if errno != EPERM, errno != EOPNOTSUPP, errno != EINVAL { throw .system(errno, "fchmod", full(relative)) }
        }
        return try self.status(of: number, relative)
    }

    /// Makes the entries of a directory below (or of the root itself: "") durable.
    func syncDirectory(_ relative: String) throws(StorageError) {
        if relative.isEmpty { return try directory.sync() }
        let file = try open(relative, O_RDONLY | O_DIRECTORY)
        let number = file.number
        _ = try check("fsync", relative) { cs_fsync(number) }
        try close(file, relative)
    }

    private static func times(modifiedNanoseconds: Int64) -> (timespec, timespec) {
        var seconds = modifiedNanoseconds / 1_000_000_000
        var rest = modifiedNanoseconds % 1_000_000_000
        if rest < 0 {
            seconds -= 1
            rest += 1_000_000_000
        }
        // UTIME_OMIT for the access time.
        return (timespec(tv_sec: 0, tv_nsec: (1 << 30) - 2), timespec(tv_sec: Int(seconds), tv_nsec: Int(rest)))
    }
}

/// A file descriptor that one owner closes: no allocation per file, unlike `OpenFile`.
struct Descriptor: ~Copyable {
    let number: Int32

    init(_ number: Int32) { self.number = number }

    deinit { _ = cs_close(number) }

    consuming func release() -> Int32 {
        let number = number
        discard self
        return number
    }
}

/// Memory on the stack, with typed throws.
func withUnsafeTemporary<Value>(
    _ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws(StorageError) -> Value
) throws(StorageError) -> Value {
    let result: Result<Value, StorageError> = withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { buffer in
        do throws(StorageError) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
}
