internal import CStorage
internal import Glibc
internal import Synchronization

/// POSIX record locks on small files, shared between the tasks of a process and between processes.
///
/// The kernel keeps them per process and drops them all when any descriptor of the file is closed, so a process has at
/// most one descriptor per lock file, here. A killed process loses its locks; a forked child never had them, and starts
/// with a table of its own.
final class LockTable: Sendable {
    private struct Entry {
        var descriptor: Int32
        /// Tasks that share it; 0: one task has it alone.
        var readers: Int
    }
    private let processID = getpid()
    private let entries = SlowMutex<[[UInt8]: Entry]>([:])

    /// The table of a forked child hangs on that of its parent, which may be locked for ever there.
    private let child = AtomicLazyReference<LockTable>()
    private static let first = LockTable()

    private init() {}

    /// The table of this process.
    static var shared: LockTable {
        var table = first
        while table.processID != getpid() { table = table.child.load() ?? table.child.storeIfNil(LockTable()) }
        return table
    }

    /// Takes the lock if nobody is in the way; nil when somebody is. The file is made if it is not there.
    func take(_ path: String, exclusive: Bool) throws(StorageError) -> FileLock? {
        let key = Array(path.utf8)
        return try entries.withLock { entries throws(StorageError) in
            if var entry = entries[key] {
                if exclusive || entry.readers == 0 { return nil }
                entry.readers += 1
                entries[key] = entry
                return FileLock(path: path, table: self)
            }
            guard let descriptor = try Self.lock(path, exclusive: exclusive) else { return nil }
            entries[key] = Entry(descriptor: descriptor, readers: exclusive ? 0 : 1)
            return FileLock(path: path, table: self)
        }
    }

    private static func lock(_ path: String, exclusive: Bool) throws(StorageError) -> Int32? {
        while true {
            let descriptor = try System.check("open", path) { cs_open(path, O_RDWR | O_CREAT, 0o600) }
            let result = cs_lock_file(descriptor, exclusive ? 1 : 0, 0, nil)
            if result != 0 {
                let error = errno
                cs_close(descriptor)
                if result == 1 { return nil }
                throw .system(error, "lock", path)
            }
            var info = stat()
            // Somebody may have removed the file between open and lock: that lock would protect nothing.
            if cs_fstat(descriptor, &info) == 0, let named = try System.status(path), named.inode == UInt64(info.st_ino)
            {
                return descriptor
            }
            cs_close(descriptor)
        }
    }

    /// Lets others share what one task has had alone, without a gap.
    fileprivate func downgrade(_ path: String) throws(StorageError) {
        try entries.withLock { entries throws(StorageError) in
            let key = Array(path.utf8)
            guard let entry = entries[key], entry.readers == 0 else { return }
            try System.check("lock", path) { cs_lock_file(entry.descriptor, 0, 0, nil) == 0 ? 0 : -1 }
            entries[key]?.readers = 1
        }
    }

    /// Gives one task's part back. When that was the last one of this process and nobody else has the lock either,
    /// `last` runs with the lock held alone, and the lock file goes.
    fileprivate func giveBack(_ path: String, last: (() -> Void)?) {
        guard processID == getpid() else { return }
        let key = Array(path.utf8)
        let isLast: Bool = entries.withLock { entries in
            guard var entry = entries[key] else { return false }
            if entry.readers > 1 {
                entry.readers -= 1
                entries[key] = entry
                return false
            }
            if entry.readers == 1 {
                // Let go first: of two that leave at once, the later one then finds itself alone.
                cs_unlock_file(entry.descriptor)
                guard cs_lock_file(entry.descriptor, 1, 0, nil) == 0, Self.isNamed(entry.descriptor, path) else {
                    cs_close(entry.descriptor)
                    entries[key] = nil
                    return false
                }
                entries[key]?.readers = 0
            }
            return true
        }
        guard isLast else { return }
        last?()
        entries.withLock { entries in
            if last != nil { cs_unlink(path) }
            if let entry = entries[key] { cs_close(entry.descriptor) }
            entries[key] = nil
        }
    }

    private static func isNamed(_ descriptor: Int32, _ path: String) -> Bool {
        var info = stat()
        var named = stat()
        return cs_fstat(descriptor, &info) == 0 && cs_lstat(path, &named) == 0 && info.st_ino == named.st_ino
    }
}

/// A lock that is held until it is released or let go of. In a forked child it is nothing.
final class FileLock: Sendable {
    private let path: String
    private let table: LockTable
    private let isHeld = Flag(true)

    fileprivate init(path: String, table: LockTable) {
        self.path = path
        self.table = table
    }

    deinit { release() }

    func downgrade() throws(StorageError) { try table.downgrade(path) }

    /// `last` runs when nobody, in no process, holds the lock any longer; the lock file goes then.
    func release(last: (() -> Void)? = nil) {
        if isHeld.clear() { table.giveBack(path, last: last) }
    }
}
