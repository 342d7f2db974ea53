internal import Glibc

/// Removes trees of any depth and size: level by level instead of by recursion, links are removed and not followed.
enum TreeRemoval {
    /// Removes what lies below the root, and leaves the root.
    static func removeContents(of root: RootDirectory, except kept: Set<String> = []) throws(StorageError) {
        var directories: [String] = []
        var next = 0
        var pending = [""]
        while next < pending.count {
            let directory = pending[next]
            next += 1
            guard let names = try names(root, directory) else { continue }
            if !directory.isEmpty { directories.append(directory) }
            for name in names where !directory.isEmpty || !kept.contains(name) {
                let path = directory.isEmpty ? name : "\(directory)/\(name)"
                if try !isRemoved(root, path) { pending.append(path) }
            }
        }
        for directory in directories.reversed() { try root.unlink(directory, isDirectory: true) }
    }

    /// Removes a file or tree; nothing there is no error.
    static func remove(_ path: String) throws(StorageError) {
        guard let status = try System.status(path) else { return }
        guard status.kind == .directory else {
            try System.unlink(path)
            return
        }
        if status.mode & 0o700 != 0o700 { _ = chmod(path, mode_t(status.mode | 0o700)) }
        try removeContents(of: try RootDirectory(path, followLink: false))
        do throws(StorageError) {
            try System.check("rmdir", path) { rmdir(path) }
        } catch {
            if error.code != .notFound { throw error }
        }
    }

    /// False for a directory.
    private static func isRemoved(_ root: RootDirectory, _ path: String) throws(StorageError) -> Bool {
        do throws(StorageError) {
            try root.unlink(path)
            return true
        } catch {
            // EISDIR on Linux; EPERM elsewhere, and EACCES when the directory's mode hides which.
            guard let status = try root.status(path), status.kind == .directory else { throw error }
            return false
        }
    }

    private static func names(_ root: RootDirectory, _ directory: String) throws(StorageError) -> [String]? {
        // A directory that its owner may not write to can still be emptied by its owner.
        if !directory.isEmpty, let status = try root.status(directory), status.mode & 0o700 != 0o700 {
            try root.setMode(directory, status.mode | 0o700)
        }
        do throws(StorageError) {
            return try FileTree.names(root, directory, rules: .asFound)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }
}
