/// What a storage path stands for: how its records are reached, and on a store its objects. Plans are made from
/// capabilities; nothing above asks what kind of storage it is.
struct Storage: Sendable {
    let path: StoragePath
    /// At the path.
    let backend: any StorageBackend
    /// At the path; nil on a file system.
    let objects: (any ObjectStore)?
    private let bucket: (any ObjectStore)?
    private let environment: Environment
    private let progress: Progress

    /// How storages are opened: the makers of stores, tests' own among them.
    struct Opener: Sendable {
        /// Opens the whole bucket of a path. `options` are `storage_options`; what they name wins over the path's query.
        var objectStore:
            @Sendable (
                _ path: StoragePath, _ options: JSONValue?, _ patience: StorePatience, _ environment: Environment
            ) throws(StorageError) -> any ObjectStore

        static let system = Opener { path, options, patience, environment throws(StorageError) in
            if path.scheme == .s3 {
                let relay = TroubleRelay()
                let store = try S3Store.open(
                    bucket: path.bucket, prefix: "", probesBelow: path.directory,
                    query: path.query.map { (key: $0.key, value: $0.value) }, storageOptions: options,
                    patience: patience, environment: environment, onTrouble: { relay.tell($0) })
                relay.lead(to: .shared(store))
                return store
            }
            throw StorageError(
                .notSupported, "\(path.scheme.rawValue):// storage is not supported yet; use a directory or s3://",
                details: [
                    ("name", "storage_path"), ("value", .string(path.uri)),
                    ("allowed", "an absolute path, ~/path, file:///path or s3://bucket/prefix"),
                ])
        }
    }

    /// Opens a path. Nothing is asked of the storage yet. Cancelling `progress` ends what is asked of a store.
    static func open(
        _ path: StoragePath, options: JSONValue? = nil,
        patience: StorePatience = StorePatience(retryMilliseconds: RunOptions().retryTimeoutMilliseconds),
        environment: Environment, opener: Opener = .system, progress: Progress = Progress()
    ) throws(StorageError) -> Storage {
        guard path.scheme != .file else {
            try refuseOptions(options)
            return Storage(path, bucket: nil, environment, progress)
        }
        return Storage(
            path, bucket: try opener.objectStore(path, options, patience, environment), environment,
            progress)
    }

    private init(_ path: StoragePath, bucket: (any ObjectStore)?, _ environment: Environment, _ progress: Progress) {
        self.path = path
        self.bucket = bucket
        self.environment = environment
        self.progress = progress
        guard let bucket else {
            objects = nil
            backend = LocalBackend(
                root: path.directory, durability: .none, temporaryTag: "", environment: environment)
            return
        }
        let objects = ObjectStoreView(bucket, path.directory)
        self.objects = objects
        backend = ObjectBackend(objects, environment: environment, progress: progress)
    }

    /// The same for those who write.
    func writer(durability: Durability, temporaryTag: String) -> any StorageBackend {
        guard objects == nil else { return backend }
        return LocalBackend(
            root: path.directory, durability: durability, temporaryTag: temporaryTag, environment: environment)
    }

    /// Another place in the same bucket or file system.
    func at(_ directory: String) -> Storage {
        let place = StoragePath(
            scheme: path.scheme, directory: directory, bucket: path.bucket, query: path.query)
        return Storage(place, bucket: bucket, environment, progress)
    }

    /// Places that lie around this one, innermost first.
    var ancestors: [Storage] {
        var ancestors: [Storage] = []
        var directory = path.directory
        while !directory.isEmpty, directory != "/" {
            let parent = Path.parent(directory)
            directory = parent == "." ? "" : parent
            ancestors.append(at(directory))
        }
        return ancestors
    }

    /// Whether there is a run of ours at this path.
    func hasRecord() async throws(StorageError) -> Bool {
        guard objects == nil else { return try await backend.read(RunLayout.record, limit: 1 << 20) != nil }
        return try System.status(Path.join(path.directory, RunLayout.record)) != nil
    }

    /// Whether there is a run of ours or of Ray's at this path.
    func isRun() async throws(StorageError) -> Bool {
        guard objects == nil else {
            let names = try await backend.list("")
            if names.contains(where: Self.ofRuns.contains) { return true }
            // Checkpoints have such a folder, too.
            guard names.contains(RunLayout.own + "/") else { return false }
            return try await hasRecord()
        }
        for key in Self.ofRuns {
            if try System.status(Path.join(path.directory, key)) != nil { return true }
        }
        return try await hasRecord()
    }

    /// Whether names at the top are of a run of Ray's. Other tools write results, too, but no checkpoints beside them.
    static func isRayRun(_ names: some Sequence<String>) -> Bool {
        let names = Array(names)
        if names.contains(RunLayout.snapshot) { return true }
        return names.contains(where: ofRuns.contains) && names.contains { $0.hasPrefix("checkpoint_") }
    }

    /// A run where a checkpoint was asked for: as plain files it would bring along every attempt, whole or not (P1).
    func isNoCheckpoint() -> StorageError {
        let example = path.appending("<checkpoint_dir_name>").directory
        let shown = path.scheme == .file ? example : "\(path.scheme.rawValue)://\(path.bucket)/\(example)"
        return StorageError(
            .invalidArgument,
            "\(quoted(path.uri)) is a run and no checkpoint: name one of its checkpoints, as in \(quoted(shown));"
                + " `raystorage ls` lists them",
            details: [("path", .string(path.uri)), ("allowed", .string(shown))])
    }

    /// What lies in runs, of ours or of Ray's, and in no checkpoint.
    private static let ofRuns = [RunLayout.snapshot, RunLayout.results, RunLayout.progress]

    /// A file system takes no options; one that is ignored in silence would be a setting that somebody relies on.
    private static func refuseOptions(_ options: JSONValue?) throws(StorageError) {
        guard let options, options != .null else { return }
        guard let members = options.objectValue else {
            throw StorageError(
                .invalidArgument, "storage_options must be a JSON object", details: [("name", "storage_options")])
        }
        guard let key = members.first?.key else { return }
        throw StorageError(
            .invalidArgument, "storage_options: unknown key \(JSONValue.string(key).compact); local paths take none",
            details: [("name", "storage_options"), ("key", .string(key)), ("allowed", .array([]))])
    }

    /// The checkpoints of a run at this path. `workspace` is where its reports are captured when it is on a store.
    func checkpoints(
        runID: String, backend: any StorageBackend, workspace: String, durability: Durability, epoch: Int?,
        inflightBytes: Int? = nil
    ) -> any CheckpointStore {
        guard let objects else {
            return FileCheckpointStore(root: path.directory, runID: runID, durability: durability)
        }
        return ObjectCheckpointStore(
            runID: runID, objects: objects, backend: backend, workspace: workspace, durability: durability,
            epoch: epoch, inflightBytes: inflightBytes, address: { [path] name in path.appending(name).uri })
    }
}
