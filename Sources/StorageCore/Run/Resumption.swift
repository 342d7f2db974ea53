/// Chooses the checkpoint that an epoch goes on from, and writes it down before anything is reported.
struct Resumption: Sendable {
    let options: RunOptions
    let store: FileCheckpointStore
    let backend: any StorageBackend
    let hold: Hold
    let environment: Environment
    let engine: Engine
    let progress: Progress

    private var epoch: Int { hold.epoch.number }

    func choose() async throws(StorageError) -> (Catalog, CheckpointEntry?) {
        progress.phase = "choosing where to resume from"
        var state = try await RunReader(backend: backend).read()
        let index = try await readIndex()
        // From here on something is moved, which is for those who have not been superseded themselves.
        try await hold.check()
        try evictWhatRayEvicted(&state, index)
        try putBackResumePoint(&state)
        let entry = try await firstUsable(candidates(state))
        warnOfDamage(state, index, entry)
        try await leaveOutUnpublished(&state, index, entry)
        let base = reportBase(state)
        try await Self.write(entry, turn: 0, base: base, epoch: hold.epoch, backend: backend)
        state.history.add(
            History.ResumePoint(turn: 0, attempt: entry?.attempt, physicalName: entry?.physicalName), epoch: epoch)
        let catalog = Catalog(
            store: store, backend: backend, hold: hold, policy: options.retention,
            state: Catalog.State(
                entries: state.committed, foreign: state.foreign, history: state.history,
                trashed: try trash(state),
                reportBase: base,
                currentReportIndex: base,
                validations: state.snapshot?.validations ?? [:]))
        // Evictions that were announced are announced anew, by the line that this epoch is on.
        let announced = Set(state.snapshot?.ours?.evicting ?? [])
        try await hold.check()
        if announced.isEmpty { try await catalog.writeSnapshot() } else { try await catalog.publish(nil) }
        return (catalog, entry)
    }

    // MARK: - Which

    private func candidates(_ state: RunState) throws(StorageError) -> [CheckpointEntry] {
        if let wanted = options.resumeFrom {
            guard let entry = Self.find(wanted, in: state) else {
                throw Self.missing(wanted, state, root: backend.root)
            }
            return [entry]
        }
        guard let line = state.history.lastStarted(before: epoch) else {
            return state.latest.map { [$0] } ?? []
        }
        return state.history.candidates(state.committed, foreign: state.foreign, of: line)
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
    private func firstUsable(_ candidates: [CheckpointEntry]) async throws(StorageError) -> CheckpointEntry? {
        for (position, entry) in candidates.enumerated() {
            guard let problem = try await problem(entry) else { return entry }
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
    private func problem(_ entry: CheckpointEntry) async throws(StorageError) -> String? {
        try await Damage.look(
            at: entry, store: store, engine: engine,
            retry: RetryPolicy(timeoutMilliseconds: options.retryTimeoutMilliseconds), environment: environment,
            progress: progress
        ) { directory, manifest throws(StorageError) in
            let report = try await Verify.run(
                directory: directory, manifest: manifest, sizesOnly: true, progress: progress)
            if let problem = report.problems.first(where: { $0.kind != .extra }) { throw problem.error(in: directory) }
        }
    }

    // MARK: - What evictors left

    /// An evictor that was suspended while the last launch chose its checkpoint may have moved it to the trash since. It
    /// is still where the line goes on, unless something newer was committed on it.
    private func putBackResumePoint(_ state: inout RunState) throws(StorageError) {
        guard let line = state.history.lastStarted(before: epoch), let point = state.history.resumePoints[line],
            let attempt = point.attempt, let name = point.physicalName, try store.trashed().contains(attempt)
        else { return }
        let newest = state.history.candidates(state.committed, of: line).first?.sequence
        if let newest, newest >= attempt.sequence { return }
        guard try store.restoreFromTrash(attempt, physicalName: name),
            let summary = try ManifestSummary.read(directory: store.path(name))
        else { return }
        state.committed.append(summary.entry)
        state.committed.sort { ($0.sequence ?? .start) < ($1.sequence ?? .start) }
    }

    /// What lies in the trash and may be purged. What was listed as committed was moved there since, by an evictor that
    /// was suspended before: it goes back.
    private func trash(_ state: RunState) throws(StorageError) -> [AttemptID: Int64] {
        var trashed: [AttemptID: Int64] = [:]
        for attempt in try store.trashed() {
            if let entry = state.committed.first(where: { $0.attempt == attempt }) {
                _ = try store.restoreFromTrash(attempt, physicalName: entry.physicalName)
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
        _ entry: CheckpointEntry?, turn: Int, base: Int, epoch: EpochRecord, backend: any StorageBackend
    ) async throws(StorageError) {
        let document = JSONValue.make([
            "schema": 1, "epoch": JSONValue(epoch.number), "turn": JSONValue(turn), "nonce": .string(epoch.nonce),
            "attempt": .optional(entry?.attempt?.description), "name": .optional(entry?.name),
            "physical_name": .optional(entry?.physicalName), "report_index_base": JSONValue(base),
        ])
        guard try await backend.create(RunLayout.resume(epoch.number, turn), document) else {
            throw StorageError(
                .superseded, "somebody else wrote \(quoted(backend.path(RunLayout.resume(epoch.number, turn))))",
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
    private func evictWhatRayEvicted(_ state: inout RunState, _ index: CheckpointIndex?) throws(StorageError) {
        guard let snapshot = state.snapshot, snapshot.ours == nil, let index, index.runID == store.runID else { return }
        let kept = Set(snapshot.entries.map { Array($0.physicalName.utf8) })
        for entry in index.entries {
            if kept.contains(Array(entry.physicalName.utf8)) { continue }
            try store.uncommit(entry.attempt, physicalName: entry.physicalName)
            state.committed.removeAll { $0.attempt == entry.attempt }
        }
    }
}
