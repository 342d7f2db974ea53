internal import CStorage
internal import Glibc

/// System calls with typed errors that carry operation and path; EINTR is repeated here and nowhere else.
enum System {
    /// What `lstat` or `fstat` tells, as far as we use it.
    struct FileStatus: Sendable, Equatable {
        enum Kind: Sendable, Equatable { case file, directory, symlink, other(String) }
        var kind: Kind
        var device: UInt64
        var inode: UInt64
        var size: Int
        /// 512-byte blocks allocated.
        var blocks: Int
        /// Permission bits.
        var mode: UInt32
        var links: Int
        var modifiedNanoseconds: Int64
        var changedNanoseconds: Int64

        init(_ info: stat) {
            kind =
                switch info.st_mode & S_IFMT {
                case S_IFREG: .file
                case S_IFDIR: .directory
                case S_IFLNK: .symlink
                case S_IFIFO: .other("FIFO")
                case S_IFSOCK: .other("socket")
                case S_IFCHR, S_IFBLK: .other("device")
                default: .other("special file")
                }
            device = UInt64(info.st_dev)
            inode = UInt64(info.st_ino)
            size = Int(info.st_size)
            blocks = Int(info.st_blocks)
            mode = UInt32(info.st_mode & 0o7777)
            links = Int(info.st_nlink)
            modifiedNanoseconds = Self.nanoseconds(info.st_mtim)
            changedNanoseconds = Self.nanoseconds(info.st_ctim)
        }

        /// 64 bits of nanoseconds end in 2262; a file may say anything.
        private static func nanoseconds(_ time: timespec) -> Int64 {
            let (seconds, overflow) = Int64(time.tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
            let (sum, tooLarge) = seconds.addingReportingOverflow(Int64(time.tv_nsec))
            if overflow || tooLarge { return time.tv_sec < 0 ? .min : .max }
            return sum
        }
    }

    /// Repeats a call while it is interrupted; -1 becomes an error.
    @discardableResult
    static func check<Number: FixedWidthInteger>(
        _ operation: String, _ path: String, _ call: () -> Number
    ) throws(StorageError) -> Number {
        while true {
            let result = call()
            if result != -1 { return result }
            let number = errno
            if number != EINTR { throw .system(number, operation, path) }
        }
    }

