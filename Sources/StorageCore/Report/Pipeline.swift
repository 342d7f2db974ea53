internal import CStorage

extension TrainingRun {
    // MARK: - Capture

    /// Takes the directory in, so that it is the caller's again. Nothing is written before the name is ours and the
    /// directory's entries have been looked at.
    func capture(_ passage: inout Passage) async throws(StorageError) {
        let report = passage.report
        let source = try Capture.resolve(passage.job.source)
        passage.physicalName = try await claim(passage)
        if passage.job.handOver {
            // Without links, which the record would lead astray. Should we die between the rename and the journal entry, the
            // directory can be given back.
            passage.source = source
            try await writeRecord(&passage, isComplete: false)
        }
        let start = cs_monotonic_ns()
        do throws(StorageError) {
            passage.captured = try await captureOnce(&passage)
        } catch {
            guard error.code == .noSpace, error.detailsDocument[Capture.keptAt] == nil else { throw error }
            // What is committed or evicted meanwhile makes room.
            try await makeRoom(report)
            if passage.job.handOver { try await writeRecord(&passage, isComplete: false) }
            passage.captured = try await captureOnce(&passage)
        }
        guard let captured = passage.captured else { return }
        report.note(captured, seconds: Double(cs_monotonic_ns() - start) / 1e9)
        monitor.withLock { bytesCaptured += captured.bytes }
        try metrics.append(
            index: report.index, checkpoint: passage.physicalName, metricsJSON: passage.job.metricsJSON)
        passage.hasRow = true
        if captured.removesSourceAfterCommit {
            passage.setAside = Path.join(
                Path.parent(passage.source), "\(Self.asidePrefix)\(passage.attempt)-\(environment.randomHex(4))")
        }
        // Before the source is set aside: with the record nothing of it is needed any more.
        try await writeRecord(&passage, isComplete: true)
        setAside(&passage)
    }

    /// A directory that was handed over is gone when `report` returns, copied or not: its owner may use the name again.
    private func setAside(_ passage: inout Passage) {
        guard let place = passage.setAside else { return }
        do throws(StorageError) {
            try System.check("rename", passage.source) { cs_rename_noreplace(passage.source, place) }
        } catch {
            passage.setAside = nil
            Log.shared.write(
                .warning,
                error.while_("\(quoted(passage.source)) was handed over and copied, but cannot be removed").message)
        }
    }

    static let asidePrefix = ".raystorage-handed-over-"

    private func captureOnce(_ passage: inout Passage) async throws(StorageError) -> Capture.Result {
        let report = passage.report
        let staged = Staged()
        defer { passage.stagedBytes = staged.bytes }
        let held = passage.stagedBytes
        staged.bytes = held
        return try await Capture.run(
            source: passage.job.source, into: opened.checkpoints.directory(passage.attempt),
            handOver: passage.job.handOver, runDirectory: opened.workspace, progress: report.progress,
            buffers: buffers
        ) { [self, handOver = passage.job.handOver, attempt = passage.attempt] bytes throws(StorageError) in
            // From here on it is a copy: there is nothing to give back, and half of one must not be.
            if handOver { _ = try System.unlink(opened.checkpoints.local(RunLayout.captured(attempt))) }
            guard staged.bytes == 0 else { return }
            try await takeStaging(bytes, report)
            staged.bytes = bytes
        }
    }

    /// A number that a closure and its caller share; they run one after the other.
    private final class Staged: @unchecked Sendable { var bytes = 0 }

    /// Waits, as `when_full` says, for what other reports still hold, and removes what is evicted.
    private func makeRoom(_ report: Report) async throws(StorageError) {
        Log.shared.write(.warning, "no space for report \(report.index): making room, then trying again")
        if options.whenFull == .wait {
            monitor.withLock { makingRoom += 1 }
            defer { monitor.withLock { makingRoom -= 1 } }
            let start = environment.bootMilliseconds()
            // Those that wait for room as well will not make any.
            while monitor.withLock({ admission.pending > makingRoom }),
                environment.bootMilliseconds() - start < options.retryTimeoutMilliseconds
            {
                try report.progress.checkCancelled()
                await engine.sleep(milliseconds: 20)
            }
        }
        // A snapshot that could not be written on a full disk announced nothing; what was removed made room for it.
        try? await opened.catalog.publish(nil)
        try? await opened.catalog.evictAnnounced()
        try? await opened.catalog.purgeTrash()
    }

