extension TrainingRun {
    /// The checkpoint to go on from. Before this trainer's first commit that is the one it resumed from, verified byte for
    /// byte the first time; when it is damaged the run falls back to the one before and writes that down first.
    public func currentCheckpoint(_ progress: Progress) async throws(StorageError) -> JSONValue {
        let catalog = opened.catalog
        while true {
            guard let entry = catalog.latest else { return .null }
            guard !catalog.hasCommitted, entry.attempt != nil, !isVerified(entry) else {
                return catalog.document(of: entry)
            }
            guard let problem = try await problem(entry, progress) else {
                markVerified(entry)
                return catalog.document(of: entry)
            }
            try await fallBack(from: entry, problem)
        }
    }

    private func problem(_ entry: CheckpointEntry, _ progress: Progress) async throws(StorageError) -> String? {
        try await Pins.holding(opened.checkpoints.path(entry.physicalName)) {
            () async throws(StorageError) -> String? in
            try await Damage.look(
                at: entry, deeply: true, store: opened.checkpoints, staging: opened.host.directory, engine: engine,
                retry: retry, environment: environment, progress: progress)
        }
    }

    private func fallBack(from entry: CheckpointEntry, _ problem: String) async throws(StorageError) {
        let state = opened.catalog.current
        let older = state.history.candidates(state.entries, foreign: state.foreign, of: epoch)
            .first { $0.id != entry.id }
        let turn = (state.history.resumePoints[epoch]?.turn ?? 0) + 1
        Log.shared.write(
            .warning,
            "checkpoint \(quoted(entry.name)) is damaged (\(problem)):"
                + " going on from \(older.map { quoted($0.name) } ?? "the beginning") instead",
            [
                ("damaged", .string(opened.checkpoints.address(entry.physicalName))),
                ("fallback", .optional(older.map { opened.checkpoints.address($0.physicalName) })),
            ])
        try await opened.hold.check()
        var point = History.ResumePoint(turn: turn, attempt: older?.attempt, physicalName: older?.physicalName)
        if let older, older.attempt == nil { point.behind = state.history.behind(older.physicalName, of: epoch) }
        try await Resumption.write(
            older, point, base: state.reportBase, epoch: opened.hold.epoch, backend: opened.backend)
        opened.catalog.resume(point)
        try await opened.catalog.writeSnapshot()
    }

    private func isVerified(_ entry: CheckpointEntry) -> Bool {
        monitor.withLock { entry.attempt.map { verified.contains($0) } ?? true }
    }

    private func markVerified(_ entry: CheckpointEntry) {
        monitor.withLock { if let attempt = entry.attempt { verified.insert(attempt) } }
    }
}
