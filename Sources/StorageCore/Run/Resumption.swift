/// Chooses the checkpoint that an epoch goes on from, and writes it down before anything is reported.
struct Resumption: Sendable {
    let options: RunOptions
    let store: any CheckpointStore
    let backend: any StorageBackend
    let snapshot: SnapshotFile
    let hold: Hold
    /// The epochs before this one, as they were once their holders had been fenced.
    let epochs: RunState
    let environment: Environment
    let engine: Engine
    let progress: Progress

    private var epoch: Int { hold.epoch.number }

    func choose() async throws(StorageError) -> (Catalog, CheckpointEntry?) {
        progress.phase = "choosing where to resume from"
        var state = try await RunReader(backend: backend).read(epochs)
        let index = try await readIndex()
        // From here on something is moved, which is for those who have not been superseded themselves.
        try await hold.check()
        store.learn(state.decisions)
        try await evictWhatRayEvicted(&state, index)
        if state.raysLatest == nil { try await putBackResumePoint(&state) }
        // What the last holder has announced may be un-committed by it any time, unless we make sure of it first.
        let announced = Set(state.snapshot?.ours?.evicting ?? [])
        let entry = try await firstUsable(candidates(state, index), announced: announced)
        if state.raysLatest == nil { warnOfDamage(state, index, entry) }
        try await leaveOutUnpublished(&state, index, entry)
        let base = reportBase(state)
        let point = point(entry, state, index)
        try await Self.write(entry, point, base: base, epoch: hold.epoch, backend: backend)
        state.history.add(point, epoch: epoch)
        let catalog = Catalog(
            store: store, backend: backend, snapshot: snapshot, hold: hold, policy: options.retention,
            state: Catalog.State(
                entries: state.committed, foreign: state.foreign, history: state.history,
                trashed: try await trash(state),
                reportBase: base,
                currentReportIndex: base,
                validations: state.snapshot?.validations ?? [:]))
        // Evictions that were announced are announced anew, by the line that this epoch is on.
        try await hold.check()
        if announced.isEmpty { try await catalog.writeSnapshot() } else { try await catalog.publish(nil) }
        return (catalog, entry)
    }

    // MARK: - Which

    private func candidates(_ state: RunState, _ index: CheckpointIndex?) throws(StorageError) -> [CheckpointEntry] {
        if let wanted = options.resumeFrom {
            guard let entry = Self.find(wanted, in: state) else {
                throw Self.missing(wanted, state, root: backend.root)
            }
            return [entry]
        }
        var rays: [CheckpointEntry] = []
        if let latest = state.raysLatest {
            rays = RaysTurn.candidates(
                latest: latest, snapshot: state.snapshot, foreign: state.foreign,
                published: lastPublished(state, index).map { number($0, state) })
        }
        guard let line = state.history.lastStarted(before: epoch) else {
            return rays.isEmpty ? state.latest.map { [$0] } ?? [] : rays
        }
        return rays + state.history.candidates(state.committed, foreign: state.foreign, of: line)
    }

    /// The last report of ours that Ray can have known, when it went on with the run after our last epoch.
    private func lastPublished(_ state: RunState, _ index: CheckpointIndex?) -> ReportSequence? {
        guard let line = state.history.lastStarted(before: epoch) else { return nil }
        var last = -1
        for entry in index?.entries ?? [] where entry.sequence.epoch == line { last = max(last, entry.sequence.index) }
        let listed = Set((state.snapshot?.entries ?? []).map { Array($0.physicalName.utf8) })
        for entry in state.committed {
            guard let sequence = entry.sequence, sequence.epoch == line else { continue }
            // Without the index nobody knows: taken for published.
            if index == nil || listed.contains(Array(entry.physicalName.utf8)) { last = max(last, sequence.index) }
        }
        return ReportSequence(epoch: line, index: last)
    }

    private func number(_ sequence: ReportSequence, _ state: RunState) -> Int {
        (state.reportBases[sequence.epoch] ?? 0) + sequence.index
    }

    /// What the record of this epoch says.
    private func point(_ entry: CheckpointEntry?, _ state: RunState, _ index: CheckpointIndex?) -> History.ResumePoint {
        var point = History.ResumePoint(turn: 0, attempt: entry?.attempt, physicalName: entry?.physicalName)
        if let snapshot = state.snapshot, snapshot.ours == nil {
            point.rayReports = min(snapshot.reportCount, ReportSequence.limit)
        }
        guard let entry, entry.attempt == nil, let line = state.history.lastStarted(before: epoch) else { return point }
        if let last = lastPublished(state, index), (entry.reportNumber ?? -1) > number(last, state) {
            point.behind = last
        } else {
            point.behind = state.history.behind(entry.physicalName, of: line)
        }
        return point
    }