    private func writeRecord(_ passage: inout Passage, isComplete: Bool) async throws(StorageError) {
        let record = CapturedRecord(
            runID: opened.runID, attempt: passage.attempt, name: passage.name, physicalName: passage.physicalName,
            metrics: passage.job.metrics, hostID: opened.host.id, bootID: opened.host.bootID,
            createdAt: environment.now(), durability: options.durability, isComplete: isComplete,
            source: passage.job.handOver ? passage.source : nil, setAside: passage.setAside)
        passage.record = record
        // Not fsynced: what survives a power cut is the manifest. A kill leaves the page cache as it is.
        let journal = LocalBackend(
            root: opened.workspace, durability: .none, temporaryTag: opened.host.temporaryTag, environment: environment)
        _ = try await journal.replace(
            RunLayout.captured(passage.attempt), record.document.compactBytes, ifVersion: nil)
    }

    // MARK: - Names

    /// Makes a name ours for ever and returns the directory that goes with it. Default names need no claim: epoch and
    /// index are ours alone.
    private func claim(_ passage: Passage) async throws(StorageError) -> String {
        guard passage.job.name != nil else { return passage.name }
        let name = passage.name
        let document = JSONValue.make([
            "schema": 1, "run_id": .string(opened.runID), "name": .string(name),
            "attempt": .string(passage.attempt.description),
        ])
        while true {
            let existing = try await claims(on: name)
            let failed = monitor.withLock { failedAttempts }
            let history = opened.catalog.current.history
            switch NameClaim.decide(existing: existing, history: history, epoch: epoch, failed: failed) {
            case .taken(let attempt):
                throw StorageError(
                    .alreadyExists,
                    "checkpoint_dir_name \(quoted(name)) is taken by report \(attempt.sequence.index) of epoch"
                        + " \(attempt.sequence.epoch): a name belongs to one report of a job's history",
                    details: [
                        ("name", "checkpoint_dir_name"), ("value", .string(name)),
                        ("attempt", .string(attempt.description)), ("path", .string(opened.root)),
                    ])
            case .first:
                if !passage.job.isRegistration, try await opened.checkpoints.isOccupied(name) {
                    throw StorageError(
                        .alreadyExists,
                        "\(quoted(opened.checkpoints.path(name))) exists and is no checkpoint of this run",
                        details: [("name", "checkpoint_dir_name"), ("value", .string(name))])
                }
                if try await opened.backend.create(RunLayout.claim(name), document) { return name }
            case .further:
                _ = try await opened.backend.create(RunLayout.claim(name, passage.attempt), document)
                return CheckpointName.physical(name: name, attempt: passage.attempt, isFirstClaim: false)
            }
        }
    }

    private func claims(on name: String) async throws(StorageError) -> [AttemptID] {
        guard let first = try await opened.backend.readDocument(RunLayout.claim(name)) else { return [] }
        guard let claimant = first["attempt"]?.stringValue.flatMap(AttemptID.init) else {
            let path = opened.checkpoints.path(RunLayout.claim(name))
            throw StorageError(.checksum, "\(quoted(path)) names no attempt", details: [("path", .string(path))])
        }
        var attempts = [claimant]
        let prefix = Array("\(name)~".utf8)
        for file in try await opened.backend.list(RunLayout.names) where file.utf8.starts(with: prefix) {
            let attempt = String(decoding: file.utf8.dropFirst(prefix.count).dropLast(5), as: UTF8.self)
            if let attempt = AttemptID(attempt) { attempts.append(attempt) }
        }
        return attempts
    }

    // MARK: - Seal

