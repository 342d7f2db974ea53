internal import CStorage

extension TrainingRun {
    /// Commits a sealed report and says so, in the one order that keeps what was said true: rename, snapshot, fence,
    /// and only then "committed".
    func commit(_ passage: inout Passage) async throws(StorageError) {
        let progress = Progress()
        // A holder that has been superseded commits nothing more: it would only make strays.
        try await checkFence(progress)
        let store = opened.checkpoints
        passage.commitHasBegun = true
        let (attempt, physicalName) = (passage.attempt, passage.physicalName)
        let outcome = try await retrying(progress) { () throws(StorageError) in
            try await store.commit(attempt, as: physicalName)
        }
        switch outcome {
        case .committed: break
        case .aborted:
            throw StorageError(
                .precondition, "the attempt \(passage.attempt) was removed by somebody before it was committed",
                details: [("path", .string(store.address(passage.physicalName)))])
        case .occupied:
            throw StorageError(
                .alreadyExists, "\(quoted(store.path(passage.physicalName))) exists and is not ours",
                details: [("path", .string(store.path(passage.physicalName)))])
        }
        if !store.uploads { await forget(attempt) }
        let entry = try entry(of: passage)
        opened.catalog.noteReport(index: passage.report.index)
        var isAnnounced = false
        do throws(StorageError) {
            try await retrying(progress) { () throws(StorageError) in try await opened.catalog.publish(entry) }
            isAnnounced = true
        } catch {
            // The commit is the truth; the snapshot is rebuilt from it, by the next report or the next open.
            Log.shared.write(.warning, error.while_("writing the snapshot").message)
        }
        // A snapshot that was written has told already, where it is the fence.
        try await checkFence(progress, looking: !isAnnounced)
        do throws(StorageError) { try metrics.sync() } catch {
            Log.shared.write(.warning, error.while_("syncing the metrics log").message)
        }
        // Ray's V1 reader fails on a checkpoint directory beside a result.json without rows.
        metrics.derive()
        await metrics.publishIfDue()
        if let place = passage.setAside { Self.remove(setAside: place) }
        settle(&passage, as: .committed)
        passage.report.advance(to: .committed, checkpoint: opened.catalog.document(of: entry))
        // A whole tree, for which nobody waits.
        if store.uploads { await forget(attempt) }
        if isAnnounced { await evict() }
    }

    /// A directory that was handed over and had to be copied: now that the copy is safe, it goes.
    static func remove(setAside place: String) {
        do throws(StorageError) { try TreeRemoval.remove(place) } catch {
            Log.shared.write(.warning, error.while_("removing \(quoted(place)), which was handed over").message)
        }
    }

    private func forget(_ attempt: AttemptID) async {
        do throws(StorageError) { try await opened.checkpoints.forget(attempt) } catch {
            Log.shared.write(.warning, error.while_("clearing away what was captured for \(attempt)").message)
        }
    }

    private func entry(of passage: Passage) throws(StorageError) -> CheckpointEntry {
        CheckpointEntry(
            attempt: passage.attempt, name: passage.name, physicalName: passage.physicalName,
            metrics: passage.job.metrics, createdAt: passage.record?.createdAt, bytes: passage.captured?.bytes,
            files: passage.captured?.fileCount)
    }

    private func checkFence(_ progress: Progress, looking: Bool = false) async throws(StorageError) {
        try await retrying(progress) { () throws(StorageError) in try await opened.hold.check(looking: looking) }
    }

    private func retrying<Value: Sendable>(
        _ progress: Progress, _ step: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        try await engine.retrying(retry, environment: environment, progress: progress, step)
    }

    /// Un-commits what the new checkpoint displaced. Its files go after 3 T: a newcomer that listed before may need them.
    private func evict() async {
        do throws(StorageError) {
            try await opened.catalog.evictAnnounced()
        } catch {
            Log.shared.write(.warning, error.while_("eviction").message)
        }
        guard !opened.catalog.current.trashed.isEmpty else { return }
        let pause = 3 * opened.hold.epoch.period
        engine.spawn { [weak self, engine] in
            await engine.sleep(milliseconds: pause)
            guard let self, self.isOpen else { return }
            try? await self.opened.catalog.purgeTrash(olderThanMilliseconds: pause)
        }
    }

