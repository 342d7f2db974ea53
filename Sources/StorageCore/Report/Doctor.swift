internal import CStorage
internal import Glibc

/// `raystorage doctor`: tries, in a directory of its own that it removes again, each thing that a run needs.
public struct Doctor: Sendable {
    private let root: String
    private let storage: Storage
    private let environment: Environment
    private let bytesForSpeed = 64 << 20

    /// A storage path; it is made when it does not exist, as a run would.
    public init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system
    ) throws(StorageError) {
        let path = try StoragePath.resolve(path, environment: environment)
        storage = try Storage.open(
            path, options: storageOptions, patience: .examining, environment: environment)
        root = path.directory
        self.environment = environment
    }

    /// The document of `raystorage_path_doctor_start`.
    public func run(progress: Progress) async throws(StorageError) -> JSONValue {
        if let objects = storage.objects {
            return try await StoreDoctor(store: objects, environment: environment, engine: .shared).run(
                progress: progress)
        }
        let checks = DoctorChecks()
        let probe = Path.join(root, ".raystorage-doctor-\(environment.randomHex(8))")
        let backend = LocalBackend(root: probe, durability: .fsync, temporaryTag: "doctor", environment: environment)
        var made: [String] = []
        await checks.check("write") { () throws(StorageError) in
            made = try System.makeDirectories(probe)
            return "can create directories below \(quoted(root))"
        }
        if checks.isFine {
            await checks.check("create-only") { () async throws(StorageError) in
                guard try await backend.create("record", [1]), try await !backend.create("record", [2]) else {
                    throw StorageError(.precondition, "a second creation of one name was not refused")
                }
                return "a name can be created once"
            }
            await checks.check("rename") { () throws(StorageError) in try renameDirectories(probe) }
            await checks.check("read and list") { () async throws(StorageError) in
                guard try await backend.read("record", limit: 10)?.bytes == [1],
                    try await backend.list("").contains("record")
                else { throw StorageError(.precondition, "what was written is not there") }
                return "what was written is there"
            }
            await checks.check("speed") { () throws(StorageError) in try speed(probe, progress) }
            await checks.check("delete") { () throws(StorageError) in
                try System.removeTree(probe)
                return "can delete"
            }
            await checks.check("space") { () throws(StorageError) in
                let free = try System.freeBytes(root)
                if free < 1 << 30 {
                    throw StorageError(.noSpace, "only \(free >> 20) MiB are free at \(quoted(root))")
                }
                return "\(free >> 30) GiB are free"
            }
        }
        await checks.check("file system") { () throws(StorageError) in
            let kind = FileSystemKind.isNetwork(root) ? "network" : "local"
            return "\(kind) file system (type 0x\(String(cs_filesystem_type(root), radix: 16)))"
        }
        await checks.check("staging directory") { () throws(StorageError) in try StagingCheck.run(environment) }
        try? System.removeTree(probe)
        for directory in made.dropLast().reversed() { _ = cs_rmdir(directory) }
        return checks.document(path: root)
    }

    private func renameDirectories(_ probe: String) throws(StorageError) -> String {
        let (source, target) = (Path.join(probe, "a"), Path.join(probe, "b"))
        try System.makeDirectory(source)
        try System.makeDirectory(Path.join(source, "inside"))
        let refusesToReplace = cs_rename_noreplace(source, target) == 0
        if !refusesToReplace { try System.rename(source, to: target) }
        guard try System.status(Path.join(target, "inside")) != nil else {
            throw StorageError(.precondition, "a renamed directory lost its content")
        }
        return refusesToReplace
            ? "directories are renamed in one step, RENAME_NOREPLACE is known"
            : "directories are renamed in one step; RENAME_NOREPLACE is not known, plain rename is used"
    }

    private func speed(_ probe: String, _ progress: Progress) throws(StorageError) -> String {
        let file = try OpenFile(Path.join(probe, "speed"), O_WRONLY | O_CREAT | O_EXCL)
        let block = [UInt8](repeating: 0xA5, count: 1 << 20)
        let start = cs_monotonic_ns()
        for _ in 0..<(bytesForSpeed >> 20) {
            try progress.checkCancelled()
            try file.write(block)
        }
        try file.sync()
        try file.close()
        let seconds = Double(cs_monotonic_ns() - start) / 1e9
        return "\(Int(Double(bytesForSpeed >> 20) / max(seconds, 1e-9))) MiB/s, written and fsynced by one thread"
    }
}
