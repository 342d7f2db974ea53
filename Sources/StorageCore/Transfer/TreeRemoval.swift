internal import CStorage
internal import Glibc

/// Removes trees of any depth and size: level by level instead of by recursion. Links are removed and not followed,
/// and names may be any bytes.
enum TreeRemoval {
    /// Removes a file or tree; nothing there is no error.
    static func remove(_ path: String) throws(StorageError) {
        guard let status = try System.status(path) else { return }
        guard status.kind == .directory else {
            try System.unlink(path)
            return
        }
        if status.mode & 0o700 != 0o700 { _ = cs_chmod(path, mode_t(status.mode | 0o700)) }
        try removeContents(of: try RootDirectory(path, followLink: false))
        do throws(StorageError) {
            try System.check("rmdir", path) { cs_rmdir(path) }
        } catch {
            if error.code != .notFound { throw error }
        }
    }

    /// Removes what lies below the root, and leaves the root.
    static func removeContents(of root: RootDirectory) throws(StorageError) {
        // Paths below the root as C has them: bytes with a zero at the end.
        var directories: [[UInt8]] = [[0]]
        var next = 0
        while next < directories.count {
            let directory = directories[next]
            next += 1
            for path in try paths(root, directory) where try !isUnlinked(root, path) { directories.append(path) }
        }
        for directory in directories.dropFirst().reversed() {
            try call("rmdir", root, directory) { cs_unlinkat(root.descriptor, $0, AT_REMOVEDIR) }
        }
    }

    private static func paths(_ root: RootDirectory, _ directory: [UInt8]) throws(StorageError) -> [[UInt8]] {
        let isRoot = directory.count == 1
        let target: [UInt8] = isRoot ? [UInt8(ascii: "."), 0] : directory
        // A directory that its owner may not write to can still be emptied by its owner.
        if !isRoot, geteuid() != 0 { try call("chmod", root, directory) { cs_fchmodat(root.descriptor, $0, 0o700, 0) } }
        var number: Int32 = -1
        try call("open", root, target) { path in
            number = cs_openat(root.descriptor, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
            return number
        }
        // Removed by somebody else meanwhile.
        if number == -1 { return [] }
        var found: [[UInt8]] = []
        try RootDirectory.forEachName(in: Descriptor(number), { text(root, directory) }) { name in
            found.append(isRoot ? name + [0] : directory.dropLast() + [UInt8(ascii: "/")] + name + [0])
        }
        return found
    }

    /// False for a directory.
    private static func isUnlinked(_ root: RootDirectory, _ path: [UInt8]) throws(StorageError) -> Bool {
        do throws(StorageError) {
            try call("unlink", root, path) { cs_unlinkat(root.descriptor, $0, 0) }
            return true
        } catch {
            // EISDIR on Linux, EPERM elsewhere.
            var info = stat()
            try call("stat", root, path) { cs_fstatat(root.descriptor, $0, &info, AT_SYMLINK_NOFOLLOW) }
            if info.st_mode & S_IFMT != S_IFDIR { throw error }
            return false
        }
    }

    /// Repeats while interrupted; what is gone already is no error.
    private static func call(
        _ operation: String, _ root: RootDirectory, _ path: [UInt8], _ body: (UnsafePointer<CChar>) -> Int32
    ) throws(StorageError) {
        let error: Int32 = path.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return 0 }
            while body(start.assumingMemoryBound(to: CChar.self)) == -1 {
                if errno != EINTR { return errno }
            }
            return 0
        }
        if error != 0, error != ENOENT { throw .system(error, operation, text(root, path)) }
    }

    private static func text(_ root: RootDirectory, _ path: [UInt8]) -> String {
        root.full(String(decoding: path.dropLast(), as: UTF8.self))
    }
}
