internal import Synchronization

/// The checkpoints of an open run, and their publication: snapshot and index, retention, eviction.
///
/// One publisher changes it, in the order of the reports; any thread reads it.
final class Catalog: Sendable {
    struct State: Sendable {
        /// Committed by this run, in the order of their reports.
        var entries: [CheckpointEntry]
        /// Ray's or anybody's; never touched.
        var foreign: [CheckpointEntry]
        var history: History
        /// To be announced for eviction, or announced, and not yet un-committed.
        var evicting: Set<AttemptID> = []
        /// What the snapshot on the storage announces, as far as we wrote it.
        var announced: Set<AttemptID> = []
        /// Un-committed, files still in the trash, and since when (boot time in milliseconds).
        var trashed: [AttemptID: Int64] = [:]
        /// Reports before this epoch, for Ray's running number of a report.
        var reportBase: Int
        var currentReportIndex: Int
        /// Ray's, handed on.
        var validations: [String: [String]] = [:]
        var hasCommitted = false
        var generation = 0
        /// The file that was seen to hold our last snapshot.
        var snapshotFile: System.FileStatus?
        /// Boot time in milliseconds.
        var indexWrittenAt: Int64?
        /// The last publication: everything is written.
        var isClosing = false
    }

    let store: any CheckpointStore
    let backend: any StorageBackend
    let snapshot: SnapshotFile
    let hold: Hold
    let policy: RetentionPolicy
    private let state: Mutex<State>
    /// Held around what writes the snapshot or evicts by it: an older snapshot must not replace a newer one.
    private let turn = Turn()

    init(
        store: any CheckpointStore, backend: any StorageBackend, snapshot: SnapshotFile, hold: Hold,
        policy: RetentionPolicy, state: State
    ) {
        self.store = store
        self.backend = backend
        self.snapshot = snapshot
        self.hold = hold
        self.policy = policy
        self.state = Mutex(state)
    }

    private var epoch: Int { hold.epoch.number }

    var current: State { state.withLock { $0 } }

    /// The latest on this line of history, ours or what we resumed from.
    var latest: CheckpointEntry? { Self.latest(current, epoch) }

    static func latest(_ state: State, _ epoch: Int) -> CheckpointEntry? {
        state.history.candidates(state.entries, foreign: state.foreign, of: epoch).first
    }

    var hasCommitted: Bool { current.hasCommitted }

    /// Records where this epoch goes on from, after a fallback.
    func resume(_ point: History.ResumePoint) { state.withLock { $0.history.add(point, epoch: epoch) } }

    func noteReport(index: Int) {
        state.withLock { state in
            state.currentReportIndex = max(
                state.currentReportIndex, min(state.reportBase, ReportSequence.limit) + index + 1)
        }
    }

    // MARK: - Publication

    func beginClosing() { state.withLock { $0.isClosing = true } }

    /// Takes in a checkpoint that has just been committed, plans what it displaces, and announces that in the snapshot.
    /// After this the fence is looked at, and only then anybody is told.
    func publish(_ entry: CheckpointEntry?) async throws(StorageError) {
        try await turn.take { () async throws(StorageError) in try await publishInTurn(entry) }
    }

    private func publishInTurn(_ entry: CheckpointEntry?) async throws(StorageError) {
        state.withLock { state in
            if var entry, let sequence = entry.sequence {
                if sequence.epoch == epoch { entry.reportNumber = state.reportBase + sequence.index }
                state.entries.removeAll { $0.attempt == entry.attempt }
                let place = state.entries.firstIndex { $0.sequence.map { $0 > sequence } ?? false }
                state.entries.insert(entry, at: place ?? state.entries.endIndex)
                state.hasCommitted = state.hasCommitted || sequence.epoch == epoch
            }
            let evicted = Self.plan(state, epoch, policy).evicted
            state.evicting = Set(evicted.compactMap(AttemptID.init))
            state.generation += 1
        }
        try await writeSnapshotInTurn()
    }

    private static func plan(_ state: State, _ epoch: Int, _ policy: RetentionPolicy) -> RetentionPlan {
        let candidates = state.entries.compactMap { entry in
            entry.sequence.map { RetentionCandidate(id: entry.id, sequence: $0, metrics: entry.metrics) }
        }
        return Retention.plan(candidates, latest: latest(state, epoch)?.id, policy: policy)
    }

    func writeSnapshot() async throws(StorageError) {
        try await turn.take { () async throws(StorageError) in try await writeSnapshotInTurn() }
    }

