internal import Glibc

/// What dead trainers left in a run: finishes their captured reports on this host, and collects what cannot become a
/// checkpoint any more.
struct Leftovers: Sendable {
    let store: any CheckpointStore
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
        let hosts = try await epochHosts(try await store.unfinished())
        progress.phase = "finishing captured reports"
        for attempt in try await store.unfinished() where attempt.sequence.epoch < hold.epoch.number {
            try progress.checkCancelled()
            if deadline.isPast {
                Log.shared.write(
                    .warning, "drain_timeout_s is over: \(attempt) and later ones are finished by the next open")
                break
            }
            let captured = try record(attempt)
            let decision = LeftoverDecision.decide(
                try facts(attempt, captured, hosts), hostID: host.id, bootID: host.bootID)
            let name = captured?.name ?? CheckpointName.automatic(attempt.sequence)
            do throws(StorageError) {
                switch decision {
                case .leave: continue
                case .discard: try await store.abort(attempt)
                case .giveBack(let source):
                    try await store.giveBack(attempt, to: source)
                    let reason = "its report was cut off before it was captured; the directory is at \(quoted(source))"
                    lost.append(LostReport(name: name, reason: reason))
                    Log.shared.write(.warning, "checkpoint \(quoted(name)): \(reason)")
                case .lost(let reason):
                    try await store.abort(attempt)
                    lost.append(LostReport(name: name, reason: reason))
                    Log.shared.write(.warning, "checkpoint \(quoted(name)) is lost: \(reason)")
                case .rewriteAndCommit:
                    do throws(StorageError) {
                        try await rewrite(attempt)
                    } catch  where error.code == .checksum {
                        try await store.abort(attempt)
                        let reason = "its bytes did not reach the storage: \(error.message)"
                        lost.append(LostReport(name: name, reason: reason))
                        Log.shared.write(.warning, "checkpoint \(quoted(name)) is lost: \(reason)")
                        continue
                    }
                    if try await commit(attempt, captured, seal: true) { recovered.append(name) }
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

    /// Whose epochs the attempts are of.
    private func epochHosts(_ attempts: [AttemptID]) async throws(StorageError) -> [Int: String] {
        let reader = RunReader(backend: backend)
        var hosts: [Int: String] = [:]
        for number in Set(attempts.map(\.sequence.epoch)) where number < hold.epoch.number {
            hosts[number] = try await reader.record(of: number)?.hostID
        }
        return hosts
    }

    private func record(_ attempt: AttemptID) throws(StorageError) -> CapturedRecord? {
        let path = store.local(RunLayout.captured(attempt))
        let bytes: [UInt8]
        do throws(StorageError) { bytes = try OpenFile(path, O_RDONLY).readAll(limit: 64 << 20) } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        guard let document = try? JSONParser.parse(bytes), let record = CapturedRecord(document),
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
        let hasJournal = try System.status(store.local(RunLayout.captured(attempt))) != nil
        return LeftoverDecision.Facts(
            hasDirectory: try System.status(directory) != nil, isSealed: try store.isOurs(directory, attempt),
            hasBegunSealing: try Manifest.readPrepared(directory: directory) != nil,
            captured: captured, epochHostID: hosts[attempt.sequence.epoch], hasSource: hasSource,
            isEmpty: (try? System.list(directory).isEmpty) ?? false,
            hasDamagedJournal: captured == nil && hasJournal)
    }

    private func rewrite(_ attempt: AttemptID) async throws(StorageError) {
        let directory = store.directory(attempt)
        guard let manifest = try Manifest.readPrepared(directory: directory) else { return }
        try await Rewriting.run(
            directory: directory, manifest: manifest, progress: progress,
            buffers: BufferPool(limitBytes: options.maxInflightBytes))
    }

    private func commit(
        _ attempt: AttemptID, _ captured: CapturedRecord?, seal: Bool
    ) async throws(StorageError) -> Bool {
        let directory = store.directory(attempt)
        // Committed and never cleared away; or aborted, and its files wait to be.
        if let decided = try await store.outcome(attempt) {
            if decided == .committed {
                try await store.forget(attempt)
                if let place = captured?.setAside { try? TreeRemoval.remove(place) }
            } else {
                try await store.abort(attempt)
            }
            return false
        }
        if seal, let captured {
            // A directory that was handed over may bring the manifest of an older checkpoint along.
            try System.removeTree(Path.join(directory, RunLayout.own))
            try await Sealing.seal(
                directory: directory, captured: nil, record: captured, progress: progress,
                buffers: BufferPool(limitBytes: options.maxInflightBytes))
        }
        if !seal, options.durability == .fsync {
            // Its trainer may have died between writing the manifest and syncing its directories.
            try System.syncDirectory(Path.join(directory, RunLayout.own))
            try System.syncDirectory(directory)
        }
        let manifest = try ManifestSummary.read(directory: directory)
        guard let physicalName = captured?.physicalName ?? manifest?.physicalName else { return false }
        try await store.upload(attempt, as: physicalName, progress: progress)
        // Uploads take long: what a superseded trainer commits is a stray.
        try await hold.check()
        let outcome = try await store.commit(attempt, as: physicalName)
        if outcome == .occupied {
            throw StorageError(
                .alreadyExists, "\(quoted(store.path(physicalName))) is not ours",
                details: [("path", .string(store.path(physicalName)))])
        }
        try await store.forget(attempt)
        if let place = captured?.setAside { try? TreeRemoval.remove(place) }
        return outcome == .committed
    }

    /// Small files that were being written when their process died. The lock says that no other trainer of this host
    /// lives on this run.
    private func collectTemporaries() throws(StorageError) {
        let directory = store.local(LocalBackend.temporaryPrefix)
        guard try System.status(directory) != nil else { return }
        let own = Array(host.temporaryTag.utf8)
        for name in try System.list(directory) where Array(name.utf8.prefix(own.count)) == own {
            try System.unlink(Path.join(directory, name))
        }
    }

    /// Unfinished work of other hosts that has not changed for `orphan_ttl`; younger work may still become a checkpoint.
    func collectForeign() async throws(StorageError) {
        let hosts = try await epochHosts(try await store.unfinished())
        // Of our own heartbeat, which is at most a beat old.
        let clock = StoreClock.of(store.local(RunLayout.heartbeat(hold.epoch.number)), environment: environment)
        for attempt in try await store.unfinished() where attempt.sequence.epoch < hold.epoch.number {
            let captured = try record(attempt)
            guard (captured?.hostID ?? hosts[attempt.sequence.epoch]) != host.id else { continue }
            do throws(StorageError) {
                guard let age = try Self.age(of: attempt, store, clock) else { continue }
                if age * 1000 >= Double(options.orphanTTLMilliseconds) { try await store.abort(attempt) }
            } catch {
                // Its owner may be at work on it: what cannot be looked at is left alone.
                Log.shared.write(.debug, error.while_("looking at \(attempt) of another host").message)
            }
        }
    }

    /// The same on an object store, where unfinished work of this host is in its workspace. Goes on when the run is open, and
    /// ends with it.
    func collectObjects(_ progress: Progress) async {
        guard let objects = (store as? ObjectCheckpointStore)?.objects else { return }
        // The run's own backend does not end with this.
        let backend = ObjectBackend(objects, environment: environment, progress: progress)
        do throws(StorageError) {
            // Of our own heartbeat, which is at most a beat old.
            let clock = try await StoreClock.read(
                RunLayout.heartbeat(hold.epoch.number), in: objects, environment: environment, progress: progress)
            guard let leftovers = ObjectLeftovers(store, backend, clock, progress) else { return }
            let state = try await RunReader(backend: backend).read()
            for item in try await leftovers.find(state) {
                if hold.isReleased { return }
                // A record is old when it is listed; the rest may belong to somebody who is alive.
                let isRecord = item.key.hasPrefix(RunLayout.decisions)
                guard (item.epoch ?? 0) < hold.epoch.number else { continue }
                let isOld = item.isOlder(than: Double(options.orphanTTLMilliseconds) / 1000)
                guard isRecord || item.isDecided || isOld else { continue }
                try progress.checkCancelled()
                try await hold.check()
                try await item.remove()
            }
        } catch {
            if error.code == .cancelled { return }
            // What could not be collected now is collected by the next one.
            if hold.isReleased || hold.superseded != nil { return }
            Log.shared.write(.warning, error.while_("collecting what dead trainers left").message)
        }
    }

    /// Seconds since anything of an attempt changed; nil when that cannot be told.
    static func age(
        of attempt: AttemptID, _ store: any CheckpointStore, _ clock: StoreClock
    ) throws(StorageError) -> Double? {
        var newest = 0.0
        func look(_ path: String, _ depth: Int) throws(StorageError) {
            guard let status = try System.status(path) else { return }
            newest = max(newest, Double(status.changedNanoseconds) / 1e9)
            guard status.kind == .directory, depth < 64 else { return }
            for name in try System.list(path) { try look(Path.join(path, name), depth + 1) }
        }
        try look(store.directory(attempt), 0)
        try look(store.local(RunLayout.captured(attempt)), 0)
        return clock.age(of: newest)
    }
}
