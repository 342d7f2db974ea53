/// `raystorage gc`: collects what dead trainers left in a run and what can no longer become a checkpoint.
public struct GarbageCollection: Sendable {
    private let storage: Storage
    private let environment: Environment

    /// The address of a run. `storageOptions` are the storage's.
    public init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system
    ) throws(StorageError) {
        try self.init(path, storageOptions: storageOptions, environment: environment, opener: .system)
    }

    init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system, opener: Storage.Opener
    ) throws(StorageError) {
        let path = try StoragePath.resolve(path, environment: environment)
        storage = try Storage.open(path, options: storageOptions, environment: environment, opener: opener)
        self.environment = environment
    }

    /// Removes unfinished attempts and trash. Nothing of an epoch whose trainer is alive; without `now` nothing that
    /// changed within 7 days. NOT_FOUND for anything but a run of ours.
    public func run(now: Bool, dryRun: Bool, progress: Progress) async throws(StorageError) -> JSONValue {
        let address = storage.path.uri
        guard try await storage.hasRecord() else {
            throw StorageError(
                .notFound, "\(quoted(address)) is not a run of raystorage", details: [("path", .string(address))])
        }
        let backend = storage.writer(durability: .fsync, temporaryTag: "gc")
        let reader = RunReader(backend: backend)
        guard let runID = try await reader.runID() else {
            throw StorageError(.checksum, "\(quoted(address)) has no run id", details: [("path", .string(address))])
        }
        if let objects = storage.objects {
            return try await collectObjects(objects, backend, runID: runID, now: now, dryRun: dryRun, progress)
        }
        let root = storage.path.directory
        let store = FileCheckpointStore(root: root, runID: runID, durability: .fsync)
        let seen = try await reader.epochs().lastEpochNumber
        let live = try await liveEpoch(reader, backend, runID: runID, progress)
        var removed: [JSONValue] = []
        var kept: [JSONValue] = []
        func note(_ path: String, _ reason: String, _ isRemoved: Bool) throws(StorageError) {
            let entry = JSONValue.make([
                "path": .string(path), "bytes": JSONValue(try Self.bytes(path)), "reason": .string(reason),
            ])
            if isRemoved { removed.append(entry) } else { kept.append(entry) }
        }
        let unfinished = try store.unfinished()
        let clock = unfinished.isEmpty ? .unknown : try await clock(dryRun: dryRun, progress)
        for attempt in unfinished {
            try progress.checkCancelled()
            let path = store.directory(attempt)
            // A trainer that started since is alive, and so is one that took over: nothing was seen of it.
            if attempt.sequence.epoch > seen || attempt.sequence.epoch == live {
                try note(path, "its trainer is alive", false)
                continue
            }
            let age = try Leftovers.age(of: attempt, store, clock)
            let isOld = age.map { $0 >= 7 * 24 * 3600 } ?? false
            if !now, !isOld {
                let since = age.map { "changed \(Int($0)) s ago" } ?? "nobody knows when it changed"
                try note(path, "\(since): it may wait to be finished (drain), or use --now", false)
                continue
            }
            try note(path, isOld ? "unfinished for more than 7 days" : "unfinished, --now", true)
            if !dryRun { try store.abort(attempt) }
        }
        for attempt in try store.trashed() {
            let last = try await reader.epochs().lastEpochNumber
            if live != nil || last > seen {
                try note(store.path(RunLayout.trash(attempt)), "evicted; the live trainer removes it", false)
                continue
            }
            try note(store.path(RunLayout.trash(attempt)), "evicted", true)
            if !dryRun { try store.purge(attempt) }
        }
        return .make([
            "path": .string(root), "removed": .array(removed), "kept": .array(kept), "dry_run": .bool(dryRun),
        ])
    }

    private func collectObjects(
        _ objects: any ObjectStore, _ backend: any StorageBackend, runID: String, now: Bool, dryRun: Bool,
        _ progress: Progress
    ) async throws(StorageError) -> JSONValue {
        let reader = RunReader(backend: backend)
        let seen = try await reader.epochs().lastEpochNumber
        let live = try await liveEpoch(reader, backend, runID: runID, progress)
        let state = try await reader.read()
        // Its workspace may not be there; what waits in it is for drain.
        let workspace =
            (try? HostIdentity.open(nil, environment: environment))?.workspace(runID: runID) ?? "/nonexistent"
        let store = storage.checkpoints(
            runID: runID, backend: backend, workspace: workspace, durability: .fsync, epoch: nil)
        store.learn(state.decisions)
        var removed: [JSONValue] = []
        var kept: [JSONValue] = []
        func note(_ key: String, _ bytes: Int?, _ reason: String, _ isRemoved: Bool) {
            let entry = JSONValue.make([
                "path": .string(storage.path.appending(key).uri), "bytes": bytes.map { JSONValue($0) } ?? .null,
                "reason": .string(reason),
            ])
            if isRemoved { removed.append(entry) } else { kept.append(entry) }
        }
        let clock = try await clock(dryRun: dryRun, progress)
        let items = try await ObjectLeftovers(store, backend, clock, progress)?.find(state) ?? []
        for item in items {
            try progress.checkCancelled()
            // A trainer that started since is alive: nothing was seen of it.
            if let epoch = item.epoch, epoch == live || epoch > seen {
                note(item.key, item.bytes, "its trainer is alive", false)
                continue
            }
            let isOld = item.isOlder(than: 7 * 24 * 3600) || item.key.hasPrefix(RunLayout.decisions)
            if !now, !isOld {
                let changed = item.age.map { "changed \(Int($0)) s ago" } ?? "of an age that is not known"
                let reason = "\(changed): it may wait to be finished (drain), or use --now"
                note(item.key, item.bytes, "\(item.what), \(reason)", false)
                continue
            }
            note(item.key, item.bytes, item.what, true)
            if !dryRun { try await item.remove() }
        }
        for attempt in try await store.trashed() {
            guard let decision = state.decisions.first(where: { $0.decision.attempt == attempt })?.decision else {
                continue
            }
            let listing = try await objects.list(decision.physicalName + "/", delimited: false, progress: progress)
            let bytes = ByteSum.of(listing.objects.lazy.map(\.size))
            let last = try await reader.epochs().lastEpochNumber
            if live != nil || last > seen {
                note(decision.physicalName, bytes, "evicted; the live trainer removes it", false)
                continue
            }
            note(decision.physicalName, bytes, "evicted", true)
            if !dryRun { try await store.purge(attempt) }
        }
        return .make([
            "path": .string(storage.path.uri), "removed": .array(removed), "kept": .array(kept),
            "dry_run": .bool(dryRun),
        ])
    }

    /// Who only looks writes nothing: a file system cannot be asked then, and this machine's clock counts.
    private func clock(dryRun: Bool, _ progress: Progress) async throws(StorageError) -> StoreClock {
        guard let objects = storage.objects else {
            let now = environment.now()
            return dryRun
                ? StoreClock(local: now, store: now)
                : .written(to: storage.path.directory, environment: environment)
        }
        if dryRun { return try await StoreClock.asked(objects, environment: environment, progress: progress) }
        return try await StoreClock.written(to: objects, environment: environment, progress: progress)
    }

    /// The epoch of a trainer that is alive: it is in this process, or holds the lock of this host, or its heartbeat moves.
    private func liveEpoch(
        _ reader: RunReader, _ backend: any StorageBackend, runID: String, _ progress: Progress
    ) async throws(StorageError) -> Int? {
        let state = try await reader.epochs()
        guard let host = try? HostIdentity.open(nil, environment: environment) else {
            return try await liveEpoch(state, reader, backend, progress)
        }
        let isHeld = try OpenRuns.shared.probe(runID) { () throws(StorageError) in
            try ProcessLock.isHeld(host.lockPath(runID: runID))
        }
        // nil: this process has it open.
        if isHeld ?? true { return state.lastEpochNumber }
        let last = try await reader.lastRecord(state)
        if let last, last.hostID == host.id, last.bootID == host.bootID { return nil }
        return try await liveEpoch(state, reader, backend, progress)
    }

    /// By its heartbeat alone.
    private func liveEpoch(
        _ state: RunState, _ reader: RunReader, _ backend: any StorageBackend, _ progress: Progress
    ) async throws(StorageError) -> Int? {
        guard let last = try await reader.lastRecord(state), !state.closedEpochs.contains(last.number) else {
            return nil
        }
        let isAlive = try await Hold.isAlive(
            last, backend: backend, environment: environment, engine: Engine.shared, progress: progress)
        return isAlive ? last.number : nil
    }

    static func bytes(_ path: String) throws(StorageError) -> Int {
        guard let status = try System.status(path) else { return 0 }
        guard status.kind == .directory else { return status.size }
        var sum = 0
        for name in try System.list(path) { sum = ByteSum.of([sum, try bytes(Path.join(path, name))]) }
        return sum
    }
}