    private func writeSnapshotInTurn() async throws(StorageError) {
        try await hold.check()
        let state = current
        let plan = Self.plan(state, epoch, policy)
        let byID = Dictionary(state.entries.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
        let evicting = Set(state.evicting.map(\.description))
        let kept = state.foreign + plan.ranked.compactMap { evicting.contains($0) ? nil : byID[$0] }
        let snapshot = Snapshot(
            entries: kept.enumerated().map { place, entry in
                Snapshot.Entry(
                    physicalName: entry.physicalName, name: entry.name, attempt: entry.attempt,
                    sequence: entry.sequence ?? ReportSequence(epoch: 0, index: entry.reportNumber ?? place),
                    metrics: entry.metrics, reportNumber: entry.reportNumber ?? 0)
            },
            latest: Self.latest(state, epoch)?.physicalName, reportCount: state.currentReportIndex,
            ours: Snapshot.Ours(
                runID: store.runID, epoch: epoch, generation: state.generation,
                evicting: state.evicting.sorted { $0.sequence < $1.sequence }),
            validations: state.validations)
        self.state.withLock { $0.snapshotFile = nil }
        try await self.snapshot.write(snapshot)
        self.state.withLock { $0.announced = state.evicting }
        try await writeIndex(state)
    }

    /// How often the index is written where each write is a request.
    private static let indexPeriod: Int64 = 60_000

    /// Our own copy of what was published tells what Ray has evicted. An old one tells less and nothing wrong.
    private func writeIndex(_ state: State) async throws(StorageError) {
        let now = hold.environment.bootMilliseconds()
        if !backend.capabilities.renamesDirectories {
            let isDue = self.state.withLock { state in
                if let last = state.indexWrittenAt, now - last < Self.indexPeriod, !state.isClosing { return false }
                state.indexWrittenAt = now
                return true
            }
            guard isDue else { return }
        }
        let index = CheckpointIndex(runID: store.runID, entries: state.entries.compactMap(CheckpointIndex.Entry.init))
        _ = try await backend.replace(RunLayout.index, index.encoded, ifVersion: nil)
    }

    /// Puts our snapshot back where a holder that we had fenced has written over it: it had looked at its fence just before
    /// we raised it, and file systems have no write that then fails. It does so once, whenever it wakes, so this is
    /// called with every heartbeat and costs a `stat`.
    func keepSnapshot() async {
        guard backend.capabilities.renamesDirectories, hold.mayWrite else { return }
        do throws(StorageError) {
            try await turn.take { () async throws(StorageError) in try await keepSnapshotInTurn() }
        } catch {
            Log.shared.write(.debug, error.while_("looking after the snapshot").message)
        }
    }

    private func keepSnapshotInTurn() async throws(StorageError) {
        if hold.isFencedBySnapshot { return }
        let path = backend.path(RunLayout.snapshot)
        let now = try System.status(path)
        if let now, let known = current.snapshotFile, now.isUnchanged(since: known) { return }
        guard let object = try await backend.read(RunLayout.snapshot, limit: 256 << 20) else { return }
        guard let ours = try Snapshot(decoding: object.bytes, path: path).ours, ours.runID == store.runID else {
            return
        }
        if ours.epoch < epoch {
            Log.shared.write(
                .warning, "the trainer of epoch \(ours.epoch), which was superseded, wrote its snapshot over ours",
                [("path", .string(path))])
            return try await writeSnapshotInTurn()
        }
        guard ours.epoch == epoch, let after = try System.status(path), let now, after.isUnchanged(since: now) else {
            return
        }
        state.withLock { $0.snapshotFile = now }
    }

    // MARK: - Eviction

    /// Un-commits what was announced, as far as nobody of this process is reading it; the rest waits for the next time.
    /// A failure is logged and tried again later, never forgotten. What should go and was not announced, because the
    /// snapshot could not or must not be written, stays until it is.
    func evictAnnounced() async throws(StorageError) {
        try await turn.take { () async throws(StorageError) in try await evictInTurn() }
    }

    private func evictInTurn() async throws(StorageError) {
        let state = current
        for attempt in state.evicting.intersection(state.announced).sorted(by: { $0.sequence < $1.sequence }) {
            guard let entry = state.entries.first(where: { $0.attempt == attempt }) else {
                self.state.withLock { _ = $0.evicting.remove(attempt) }
                continue
            }
            if Pins.shared.isPinned(store.path(entry.physicalName)) { continue }
            try await hold.check()
            guard hold.mayWrite else { return }
            do throws(StorageError) {
                try await store.uncommit(attempt, physicalName: entry.physicalName)
                self.state.withLock { state in
                    state.entries.removeAll { $0.attempt == attempt }
                    state.evicting.remove(attempt)
                    state.trashed[attempt] = hold.environment.bootMilliseconds()
                }
            } catch {
                Log.shared.write(
                    .warning, error.while_("evicting \(quoted(entry.physicalName)); it is tried again later").message)
            }
        }
    }

    /// Removes what lies in the trash; the holder of a run whose fence is down is the only one who may.
    func purgeTrash(olderThanMilliseconds age: Int64 = 0) async throws(StorageError) {
        let now = hold.environment.bootMilliseconds()
        let trashed = current.trashed.filter { now - $0.value >= age }.keys
        guard !trashed.isEmpty else { return }
        try await hold.check()
        for attempt in trashed {
            guard hold.mayWrite else { return }
            do throws(StorageError) {
                try await store.purge(attempt)
                state.withLock { _ = $0.trashed.removeValue(forKey: attempt) }
            } catch {
                Log.shared.write(.warning, error.while_("removing evicted \(attempt); it is tried again later").message)
            }
        }
    }

    // MARK: - Documents

    func document(of entry: CheckpointEntry) -> JSONValue {
        let state = current
        let all = CheckpointEntry.chronological(state.foreign, state.entries)
        let status = state.history.statuses(all, of: epoch)[entry.id] ?? .committed
        return entry.document(
            path: store.address(entry.physicalName), status: status, isLatest: entry.id == Self.latest(state, epoch)?.id
        )
    }

    /// All checkpoints, oldest first.
    var documents: JSONValue {
        let state = current
        let latest = Self.latest(state, epoch)?.id
        let all = CheckpointEntry.chronological(state.foreign, state.entries)
        let statuses = state.history.statuses(all, of: epoch)
        return .array(
            all.map {
                $0.document(
                    path: store.address($0.physicalName), status: statuses[$0.id] ?? .committed,
                    isLatest: $0.id == latest)
            })
    }
}

extension CheckpointIndex.Entry {
    init?(_ entry: CheckpointEntry) {
        guard let attempt = entry.attempt else { return nil }
        self.init(
            attempt: attempt, name: entry.name, physicalName: entry.physicalName, metrics: entry.metrics,
            bytes: entry.bytes ?? 0, files: entry.files ?? 0, createdAt: entry.createdAt ?? 0)
    }
}
