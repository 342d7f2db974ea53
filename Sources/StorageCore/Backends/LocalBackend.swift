internal import CStorage
internal import Glibc

/// A directory on a local disk or a network file system.
struct LocalBackend: StorageBackend {
    /// Where unfinished small files lie, below the root.
    static let temporaryPrefix = ".raystorage/tmp"

    let root: String
    let durability: Durability
    /// Starts the names of this host's temporary files, so that each host collects only its own.
    let temporaryTag: String
    let environment: Environment

    let capabilities = BackendCapabilities(renamesDirectories: true, replacesConditionally: false)

    func read(_ key: String, limit: Int) async throws(StorageError) -> StoredObject? {
        do throws(StorageError) {
            let file = try OpenFile(path(key), O_RDONLY)
            return StoredObject(bytes: try file.readAll(limit: limit), version: "")
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }

    func create(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool {
        let target = path(key)
        // O_EXCL and then writing would leave an empty record when killed in between; link(2) cannot.
        let temporary = try writeTemporary(bytes, for: target)
        let identity = try System.status(temporary)
        do throws(StorageError) {
            try link(temporary, to: target)
        } catch {
            // NFS repeats requests: the error may be the echo of our own success. Look at what is there.
            let there = try? System.status(target)
            _ = try? System.unlink(temporary)
            if let there, there.inode == identity?.inode, there.device == identity?.device {
                try syncParent(of: target)
                return true
            }
            guard error.code == .alreadyExists else { throw error }
            return try await read(key, limit: 64 << 20)?.bytes == bytes
        }
        try syncParent(of: target)
        try System.unlink(temporary)
        return true
    }

    /// Some file systems (exFAT, a few FUSE ones) have no hard links: a rename that refuses to replace does it too.
    private func link(_ temporary: String, to target: String) throws(StorageError) {
        do throws(StorageError) {
            try System.check("link", target) { cs_link(temporary, target) }
        } catch {
            guard let number = error.errorNumber, [EPERM, EOPNOTSUPP, ENOSYS].contains(number) else { throw error }
            try System.check("rename", target) { cs_rename_noreplace(temporary, target) }
        }
    }

    func replace(_ key: String, _ bytes: [UInt8], ifVersion: String?) async throws(StorageError) -> Bool {
        let target = path(key)
        let temporary = try writeTemporary(bytes, for: target)
        do throws(StorageError) {
            try System.rename(temporary, to: target)
        } catch {
            _ = try? System.unlink(temporary)
            throw error
        }
        try syncParent(of: target)
        return true
    }

    func post(_ key: String, _ bytes: [UInt8]) async throws(StorageError) {
        let file = try OpenFile(path(key), O_WRONLY | O_CREAT)
        try System.check("pwrite", file.path) {
            bytes.withUnsafeBytes { cs_pwrite(file.descriptor, $0.baseAddress, $0.count, 0) }
        }
        try System.check("ftruncate", file.path) { cs_ftruncate(file.descriptor, off_t(bytes.count)) }
        try file.close()
    }

    func list(_ prefix: String) async throws(StorageError) -> [String] {
        let directory = prefix.isEmpty ? root : path(Path.withoutSlash(prefix))
        do throws(StorageError) {
            var names: [String] = []
            for entry in try System.entries(directory) {
                var isDirectory = entry.isDirectory
                if isDirectory == nil {
                    isDirectory = try System.status(Path.join(directory, entry.name))?.kind == .directory
                }
                names.append(isDirectory == true ? entry.name + "/" : entry.name)
            }
            return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        } catch {
            if error.code == .notFound { return [] }
            throw error
        }
    }

    func delete(_ key: String) async throws(StorageError) -> Bool { try System.unlink(path(key)) }

    private func writeTemporary(_ bytes: [UInt8], for target: String) throws(StorageError) -> String {
        let name = "\(temporaryTag)-\(environment.randomHex(8))"
        let temporary = Path.join(path(Self.temporaryPrefix), name)
        for made in try System.makeDirectories(path(Self.temporaryPrefix)) + System.makeDirectories(Path.parent(target))
        {
            // A record is only as durable as the directories above it.
            try syncParent(of: made)
        }
        do throws(StorageError) {
            let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL)
            try file.write(bytes)
            if durability == .fsync { try file.sync() }
            try file.close()
        } catch {
            _ = try? System.unlink(temporary)
            throw error
        }
        return temporary
    }

    private func syncParent(of target: String) throws(StorageError) {
        if durability == .fsync { try System.syncDirectory(Path.parent(target)) }
    }
}

extension StorageError {
    /// The errno of a failed system call.
    var errorNumber: Int32? { detailsDocument["errno"]?.intValue.map { Int32(truncatingIfNeeded: $0) } }
}
