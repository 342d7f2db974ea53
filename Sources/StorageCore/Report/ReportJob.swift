/// What `report` was called with, checked.
struct ReportJob: Sendable {
    var metricsJSON: [UInt8]
    var metrics: JSONValue
    var source: String
    /// nil: the default one.
    var name: String?
    /// The directory is moved in where that is possible.
    var handOver: Bool
    /// NO_UPLOAD: it stands in the run already.
    var isRegistration: Bool
}

/// One checkpoint on its way: what the steps of the pipeline hand on.
struct Passage: Sendable {
    let report: Report
    let job: ReportJob
    let attempt: AttemptID
    var name: String
    var physicalName: String
    var captured: Capture.Result?
    var record: CapturedRecord?
    var stagedBytes = 0
    /// From here on only the storage can say how it ends.
    var commitHasBegun = false
    /// Its metrics are in the log.
    var hasRow = false
    var isInQueue = false
    /// Where a directory went that was handed over and had to be copied: out of its owner's way, to be removed.
    var setAside: String?
    /// The directory without symbolic links on the way; set for one that is handed over.
    var source = ""
}

extension TrainingRun {
    /// Gives a report its number and starts its way. With `when_full` other than wait, a full queue is answered at once.
    func begin(_ job: ReportJob) throws(StorageError) -> Report {
        try engine.prepare()
        let report = try enter(job)
        if report.currentState == .dropped {
            try metrics.append(index: report.index, checkpoint: nil, metricsJSON: job.metricsJSON)
        }
        return report
    }

    private func enter(_ job: ReportJob) throws(StorageError) -> Report {
        try monitor.withLock { () throws(StorageError) -> Report in
            try checkAlive()
            var isInQueue = false
            if options.whenFull != .wait {
                isInQueue = admission.enter()
                if !isInQueue { return try refuse() }
            }
            let sequence = ReportSequence(epoch: epoch, index: nextIndex)
            let attempt = AttemptID(sequence: sequence, nonce: opened.hold.epoch.nonce)
            let name = job.name ?? CheckpointName.automatic(sequence)
            let report = makeReport(index: nextIndex, hasCheckpoint: true, name: name, state: .pending)
            nextIndex += 1
            unsettled.append(report)
            line.append(report.index)
            let passage = Passage(
                report: report, job: job, attempt: attempt, name: name, physicalName: name, isInQueue: isInQueue)
            // A chain: commits are published in the order of the calls, whatever overtakes whom before.
            let previous = tail
            tail = engine.spawn { [self] in
                await carry(passage, after: previous)
                await previous?.value
            }
            return report
        }
    }

    /// With the monitor locked. A report that is skipped is complete at once: its metrics are kept, its directory is not
    /// looked at.
    private func refuse() throws(StorageError) -> Report {
        if options.whenFull == .error {
            throw StorageError(
                .queueFull,
                "\(admission.pending) checkpoints are captured and not yet committed, max_pending_reports is"
                    + " \(admission.maxPending)",
                details: [("max_pending_reports", JSONValue(admission.maxPending))], isRetryable: true)
        }
        let report = makeReport(index: nextIndex, hasCheckpoint: false, name: nil, state: .dropped)
        nextIndex += 1
        counts[.dropped, default: 0] += 1
        return report
    }

    private func carry(_ start: Passage, after previous: Task<Void, Never>?) async {
        var passage = start
        let report = passage.report
        do throws(StorageError) {
            if !passage.isInQueue {
                try await enterQueue(report)
                passage.isInQueue = true
            }
            try await capture(&passage)
            leaveLine(report)
            report.advance(to: .captured)
            try await seal(&passage)
            report.advance(to: .sealed)
            if opened.checkpoints.uploads {
                report.advance(to: .uploading)
                try await opened.checkpoints.upload(
                    passage.attempt, as: passage.physicalName, progress: report.progress)
            }
            await previous?.value
            try report.progress.checkCancelled()
            report.advance(to: .uploading)
            try await commit(&passage)
        } catch {
            await fail(&passage, error)
        }
        leave(passage)
    }

    // MARK: - Limits

    private func enterQueue(_ report: Report) async throws(StorageError) {
        try await waitForRoom(report) {
            $0.enter()
        } orElse: { admission in
            StorageError(
                .queueFull, "\(admission.pending) checkpoints have been waiting for longer than retry_timeout_s",
                details: [("max_pending_reports", JSONValue(admission.maxPending))], isRetryable: true)
        }
    }

    /// Takes room for a copy; called by the capture when it knows the size and before it copies.
    func takeStaging(_ bytes: Int, _ report: Report) async throws(StorageError) {
        let full = { (admission: Admission) in
            StorageError(
                .stagingFull,
                "\(bytes) bytes do not fit beside the \(admission.bytes) that are not committed yet; staging_max_bytes is"
                    + " \(admission.maxBytes)",
                details: [("staging_max_bytes", JSONValue(admission.maxBytes)), ("bytes", JSONValue(bytes))],
                isRetryable: true)
        }
        if options.whenFull == .wait {
            return try await waitForRoom(report, { $0.take(bytes: bytes) }, orElse: full)
        }
        if let admission = monitor.withLock({ admission.take(bytes: bytes) ? nil : admission }) {
            throw full(admission)
        }
    }

    private func waitForRoom(
        _ report: Report, _ take: (inout Admission) -> Bool, orElse error: (Admission) -> StorageError
    ) async throws(StorageError) {
        let start = environment.bootMilliseconds()
        var pause: Int64 = 1
        while true {
            try report.progress.checkCancelled()
            if monitor.withLock({ line.first == report.index && take(&admission) }) { return }
            if environment.bootMilliseconds() - start >= options.retryTimeoutMilliseconds {
                throw error(monitor.withLock { admission })
            }
            await engine.sleep(milliseconds: pause)
            pause = min(pause * 2, 20)
        }
    }

    /// Room is not asked for any more: the next may have its turn.
    func leaveLine(_ report: Report) { monitor.withLock { line.removeAll { $0 == report.index } } }

    /// Gives back the room and the name of a report, before anybody is told of its end: who waited for it may count on
    /// both.
    func settle(_ passage: inout Passage, as state: ReportState) {
        monitor.withLock {
            admission.give(bytes: passage.stagedBytes)
            if passage.isInQueue { admission.leave() }
            counts[state, default: 0] += 1
            if state == .failed || state == .dropped { failedAttempts.insert(passage.attempt) }
        }
        passage.stagedBytes = 0
        passage.isInQueue = false
    }

    private func leave(_ passage: Passage) {
        leaveLine(passage.report)
        monitor.withLock {
            unsettled.removeAll { $0.isFinal && !$0.hasUnobservedFailure }
            monitor.broadcast()
        }
    }
}
