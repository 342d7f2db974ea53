internal import CStorage
internal import Glibc

extension Manifest {
    /// Reads the manifest of a checkpoint's directory; nil when there is none.
    static func read(directory: String) throws(StorageError) -> Manifest? {
        let path = Path.join(directory, RunLayout.manifest)
        guard let file = try open(path) else { return nil }
        return try parse(try file.readAll(limit: maximumBytes), path: path)
    }

    /// The one that a dead process had prepared before it began to fsync; nil when it had not got so far.
    static func readPrepared(directory: String) throws(StorageError) -> Manifest? {
        let path = Path.join(directory, RunLayout.sealing)
        guard let bytes = try open(path)?.readAll(limit: maximumBytes) else { return nil }
        // Torn: the process died while it wrote it, and that comes before the first fsync.
        return try? parse(bytes, path: path)
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
        try publishManifest(
            try prepareManifest(manifest, directory: directory), directory: directory, durability: durability)
    }

    /// Writes it where it does not count yet, to be called before anything is fsynced. Returns its bytes.
    static func prepareManifest(_ manifest: Manifest, directory: String) throws(StorageError) -> [UInt8] {
        let bytes = manifest.document
        try System.makeDirectory(Path.join(directory, FileTree.ownName))
        let file = try OpenFile(Path.join(directory, RunLayout.sealing), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW)
        try file.write(bytes)
        try file.close()
        return bytes
    }

    /// Makes what was prepared the manifest. After an error it stays prepared: it says that fsyncs may have failed.
    static func publishManifest(_ bytes: [UInt8], directory: String, durability: Durability) throws(StorageError) {
        let prepared = Path.join(directory, RunLayout.sealing)
        let path = Path.join(directory, RunLayout.manifest)
        do throws(StorageError) {
            let file = try OpenFile(prepared, O_RDWR | O_NOFOLLOW)
            if durability == .fsync { try file.sync() }
            try file.close()
            try publish(prepared, path)
        } catch {
            // Network file systems repeat requests: what stands there tells, not what the call said.
            if try !holds(path, bytes) {
                if error.code != .alreadyExists { throw error }
                throw StorageError(
                    .alreadyExists, "another manifest stands at \(quoted(path))", details: [("path", .string(path))])
            }
            _ = try System.unlink(prepared)
        }
        guard durability == .fsync else { return }
        try System.syncDirectory(Path.join(directory, FileTree.ownName))
        try System.syncDirectory(directory)
        try System.syncDirectory(Path.parent(directory))
    }

    /// Gives the finished file its name, unless the name is taken.
    private static func publish(_ temporary: String, _ path: String) throws(StorageError) {
        if cs_link(temporary, path) == 0 {
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