    /// `lstat`, nil when there is nothing.
    static func status(_ path: String) throws(StorageError) -> FileStatus? {
        var info = stat()
        do throws(StorageError) {
            try check("lstat", path) { cs_lstat(path, &info) }
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        return FileStatus(info)
    }

    static func exists(_ path: String) throws(StorageError) -> Bool { try status(path) != nil }

    /// `mkdir`; false when it is there already.
    @discardableResult
    static func makeDirectory(_ path: String, mode: UInt32 = 0o777) throws(StorageError) -> Bool {
        do throws(StorageError) {
            try check("mkdir", path) { cs_mkdir(path, mode) }
            return true
        } catch {
            if error.code == .alreadyExists { return false }
            throw error
        }
    }

    /// `mkdir -p`. Returns the directories that it made, outermost first.
    @discardableResult
    static func makeDirectories(_ path: String, mode: UInt32 = 0o777) throws(StorageError) -> [String] {
        if let status = try statusFollowing(path) {
            if status.kind == .directory { return [] }
            throw .system(ENOTDIR, "mkdir", path)
        }
        var made: [String] = []
        let parent = Path.parent(path)
        if parent != path { made = try makeDirectories(parent, mode: mode) }
        if try makeDirectory(path, mode: mode) { made.append(path) }
        return made
    }

    /// `stat`, nil when there is nothing.
    static func statusFollowing(_ path: String) throws(StorageError) -> FileStatus? {
        var info = stat()
        do throws(StorageError) {
            try check("stat", path) { cs_stat(path, &info) }
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        return FileStatus(info)
    }

    static func rename(_ from: String, to: String) throws(StorageError) {
        try check("rename", from) { cs_rename(from, to) }
    }

    /// `unlink`; false when there is nothing.
    @discardableResult
    static func unlink(_ path: String) throws(StorageError) -> Bool {
        do throws(StorageError) {
            try check("unlink", path) { cs_unlink(path) }
            return true
        } catch {
            if error.code == .notFound { return false }
            throw error
        }
    }

    /// The names in a directory, unsorted, without `.` and `..`.
    static func list(_ path: String) throws(StorageError) -> [String] { try entries(path).map(\.name) }

    /// The same with what they stand for; nil where the file system does not say.
    static func entries(_ path: String) throws(StorageError) -> [(name: String, isDirectory: Bool?)] {
        guard let directory = cs_opendir(path) else { throw .system(errno, "opendir", path) }
        defer { cs_closedir(directory) }
        var entries: [(name: String, isDirectory: Bool?)] = []
        while true {
            errno = 0
            guard let entry = cs_readdir(directory) else {
                if errno != 0 { throw .system(errno, "readdir", path) }
                return entries
            }
            let name: String? = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let name else {
                throw StorageError(
                    .invalidArgument, "a file name in \(quoted(path)) is not UTF-8: rename it",
                    details: [("path", .string(path))])
            }
            if name == "." || name == ".." { continue }
            let type = Int(entry.pointee.d_type)
            entries.append((name, type == Int(DT_UNKNOWN) ? nil : type == Int(DT_DIR)))
        }
    }

    static func readLink(_ path: String) throws(StorageError) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = try check("readlink", path) {
            buffer.withUnsafeMutableBytes { bytes in
                guard let start = bytes.baseAddress else { return -1 }
                return cs_readlink(path, start, bytes.count)
            }
        }
        guard let text = String(validating: buffer.prefix(count), as: UTF8.self) else {
            throw StorageError(.invalidArgument, "the target of \(quoted(path)) is not UTF-8")
        }
        return text
    }

    /// Makes the entries of a directory durable.
    static func syncDirectory(_ path: String) throws(StorageError) {
        let directory = try OpenFile(path, O_RDONLY | O_DIRECTORY)
        try directory.sync()
        try directory.close()
    }

    /// Removes a file or a whole tree; symbolic links are removed, not followed. Nothing there is no error.
    static func removeTree(_ path: String) throws(StorageError) {
        guard let status = try status(path) else { return }
        guard status.kind == .directory else {
            try unlink(path)
            return
        }
        // A directory that its owner may not write to can still be emptied by its owner.
        if status.mode & 0o700 != 0o700 { _ = cs_chmod(path, mode_t(status.mode | 0o700)) }
        for name in try list(path) { try removeTree(Path.join(path, name)) }
        do throws(StorageError) {
            try check("rmdir", path) { cs_rmdir(path) }
        } catch {
            if error.code != .notFound { throw error }
        }
    }

    /// Bytes that this user may still write there.
    static func freeBytes(_ path: String) throws(StorageError) -> Int {
        var info = statvfs()
        try check("statvfs", path) { cs_statvfs(path, &info) }
        return Int(clamping: UInt64(info.f_bavail).multipliedReportingOverflow(by: UInt64(info.f_frsize)).partialValue)
    }
}

/// Text operations on absolute paths.
enum Path {
    static func join(_ directory: String, _ name: String) -> String {
        directory.utf8.last == UInt8(ascii: "/") ? directory + name : "\(directory)/\(name)"
    }

    /// A key or prefix that ends in `/` without that: a byte, which need not be a character of its own.
    static func withoutSlash(_ prefix: String) -> String { String(decoding: prefix.utf8.dropLast(), as: UTF8.self) }

    static func parent(_ path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.utf8.startIndex ? "/" : String(path[..<slash])
    }

    static func name(_ path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
        return String(path[path.utf8.index(after: slash)...])
    }
}

extension Environment {
    static func read(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }

    static func readNames() -> [String] {
        var names: [String] = []
        guard let entries = cs_environment() else { return names }
        while let entry = entries[names.count] { names.append(String(String(cString: entry).prefix { $0 != "=" })) }
        return names
    }
}
