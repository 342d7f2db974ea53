/// What attempts of dead trainers, wherever they ran, left on an object store: files about which nothing was decided, uploads
/// that nobody completes, files of evicted checkpoints, and records that have done their duty.
struct ObjectLeftovers: Sendable {
    /// A record stays as long as a write that is older than it may still arrive.
    static let recordSeconds = 24.0 * 3600

    let store: ObjectCheckpointStore
    let backend: any StorageBackend
    let clock: StoreClock
    let progress: Progress

    /// nil where attempts are directories. `clock` says how old things are.
    init?(_ store: any CheckpointStore, _ backend: any StorageBackend, _ clock: StoreClock, _ progress: Progress) {
        guard let store = store as? ObjectCheckpointStore else { return nil }
        self.store = store
        self.backend = backend
        self.clock = clock
        self.progress = progress
    }

    /// One thing that was left.
    struct Item: Sendable {
        /// Below the run.
        var key: String
        /// nil: not known, as of parts that no listing counts.
        var bytes: Int?
        /// Seconds since it last changed; nil: not known, so it may have been just now.
        var age: Double?
        /// nil: of no epoch that can be told.
        var epoch: Int?
        /// Of an attempt that has ended: whatever it still had under way, it is of no use to anybody.
        var isDecided = false
        var what: String
        var remove: @Sendable () async throws(StorageError) -> Void

        /// Whether it has not changed for so many seconds.
        func isOlder(than seconds: Double) -> Bool { age.map { $0 >= seconds } ?? false }
    }

    /// Everything that is left. `state` is what a reader has just found.
    func find(_ state: RunState) async throws(StorageError) -> [Item] {
        var items = try await undecided(state)
        items += try await records(state)
        // Last: to end uploads is a permission of its own.
        items += try await uploads(state)
        return items
    }

    private func undecided(_ state: RunState) async throws(StorageError) -> [Item] {
        let reader = RunReader(backend: backend)
        var items: [Item] = []
        for directory in state.undecided {
            try progress.checkCancelled()
            guard let attempt = try await reader.attempt(ofUndecided: directory) else { continue }
            let listing = try await store.objects.list(directory + "/", delimited: false, progress: progress)
            let newest = listing.objects.reduce(0) { max($0, $1.modifiedAt) }
            items.append(
                Item(
                    key: directory, bytes: ByteSum.of(listing.objects.lazy.map(\.size)), age: clock.age(of: newest),
                    epoch: attempt.sequence.epoch, what: "unfinished",
                    remove: { [store, backend, progress] () async throws(StorageError) in
                        try await store.abort(
                            attempt, physicalName: directory, log: DecisionLog(backend: backend, runID: store.runID),
                            progress: progress)
                    }))
        }
        return items
    }

    private func uploads(_ state: RunState) async throws(StorageError) -> [Item] {
        let undecided = Set(state.undecided.map { Array($0.utf8) })
        var decided: [[UInt8]: Int] = [:]
        for known in state.decisions {
            decided[Array(known.decision.physicalName.utf8)] = known.decision.attempt.sequence.epoch
        }
        let uploads = try await store.objects.openUploads("", progress: progress)
        func directory(_ upload: OpenMultipart) -> [UInt8] { Array(upload.key.utf8.prefix { $0 != UInt8(ascii: "/") }) }
        var epochs = decided
        for name in Set(uploads.map(directory)).subtracting(undecided) where decided[name] == nil {
            epochs[name] = try await RunReader(backend: backend).epoch(
                ofUndecided: String(decoding: name, as: UTF8.self))
        }
        var items: [Item] = []
        for upload in uploads {
            // Those of an undecided directory go with it, those of nobody are somebody else's.
            let name = directory(upload)
            guard !undecided.contains(name), let epoch = epochs[name] else { continue }
            items.append(
                Item(
                    key: upload.key, bytes: nil, age: clock.age(of: upload.startedAt), epoch: epoch,
                    isDecided: decided[name] != nil, what: "an upload that was not completed",
                    remove: { [store, progress] () async throws(StorageError) in
                        try await store.objects.abortMultipart(upload.key, upload: upload.upload, progress: progress)
                    }))
        }
        return items
    }

    /// Evicted and aborted long ago: before the record goes, what a frozen writer has added since goes too.
    private func records(_ state: RunState) async throws(StorageError) -> [Item] {
        let old = state.decisions.filter { $0.decision.state != .committed }
        if old.isEmpty { return [] }
        var written: [[UInt8]: ObjectSummary] = [:]
        let listing = try await store.objects.list(RunLayout.decisions, delimited: false, progress: progress)
        for object in listing.objects { written[Array(object.key.utf8)] = object }
        var aged: [(decision: Decision, object: ObjectSummary, age: Double)] = []
        for known in old {
            guard let object = written[Array(RunLayout.decision(known.decision.attempt).utf8)] else { continue }
            guard let age = clock.age(of: object.modifiedAt) else { continue }
            if age >= Self.recordSeconds { aged.append((known.decision, object, age)) }
        }
        // One may hold the only copy of its row of metrics: the next trainer writes that to a segment.
        let hasRows = aged.contains { $0.decision.summary != nil }
        let reports = hasRows ? try await StoredMetrics(backend: backend).reports() : ReportSet()
        var items: [Item] = []
        for (decision, object, age) in aged {
            if decision.summary != nil, !reports.contains(decision.attempt.sequence) { continue }
            let key = RunLayout.decision(decision.attempt)
            items.append(
                Item(
                    key: key, bytes: object.size, age: age, epoch: decision.attempt.sequence.epoch,
                    what: "the record of an attempt that was \(decision.state.rawValue)",
                    remove: { [store, backend, progress] () async throws(StorageError) in
                        let log = DecisionLog(backend: backend, runID: store.runID)
                        if try await store.purge(decision.attempt, log: log, progress: progress) {
                            try await backend.delete(key)
                        }
                    }))
        }
        return items
    }
}