    /// A checkpoint by name: what the name means now, else by its directory.
    static func find(_ name: String, in state: RunState) -> CheckpointEntry? {
        let bytes = Array(name.utf8)
        let named = state.entries.filter { Array($0.name.utf8) == bytes }
        let statuses = state.statuses
        return named.last { statuses[$0.id] != .superseded } ?? named.last
            ?? state.entries.last { Array($0.physicalName.utf8) == bytes }
    }

    static func missing(_ name: String, _ state: RunState, root: String) -> StorageError {
        let known = state.entries.suffix(20).map { quoted($0.name) }.joined(separator: ", ")
        return StorageError(
            .notFound,
            "resume_from: the run \(quoted(root)) has no checkpoint \(quoted(name)); it has \(known.isEmpty ? "none" : known)",
            details: [("path", .string(root)), ("name", "resume_from"), ("value", .string(name))])
    }

    /// The first candidate whose files are all there with their sizes; the bytes are verified when it is asked for.
    private func firstUsable(
        _ candidates: [CheckpointEntry], announced: Set<AttemptID>
    ) async throws(StorageError) -> CheckpointEntry? {
        for (position, entry) in candidates.enumerated() {
            guard let problem = try await problem(entry, announced: announced) else { return entry }
            if options.resumeFrom != nil {
                throw StorageError(
                    .checksum, "resume_from: checkpoint \(quoted(entry.name)) is damaged: \(problem)",
                    details: [("path", .string(store.path(entry.physicalName)))])
            }
            let next = position + 1 < candidates.count ? quoted(candidates[position + 1].name) : "the beginning"
            Log.shared.write(
                .warning, "checkpoint \(quoted(entry.name)) is damaged (\(problem)): going on from \(next) instead")
        }
        return nil
    }

    /// What is wrong with a checkpoint's files; nil: nothing. An error that says nothing about them (a server that does not
    /// answer, a permission) is thrown, after some tries: it must not make a job start from the beginning.
    private func problem(
        _ entry: CheckpointEntry, announced: Set<AttemptID> = []
    ) async throws(StorageError) -> String? {
        if let attempt = entry.attempt, announced.contains(attempt),
            try await !store.restoreFromTrash(attempt, physicalName: entry.physicalName)
        {
            return "it was evicted"
        }
        return try await Damage.look(
            at: entry, deeply: false, store: store, staging: "", engine: engine,
            retry: RetryPolicy(timeoutMilliseconds: options.retryTimeoutMilliseconds), environment: environment,
            progress: progress)
    }

    // MARK: - What evictors left

    /// An evictor that was suspended while the last launch chose its checkpoint may have moved it to the trash since. It
    /// is still where the line goes on, unless something newer was committed on it.
    private func putBackResumePoint(_ state: inout RunState) async throws(StorageError) {
        guard let line = state.history.lastStarted(before: epoch), let point = state.history.resumePoints[line],
            let attempt = point.attempt, let name = point.physicalName, try await store.trashed().contains(attempt)
        else { return }
        let newest = state.history.candidates(state.committed, of: line).first?.sequence
        if let newest, newest >= attempt.sequence { return }
        guard try await store.restoreFromTrash(attempt, physicalName: name),
            let summary = try await store.summary(name)
        else { return }
        state.committed.append(summary.entry)
        state.committed.sort { ($0.sequence ?? .start) < ($1.sequence ?? .start) }
    }

    /// What lies in the trash and may be purged. What was listed as committed was moved there since, by an evictor that
    /// was suspended before: it goes back.
    private func trash(_ state: RunState) async throws(StorageError) -> [AttemptID: Int64] {
        var trashed: [AttemptID: Int64] = [:]
        for attempt in try await store.trashed() {
            if let entry = state.committed.first(where: { $0.attempt == attempt }) {
                _ = try await store.restoreFromTrash(attempt, physicalName: entry.physicalName)
            } else {
                trashed[attempt] = environment.bootMilliseconds()
            }
        }
        return trashed
    }

    // MARK: - What is not whole

