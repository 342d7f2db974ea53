internal import Glibc

/// What dead trainers left in a run: finishes their captured reports on this host, and collects what cannot become a
/// checkpoint any more.
struct Leftovers: Sendable {
    let store: FileCheckpointStore
    let backend: any StorageBackend
    let host: HostIdentity
    let hold: Hold
    let options: RunOptions
    let environment: Environment
    let engine: Engine
    let progress: Progress

    /// Finishes them in the order of their reports, before anybody chooses where to resume from.
    func finish() async throws(StorageError) -> (recovered: [String], lost: [LostReport]) {
        var recovered: [String] = []
        var lost: [LostReport] = []
        let deadline = Deadline(timeoutMilliseconds: options.drainTimeoutMilliseconds)
        let hosts = try await epochHosts()
        progress.phase = "finishing captured reports"
        for attempt in try store.unfinished() where attempt.sequence.epoch < hold.epoch.number {
            try progress.checkCancelled()
            if deadline.isPast {
                Log.shared.write(
                    .warning, "drain_timeout_s is over: \(attempt) and later ones are finished by the next open")
                break
            }
            let captured = try await record(attempt)
            let decision = LeftoverDecision.decide(
                try facts(attempt, captured, hosts), hostID: host.id, bootID: host.bootID)
            let name = captured?.name ?? CheckpointName.automatic(attempt.sequence)
            do throws(StorageError) {
                switch decision {
                case .leave: continue
                case .discard: try store.abort(attempt)
                case .giveBack(let source):
                    try store.giveBack(attempt, to: source)
                    let reason = "its report was cut off before it was captured; the directory is at \(quoted(source))"
                    lost.append(LostReport(name: name, reason: reason))
                    Log.shared.write(.warning, "checkpoint \(quoted(name)): \(reason)")
                case .lost(let reason):
                    try store.abort(attempt)
                    lost.append(LostReport(name: name, reason: reason))
                    Log.shared.write(.warning, "checkpoint \(quoted(name)) is lost: \(reason)")
                case .commit, .sealAndCommit:
                    if try await commit(attempt, captured, seal: decision == .sealAndCommit) { recovered.append(name) }
                }
            } catch {
                if error.code == .cancelled { throw error }
                // Left as it is: the next open tries again, and this trainer is not kept from its work.
                Log.shared.write(.warning, error.while_("finishing \(quoted(name)) of a dead trainer").message)
                lost.append(LostReport(name: name, reason: error.message))
            }
        }
        try collectTemporaries()
        return (recovered, lost)
    }

    private func epochHosts() async throws(StorageError) -> [Int: String] {
        let epochs = try await RunReader(backend: backend).epochs().epochs
        return Dictionary(epochs.map { ($0.number, $0.hostID) }, uniquingKeysWith: { $1 })
    }

    private func record(_ attempt: AttemptID) async throws(StorageError) -> CapturedRecord? {
        guard let object = try await backend.read(RunLayout.captured(attempt), limit: 64 << 20) else { return nil }
        guard let document = try? JSONParser.parse(object.bytes), let record = CapturedRecord(document),
            record.runID == store.runID, record.attempt == attempt
        else { return nil }
        return record
    }

    private func facts(
        _ attempt: AttemptID, _ captured: CapturedRecord?, _ hosts: [Int: String]
    ) throws(StorageError) -> LeftoverDecision.Facts {
        let directory = store.directory(attempt)
        var hasSource = false
        if let source = captured?.source { hasSource = try System.status(source) != nil }
        let hasJournal = try System.status(store.path(RunLayout.captured(attempt))) != nil
        return LeftoverDecision.Facts(
            hasDirectory: try System.status(directory) != nil, isSealed: try store.isOurs(directory, attempt),
            captured: captured, epochHostID: hosts[attempt.sequence.epoch], hasSource: hasSource,
            isEmpty: (try? System.list(directory).isEmpty) ?? false,
            hasDamagedJournal: captured == nil && hasJournal)
    }

    private func commit(
        _ attempt: AttemptID, _ captured: CapturedRecord?, seal: Bool
    ) async throws(StorageError) -> Bool {
        let directory = store.directory(attempt)
        if seal, let captured {
            // A directory that was handed over may bring the manifest of an older checkpoint along.
            try System.removeTree(Path.join(directory, RunLayout.own))
            try await Sealing.seal(directory: directory, captured: nil, record: captured, progress: progress)
        }
        if !seal, options.durability == .fsync {
            // Its trainer may have died between writing the manifest and syncing its directories.
            try System.syncDirectory(Path.join(directory, RunLayout.own))
            try System.syncDirectory(directory)
        }
        let manifest = try ManifestSummary.read(directory: directory)
        guard let physicalName = captured?.physicalName ?? manifest?.physicalName else { return false }
        let outcome = try store.commit(attempt, as: physicalName)
        if outcome == .occupied {
            throw StorageError(
                .alreadyExists, "\(quoted(store.path(physicalName))) is not ours",
                details: [("path", .string(store.path(physicalName)))])
        }
        _ = try System.unlink(store.path(RunLayout.captured(attempt)))
        if let place = captured?.setAside { try? TreeRemoval.remove(place) }
        return outcome == .committed
    }

    /// Small files that were being written when their process died. The lock says that no other trainer of this host
    /// lives on this run.
    private func collectTemporaries() throws(StorageError) {
        let directory = store.path(LocalBackend.temporaryPrefix)
        guard try System.status(directory) != nil else { return }
        let own = Array(host.temporaryTag.utf8)
        for name in try System.list(directory) where Array(name.utf8.prefix(own.count)) == own {
            try System.unlink(Path.join(directory, name))
        }
    }

    /// Unfinished work of other hosts that has not changed for `orphan_ttl`; younger work may still become a checkpoint.
    func collectForeign() async throws(StorageError) {
        let hosts = try await epochHosts()
        for attempt in try store.unfinished() where attempt.sequence.epoch < hold.epoch.number {
            let captured = try await record(attempt)
            guard (captured?.hostID ?? hosts[attempt.sequence.epoch]) != host.id else { continue }
            do throws(StorageError) {
                let age = try Self.age(of: attempt, store, now: environment.now())
                if age * 1000 >= Double(options.orphanTTLMilliseconds) { try store.abort(attempt) }
            } catch {
                // Its owner may be at work on it: what cannot be looked at is left alone.
                Log.shared.write(.debug, error.while_("looking at \(attempt) of another host").message)
            }
        }
    }

    /// Seconds since anything of an attempt changed, by the clock of the storage as far as it sets times.
    static func age(of attempt: AttemptID, _ store: FileCheckpointStore, now: Double) throws(StorageError) -> Double {
        var newest = 0.0
        func look(_ path: String, _ depth: Int) throws(StorageError) {
            guard let status = try System.status(path) else { return }
            newest = max(newest, Double(status.changedNanoseconds) / 1e9)
            guard status.kind == .directory, depth < 64 else { return }
            for name in try System.list(path) { try look(Path.join(path, name), depth + 1) }
        }
        try look(store.directory(attempt), 0)
        try look(store.path(RunLayout.captured(attempt)), 0)
        return now - newest
    }
}
