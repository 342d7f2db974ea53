internal import Glibc

extension Manifest {
    /// Reads the manifest of a checkpoint's directory; nil when there is none.
    static func read(directory: String) throws(StorageError) -> Manifest? {
        let path = Path.join(directory, RunLayout.manifest)
        guard let file = try open(path) else { return nil }
        return try parse(try file.readAll(limit: maximumBytes), path: path)
    }

    private static func open(_ path: String) throws(StorageError) -> OpenFile? {
        do throws(StorageError) { return try OpenFile(path, O_RDONLY | O_NOFOLLOW) } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }
}

extension Seal {
    /// Writes the manifest into a sealed directory: complete or absent, never replaced. Writing the same one again is
    /// no error; another one is ALREADY_EXISTS.
    static func writeManifest(
        _ manifest: Manifest, directory: String, durability: Durability
    ) throws(StorageError) {
        let folder = Path.join(directory, FileTree.ownName)
        let path = Path.join(directory, RunLayout.manifest)
        let bytes = manifest.document
        if try !System.makeDirectory(folder) { try removeLeftovers(folder) }
        let temporary = Path.join(folder, ".manifest-\(Environment.system.randomHex(8)).tmp")
        do throws(StorageError) {
            let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL)
            try file.write(bytes)
            if durability == .fsync { try file.sync() }
            try file.close()
            try publish(temporary, path)
        } catch {
            _ = unlink(temporary)
            // Network file systems repeat requests: what stands there tells, not what the call said.
            if try !holds(path, bytes) {
                if error.code != .alreadyExists { throw error }
                throw StorageError(
                    .alreadyExists, "another manifest stands at \(quoted(path))", details: [("path", .string(path))])
            }
        }
        guard durability == .fsync else { return }
        try System.syncDirectory(folder)
        try System.syncDirectory(directory)
        try System.syncDirectory(Path.parent(directory))
    }

    /// Of a process that died while it wrote.
    private static func removeLeftovers(_ folder: String) throws(StorageError) {
        for name in try System.list(folder) where name.hasPrefix(".manifest-") && name.hasSuffix(".tmp") {
            try System.unlink(Path.join(folder, name))
        }
    }

    /// Gives the finished file its name, unless the name is taken.
    private static func publish(_ temporary: String, _ path: String) throws(StorageError) {
        if link(temporary, path) == 0 {
            try System.unlink(temporary)
            return
        }
        let error = errno
        guard error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK else {
            throw .system(error, "link", path)
        }
        // No hard links there. The directory is this attempt's own, so nothing comes between look and rename.
        if try System.exists(path) { throw .system(EEXIST, "link", path) }
        try System.rename(temporary, to: path)
    }

    private static func holds(_ path: String, _ bytes: [UInt8]) throws(StorageError) -> Bool {
        guard try System.exists(path) else { return false }
        return try OpenFile(path, O_RDONLY | O_NOFOLLOW).readAll(limit: Manifest.maximumBytes) == bytes
    }
}