    private var isOpen: Bool { monitor.withLock { phase == .open } }

    // MARK: - Ending

    /// Waits until every report has ended and the metrics are fsynced; the first failure that nobody has seen is its error.
    public func flush(_ deadline: Deadline) throws(StorageError) {
        try waitForReports(deadline, doing: "flush")
        try metrics.sync()
        metrics.derive()
        try metrics.publish(deadline)
        try throwUnobserved()
    }

    private func waitForReports(_ deadline: Deadline, doing: String) throws(StorageError) {
        try monitor.withLock { () throws(StorageError) in
            while let waiting = unsettled.first(where: { !$0.isFinal }) {
                if deadline.isPast || !deadline.wait(on: monitor), !waiting.isFinal {
                    let count = unsettled.filter { !$0.isFinal }.count
                    throw StorageError(
                        .timeout, "\(doing): \(count) reports have not ended, the first is report \(waiting.index)",
                        details: [("pending", true), ("reports", JSONValue(count))])
                }
            }
        }
    }

    private func throwUnobserved() throws(StorageError) {
        let failure: StorageError? = monitor.withLock {
            for report in unsettled { if let failure = report.takeFailure() { return failure } }
            return nil
        }
        if let failure { throw failure }
    }

    /// Flushes, says goodbye and lets go of the run. After a TIMEOUT it may be called again.
    public func close(_ deadline: Deadline) throws(StorageError) {
        let isFirst = monitor.withLock {
            guard phase == .open else { return false }
            phase = .closing
            return true
        }
        if isFirst {
            let last = monitor.withLock { tail }
            engine.spawn { [self] in
                await last?.value
                await finish()
            }
        }
        try waitForReports(deadline, doing: "close")
        try monitor.withLock { () throws(StorageError) in
            while phase != .closed {
                if deadline.isPast || !deadline.wait(on: monitor), phase != .closed {
                    throw StorageError(.timeout, "close: the run is being closed", details: [("pending", true)])
                }
            }
        }
        try throwUnobserved()
        if let failure = monitor.withLock({
            defer { closeFailure = nil }
            return closeFailure
        }) {
            throw failure
        }
    }

    /// Lets go of the run in the background, for a caller that does not wait.
    public func abandon() {
        do throws(StorageError) { try close(Deadline(timeoutMilliseconds: 0)) } catch {}
    }

    /// Closes from a task, which must not block a thread of the engine on others.
    func closeFromTask() async {
        let last = monitor.withLock {
            phase = .closing
            return tail
        }
        await last?.value
        await finish()
    }

    private func finish() async {
        var failure: StorageError?
        do throws(StorageError) { try await metrics.close() } catch { failure = error }
        await opened.collection?.finish(on: engine, isHopeless: failure != nil)
        do throws(StorageError) {
            try await opened.hold.check()
            opened.catalog.beginClosing()
            opened.catalog.noteReport(index: monitor.withLock { nextIndex } - 1)
            // Also what recovered reports displaced, where no report followed them.
            try await opened.catalog.publish(nil)
            try await opened.catalog.evictAnnounced()
            try await opened.catalog.purgeTrash()
            let document = JSONValue.make([
                "schema": 1, "epoch": JSONValue(epoch), "nonce": .string(opened.hold.epoch.nonce),
                "closed_at": .number(environment.now()),
            ])
            opened.hold.release()
            _ = try await opened.backend.create(RunLayout.closed(epoch), document)
        } catch {
            if failure == nil { failure = error }
        }
        opened.hold.release()
        opened.lock.release()
        OpenRuns.shared.leave(opened.runID)
        AllRuns.shared.remove(self)
        monitor.withLock {
            closeFailure = failure
            phase = .closed
            monitor.broadcast()
        }
    }

    /// Ends every open run of this process and stops the library's threads.
    public static func shutdown(_ deadline: Deadline) throws(StorageError) {
        guard Engine.exists else { return }
        var first: StorageError?
        for run in AllRuns.shared.all {
            do throws(StorageError) { try run.close(deadline) } catch { first = first ?? error }
        }
        if let first { throw first }
        Engine.shared.stop(deadline)
    }
}