    /// Directories without a whole manifest are not even candidates; what they cost is said all the same.
    private func warnOfDamage(_ state: RunState, _ index: CheckpointIndex?, _ entry: CheckpointEntry?) {
        let published = Set((index?.entries ?? []).map { Array($0.physicalName.utf8) })
        let line = state.history.lastStarted(before: epoch)
        for (name, claim) in state.damaged.sorted(by: { $0.claim.sequence < $1.claim.sequence }) {
            guard claim.wasCommitted || published.contains(Array(name.utf8)) else { continue }
            guard let line, state.history.isOnLine(claim.sequence, of: line) else { continue }
            if let sequence = entry?.sequence, claim.sequence < sequence { continue }
            Log.shared.write(
                .warning,
                "checkpoint \(quoted(name)) is damaged (\(quoted(store.path(name))) has no whole manifest): going on from"
                    + " \(entry.map { quoted($0.name) } ?? "the beginning") instead")
        }
    }

    /// What was committed and never published, by us or by Ray, is taken in only when all its files are there.
    private func leaveOutUnpublished(
        _ state: inout RunState, _ index: CheckpointIndex?, _ chosen: CheckpointEntry?
    ) async throws(StorageError) {
        let published = Set((index?.entries ?? []).map(\.attempt))
        let listed = Set((state.snapshot?.entries ?? []).map { Array($0.physicalName.utf8) })
        for entry in state.committed where entry.id != chosen?.id {
            guard let attempt = entry.attempt, !published.contains(attempt) else { continue }
            if listed.contains(Array(entry.physicalName.utf8)) { continue }
            guard let problem = try await problem(entry) else { continue }
            state.committed.removeAll { $0.attempt == attempt }
            Log.shared.write(
                .warning, "checkpoint \(quoted(entry.name)) was never published and is left out: \(problem)",
                [("path", .string(store.path(entry.physicalName)))])
        }
    }

    // MARK: - Records

    static func write(
        _ entry: CheckpointEntry?, _ point: History.ResumePoint, base: Int, epoch: EpochRecord,
        backend: any StorageBackend
    ) async throws(StorageError) {
        let key = RunLayout.resume(epoch.number, point.turn)
        let document = JSONValue.make([
            "schema": 1, "epoch": JSONValue(epoch.number), "turn": JSONValue(point.turn), "nonce": .string(epoch.nonce),
            "attempt": .optional(point.attempt?.description), "name": .optional(entry?.name),
            "physical_name": .optional(point.physicalName),
            "behind_epoch": point.behind.map { JSONValue($0.epoch) } ?? .null,
            "behind_index": point.behind.map { JSONValue($0.index) } ?? .null,
            "ray_reports": point.rayReports.map { JSONValue($0) } ?? .null, "report_index_base": JSONValue(base),
        ])
        guard try await backend.create(key, document) else {
            throw StorageError(
                .superseded, "somebody else wrote \(quoted(backend.path(key)))",
                details: [("path", .string(backend.root))])
        }
    }

    /// How many reports came before this epoch: Ray numbers the reports of a run through.
    private func reportBase(_ state: RunState) -> Int {
        state.committed.reduce(min(state.snapshot?.reportCount ?? 0, ReportSequence.limit)) { base, entry in
            guard let sequence = entry.sequence else { return base }
            return max(base, (state.reportBases[sequence.epoch] ?? 0) + sequence.index + 1)
        }
    }

    private func readIndex() async throws(StorageError) -> CheckpointIndex? {
        // Damaged or enormous: it only tells what Ray evicted.
        guard let object = try? await backend.read(RunLayout.index, limit: 256 << 20) else { return nil }
        return try? CheckpointIndex(decoding: object.bytes, path: backend.path(RunLayout.index))
    }

    /// Ray drops our keys when it writes the snapshot. What our own index has and such a snapshot lacks was evicted by Ray;
    /// it may have removed only a part of it.
    private func evictWhatRayEvicted(_ state: inout RunState, _ index: CheckpointIndex?) async throws(StorageError) {
        guard let snapshot = state.snapshot, snapshot.ours == nil, let index, index.runID == store.runID else { return }
        let kept = Set(snapshot.entries.map { Array($0.physicalName.utf8) })
        for entry in index.entries {
            if kept.contains(Array(entry.physicalName.utf8)) { continue }
            try await store.uncommit(entry.attempt, physicalName: entry.physicalName)
            state.committed.removeAll { $0.attempt == entry.attempt }
        }
    }
}
