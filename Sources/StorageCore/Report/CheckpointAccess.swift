internal import Glibc

/// What can be done with one checkpoint by its address, without an open run.
public struct CheckpointAccess: Sendable {
    let directory: String
    private let storage: Storage
    /// On an object store.
    private let remote: ObjectCheckpointAccess?

    /// Finds it; `file://` URIs and `~` are understood. NOT_FOUND says when it is one that was evicted. `storageOptions` are
    /// the storage's.
    public init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system
    ) throws(StorageError) {
        try self.init(path, storageOptions: storageOptions, environment: environment, opener: .system)
    }

    init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system, opener: Storage.Opener
    ) throws(StorageError) {
        let path = try StoragePath.resolve(path, environment: environment)
        let storage = try Storage.open(path, options: storageOptions, environment: environment, opener: opener)
        directory = path.directory
        self.storage = storage
        remote = storage.objects.map {
            ObjectCheckpointAccess(storage: storage, objects: $0, environment: environment)
        }
    }

    private func absent() -> StorageError {
        let isInRun = (try? System.status(Path.join(Path.parent(directory), RunLayout.record))) != nil
        return StorageError(
            .notFound,
            isInRun
                ? "the checkpoint \(quoted(directory)) does not exist (any more): it was evicted or never committed"
                : "there is no checkpoint at \(quoted(directory))",
            details: [("path", .string(directory))])
    }

    /// Reads while eviction waits. A trainer elsewhere does not wait: what it evicts meanwhile is not found, rather than
    /// damaged.
    private func reading<Value>(
        _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        try await Pins.holding(directory) { () async throws(StorageError) -> Value in
            do throws(StorageError) { return try await body() } catch {
                if try System.statusFollowing(directory) == nil { throw absent() }
                throw error
            }
        }
    }

    private func checkExists() throws(StorageError) {
        guard let status = try System.statusFollowing(directory) else { throw absent() }
        guard status.kind == .directory else {
            throw StorageError(
                .invalidArgument, "\(quoted(directory)) is not a directory", details: [("path", .string(directory))])
        }
        // A dead trainer's half of a checkpoint is never handed out (P1).
        let parent = Path.parent(directory)
        let isHidden = [RunLayout.attempts, RunLayout.trash].contains { parent.hasSuffix("/\($0)") }
        if isHidden, try System.status(Path.join(Path.parent(Path.parent(parent)), RunLayout.record)) != nil {
            throw StorageError(
                .notFound, "\(quoted(directory)) is not committed", details: [("path", .string(directory))])
        }
        if try System.status(Path.join(directory, RunLayout.manifest)) == nil, try isRun() {
            throw storage.isNoCheckpoint()
        }
    }

    private func isRun() throws(StorageError) -> Bool {
        for mark in [RunLayout.record, RunLayout.snapshot] {
            if try System.status(Path.join(directory, mark)) != nil { return true }
        }
        // As Ray's of old: only where there is a sign of one all names are looked at.
        for mark in [RunLayout.results, RunLayout.progress] {
            if try System.status(Path.join(directory, mark)) != nil {
                return Storage.isRayRun(try System.list(directory))
            }
        }
        return false
    }

    /// The manifest, if it counts here: a manifest of another place (a copy) makes the files `unverified` until every CRC
    /// was looked at, but is still what they must be equal to.
    func manifest() throws(StorageError) -> Manifest? {
        try checkExists()
        if let manifest = try Manifest.read(directory: directory) { return manifest }
        let run = Path.parent(directory)
        guard try System.status(Path.join(run, RunLayout.record)) != nil,
            let claim = try Ownership.claim(on: Path.name(directory), root: run)
        else { return nil }
        // Ours, and not whole: never handed out as somebody's plain files (P1).
        throw StorageError(
            claim.wasCommitted ? .checksum : .notFound,
            "\(quoted(directory)) has no manifest: it is \(claim.wasCommitted ? "damaged" : "not committed")",
            details: [("path", .string(directory))])
    }

    /// The manifest document.
    public func manifestDocument(progress: Progress) async throws(StorageError) -> JSONValue {
        if let remote { return try await remote.manifestDocument(progress) }
        try checkExists()
        let path = Path.join(directory, RunLayout.manifest)
        guard try System.status(path) != nil else {
            throw StorageError(
                .notFound, "\(quoted(directory)) has no manifest: it was not written by raystorage",
                details: [("path", .string(directory))])
        }
        let bytes = try OpenFile(path, O_RDONLY).readAll(limit: Manifest.maximumBytes)
        return try JSONDocument.parse(bytes, path: path)
    }

    /// Restores it, or some files of it; see `raystorage_checkpoint_download_files_start`.
    public func download(
        _ selection: FileSelection? = nil, to destination: String, verify: Bool, progress: Progress
    ) async throws(StorageError) -> JSONValue {
        if let remote {
            return try await remote.download(selection, to: destination, verify: verify, progress: progress)
        }
        let manifest = try manifest()
        return try await reading { () async throws(StorageError) -> JSONValue in
            let result = try await Restore.run(
                from: directory, manifest: manifest, selection: selection, to: destination, verify: verify,
                progress: progress)
            return .make([
                "path": .string(result.path), "files": JSONValue(result.fileCount), "bytes": JSONValue(result.bytes),
                "verified": .bool(result.verified),
            ])
        }
    }

    /// A directory to read the files in, until the lease is released; see `raystorage_checkpoint_acquire_start`.
    public func acquire(
        stagingDirectory: String?, environment: Environment = .system, progress: Progress
    ) async throws(StorageError) -> JSONValue {
        if let remote { return try await remote.acquire(stagingDirectory: stagingDirectory, progress: progress) }
        let pins = Pins.shared
        pins.pin(directory)
        do throws(StorageError) {
            var path = directory
            var lease: NodeCache.Lease?
            if let manifest = try manifest() {
                let host = try HostIdentity.open(stagingDirectory, environment: environment)
                let taken = try await NodeCache(staging: host.directory)
                    .acquire(directory, manifest: manifest, progress: progress)
                lease = taken
                path = taken.path
                if path.utf8.elementsEqual(directory.utf8) {
                    try await VerifiedRecords(staging: host.directory)
                        .ensure(directory: directory, manifest: manifest, progress: progress)
                }
            }
            let id = Leases.shared.add(environment) { [directory, lease] in
                lease?.release()
                pins.unpin(directory)
            }
            return .make(["path": .string(path), "lease": .string(id)])
        } catch {
            pins.unpin(directory)
            throw error
        }
    }

    /// Reads every byte; see `raystorage_checkpoint_verify_start`.
    public func verify(progress: Progress) async throws(StorageError) -> JSONValue {
        if let remote { return try await remote.verify(progress) }
        let manifest: Manifest?
        do throws(StorageError) { manifest = try self.manifest() } catch {
            guard error.code == .checksum else { throw error }
            return document(problems: [(".raystorage/manifest.json", error.message)], manifest: nil, verified: true)
        }
        guard let manifest else { return document(problems: [], manifest: nil, verified: false) }
        return try await reading { () async throws(StorageError) -> JSONValue in
            let report = try await Verify.run(directory: directory, manifest: manifest, progress: progress)
            if !report.isGood, try System.statusFollowing(directory) == nil { throw absent() }
            return document(
                problems: report.problems.map { ($0.path, $0.message) }, manifest: manifest, verified: true)
        }
    }

    private func document(problems: [(String, String)], manifest: Manifest?, verified: Bool) -> JSONValue {
        .make([
            "path": .string(directory), "ok": .bool(problems.isEmpty), "verified": .bool(verified),
            "files": manifest.map { JSONValue($0.fileCount) } ?? .null,
            "bytes": manifest.map { JSONValue($0.bytes) } ?? .null,
            "problems": .array(problems.map { .make(["file": .string($0.0), "problem": .string($0.1)]) }),
        ])
    }

    // MARK: - Metadata

    /// The user's metadata; `{}` when none was set.
    public func metadata(progress: Progress) async throws(StorageError) -> JSONValue {
        if let remote { return try await remote.metadata(progress) }
        try checkExists()
        let path = Path.join(directory, RunLayout.metadata)
        guard try System.statusFollowing(path) != nil else { return .object([]) }
        return try JSONDocument.parse(try OpenFile(path, O_RDONLY).readAll(limit: 64 << 20), path: path)
    }

    /// Replaces the user's metadata: readers see the old or the new.
    public func setMetadata(
        _ json: String, environment: Environment = .system, progress: Progress
    ) async throws(StorageError) {
        if remote == nil { try checkExists() }
        let document = try JSONDocument.parse(Array(json.utf8), path: "metadata", code: .invalidArgument)
        guard document.objectValue != nil else {
            throw StorageError(
                .invalidArgument, "metadata must be a JSON object",
                details: [("name", "metadata"), ("allowed", "an object")])
        }
        if let remote { return try await remote.setMetadata(document, progress) }
        let path = Path.join(directory, RunLayout.metadata)
        let temporary = "\(path).\(environment.randomHex(8)).tmp"
        do throws(StorageError) {
            let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL)
            try file.write(document.compactBytes)
            try file.sync()
            try file.close()
            try System.rename(temporary, to: path)
        } catch {
            _ = try? System.unlink(temporary)
            throw error
        }
        try System.syncDirectory(directory)
    }
}

/// Parsing with an error that names the file.
enum JSONDocument {
    static func parse(
        _ bytes: [UInt8], path: String, code: StorageError.Code = .checksum
    ) throws(StorageError) -> JSONValue {
        do throws(JSONSyntaxError) { return try JSONParser.parse(bytes) } catch {
            throw StorageError(
                code, "\(quoted(path)) is not JSON: expected \(error.reason) at byte \(error.offset)",
                details: [("path", .string(path)), ("offset", JSONValue(error.offset))])
        }
    }
}
