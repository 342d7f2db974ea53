/// `raystorage gc`: collects what dead trainers left in a run and what can no longer become a checkpoint.
public struct GarbageCollection: Sendable {
    private let root: String
    private let environment: Environment

    /// A run of ours; NOT_FOUND for anything else.
    public init(_ path: String, environment: Environment = .system) throws(StorageError) {
        let storage = try StoragePath.resolve(path, environment: environment)
        try storage.requireSupported()
        root = storage.directory
        self.environment = environment
        guard try System.status(Path.join(root, RunLayout.record)) != nil else {
            throw StorageError(
                .notFound, "\(quoted(root)) is not a run of raystorage", details: [("path", .string(root))])
        }
    }

    /// Removes unfinished attempts and trash. Nothing of an epoch whose trainer is alive; without `now` nothing that
    /// changed within 7 days.
    public func run(now: Bool, dryRun: Bool, progress: Progress) async throws(StorageError) -> JSONValue {
        let backend = LocalBackend(root: root, durability: .fsync, temporaryTag: "gc", environment: environment)
        let reader = RunReader(backend: backend)
        guard let runID = try await reader.runID() else {
            throw StorageError(.checksum, "\(quoted(root)) has no run id", details: [("path", .string(root))])
        }
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
        for attempt in try store.unfinished() {
            try progress.checkCancelled()
            let path = store.directory(attempt)
            // A trainer that started since is alive, and so is one that took over: nothing was seen of it.
            if attempt.sequence.epoch > seen || attempt.sequence.epoch == live {
                try note(path, "its trainer is alive", false)
                continue
            }
            let age = try Leftovers.age(of: attempt, store, now: environment.now())
            let isOld = age >= 7 * 24 * 3600
            if !now, !isOld {
                try note(path, "changed \(Int(age)) s ago: it may wait to be finished (drain), or use --now", false)
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

    /// The epoch of a trainer that is alive: it is in this process, or its heartbeat moves.
    private func liveEpoch(
        _ reader: RunReader, _ backend: LocalBackend, runID: String, _ progress: Progress
    ) async throws(StorageError) -> Int? {
        let state = try await reader.epochs()
        // Its lock must not be touched from its own process: closing the file would drop it.
        if OpenRuns.shared.contains(runID) { return state.lastEpochNumber }
        guard let last = state.lastEpoch, !state.closedEpochs.contains(last.number) else { return nil }
        let isAlive = try await Hold.isAlive(
            last, backend: backend, environment: environment, engine: Engine.shared, progress: progress)
        return isAlive ? last.number : nil
    }

    static func bytes(_ path: String) throws(StorageError) -> Int {
        guard let status = try System.status(path) else { return 0 }
        guard status.kind == .directory else { return status.size }
        var sum = 0
        for name in try System.list(path) { sum += try bytes(Path.join(path, name)) }
        return sum
    }
}