    func seal(_ passage: inout Passage) async throws(StorageError) {
        guard let record = passage.record, let captured = passage.captured else { return }
        try await Sealing.seal(
            directory: opened.checkpoints.directory(passage.attempt), captured: captured, record: record,
            progress: passage.report.progress, buffers: buffers)
        // The files' list is large and not needed again.
        passage.captured?.files = []
    }

    // MARK: - Failure

    /// Ends a report that will not become a checkpoint: what was copied is removed, what was handed over goes back. When
    /// the storage did not say what became of the commit, nothing is touched.
    func fail(_ passage: inout Passage, _ error: StorageError) async {
        let report = passage.report
        var failure = error
        let commitHadBegun = report.currentState == .uploading && (passage.commitHasBegun || !isCancelled(error))
        var outcome = ReportOutcome.state(after: error, commitHadBegun: commitHadBegun)
        if commitHadBegun, hangsOnAbort(passage, error) { outcome = await winsAbort(passage) ? .failed : .unknown }
        let isUnknown = outcome == .unknown
        if !isUnknown, error.code != .superseded, error.detailsDocument[Capture.keptAt] == nil {
            do throws(StorageError) { try await undo(passage) } catch {
                failure.message += "; cleaning up failed: \(error.message)"
            }
        }
        let isSkipped =
            options.whenFull == .skip && [.stagingFull, .noSpace].contains(error.code)
            && report.currentState == .pending
        // The metrics outlive the checkpoint. What was refused as wrong was not reported, and a run that was taken over is
        // somebody else's.
        if !passage.hasRow, error.code != .invalidArgument, error.code != .superseded {
            do throws(StorageError) {
                try metrics.append(index: report.index, checkpoint: nil, metricsJSON: passage.job.metricsJSON)
            } catch {
                failure = error
            }
        }
        if !isSkipped {
            Log.shared.write(
                .warning, "report \(report.index) (\(passage.name)) ended: \(failure.message)",
                [("code", .string(failure.code.description)), ("details", failure.detailsDocument)])
        }
        let ending = isSkipped ? .dropped : outcome
        settle(&passage, as: ending)
        report.end(failure, as: ending, isExpected: isSkipped)
    }

    /// An upload may be given up as long as nothing was decided. Where it is cut off by a network that is gone for good,
    /// the abort cannot be won either: that ends UNKNOWN, everything is kept, and the next open goes on from it.
    private func isCancelled(_ error: StorageError) -> Bool { error.code == .cancelled }

    /// Whether only who wins the abort knows that a report on a store has failed: when the store answers and does not take
    /// the files; and when the decision was sent and an error came that no retry mends (a role that was revoked), because
    /// that may follow a lost reply.
    private func hangsOnAbort(_ passage: Passage, _ error: StorageError) -> Bool {
        guard opened.checkpoints is ObjectCheckpointStore, error.code != .superseded, error.code != .cancelled else {
            return false
        }
        if passage.commitHasBegun { return !error.isRetryable }
        return error.isRetryable && error.detailsDocument["http_status"] != nil
    }

    private func winsAbort(_ passage: Passage) async -> Bool {
        guard let store = opened.checkpoints as? ObjectCheckpointStore else { return false }
        let limit = Progress()
        return await engine.limit(limit, milliseconds: Self.giveUpMilliseconds) {
            (try? await store.giveUp(passage.attempt, environment: environment, progress: limit)) ?? false
        }
    }

    /// How long a report that has failed already waits for its abort.
    private static let giveUpMilliseconds: Int64 = 30_000

    /// First the journal: whatever happens then, no later open takes what failed for a captured report. After a failed
    /// fsync its pages count as clean, and a second fsync would "succeed".
    private func undo(_ passage: Passage) async throws(StorageError) {
        if passage.captured?.method == .renamed {
            var intent = passage
            try await writeRecord(&intent, isComplete: false)
            try await opened.checkpoints.giveBack(passage.attempt, to: passage.source)
            return
        }
        _ = try System.unlink(opened.checkpoints.local(RunLayout.captured(passage.attempt)))
        if let place = passage.setAside {
            try System.check("rename", place) { cs_rename_noreplace(place, passage.source) }
        }
        try await opened.checkpoints.abort(passage.attempt)
    }
}
