internal import CStorage
internal import Glibc

/// How one report is made.
public struct ReportOptions: Sendable {
    /// When `report` returns, and what it does with the directory.
    public enum Mode: Sendable { case async, sync, noUpload }
    /// ASYNC by default.
    public var mode = Mode.async
    /// nil: `checkpoint_<epoch>_<index>`.
    public var checkpointDirName: String?
    /// The directory is handed over.
    public var deleteLocalAfterUpload = false

    /// All defaults.
    public init() {}
}

/// An open run: takes reports from any thread, and carries each from capture to commit on the engine's threads.
public final class TrainingRun: @unchecked Sendable {
    // Proof for @unchecked: the variables below `monitor` are only touched with it locked.
    let options: RunOptions
    let opened: OpenedRun
    let engine: Engine
    let environment: Environment
    let metrics: MetricsRecorder
    let retry: RetryPolicy
    let eventDescriptor: Int32
    /// Of all captures and seals of this run.
    let buffers: BufferPool

    let monitor = Monitor()
    var nextIndex = 0
    var admission: Admission
    var tail: Task<Void, Never>?
    /// Reports with a checkpoint that have not ended, or ended with a failure that nobody has been told.
    var unsettled: [Report] = []
    var failedAttempts = Set<AttemptID>()
    /// Reports that have not got their room yet, in order: a later one that took it first would wait for an earlier one.
    var line: [Int] = []
    var makingRoom = 0
    var verified = Set<AttemptID>()
    var counts: [ReportState: Int] = [:]
    var bytesCaptured = 0
    var phase = Phase.open
    var closeFailure: StorageError?

    enum Phase { case open, closing, closed }

    var epoch: Int { opened.hold.epoch.number }

    /// Opens a run; see `raystorage_run_open`.
    public static func open(
        _ options: RunOptions, environment: Environment = .system, progress: Progress
    ) async throws(StorageError) -> TrainingRun {
        try await open(
            Takeover(options: options, environment: environment, engine: Engine.shared, progress: progress))
    }

    static func open(_ takeover: Takeover) async throws(StorageError) -> TrainingRun {
        let opened = try await takeover.open()
        do throws(StorageError) {
            let run = try TrainingRun(opened, takeover.options, takeover.environment, takeover.engine)
            AllRuns.shared.add(run)
            run.metrics.begin()
            return run
        } catch {
            opened.hold.release()
            opened.lock.release()
            OpenRuns.shared.leave(opened.runID)
            throw error
        }
    }

    private init(
        _ opened: OpenedRun, _ options: RunOptions, _ environment: Environment, _ engine: Engine
    ) throws(StorageError) {
        self.opened = opened
        self.options = options
        self.environment = environment
        self.engine = engine
        metrics = MetricsRecorder(opened, options: options, environment: environment, engine: engine)
        buffers = BufferPool(limitBytes: options.maxInflightBytes)
        retry = RetryPolicy(timeoutMilliseconds: options.retryTimeoutMilliseconds)
        let limit: Int
        if let given = options.stagingMaxBytes {
            limit = given
        } else {
            limit = try System.freeBytes(opened.workspace) / 2
        }
        admission = Admission(maxPending: options.maxPendingReports, maxBytes: limit)
        eventDescriptor = try System.check("eventfd", opened.workspace) { cs_eventfd() }
    }

    deinit { _ = cs_close(eventDescriptor) }

    /// The run's directory.
    public var path: String { opened.address }
    /// Readable after any report has changed its state.
    public var eventFileDescriptor: Int32 { eventDescriptor }

    /// The document of `raystorage_run_info`.
    public var info: JSONValue {
        .make([
            "schema": 1, "run_id": .string(opened.runID), "name": .string(opened.name), "path": .string(opened.address),
            "storage_path": .string(opened.storagePath), "epoch": JSONValue(epoch), "rank": JSONValue(options.rank),
            "world_size": JSONValue(options.worldSize), "staging_dir": .string(opened.host.directory),
            "resumed_from": opened.resumedFrom.map { opened.catalog.document(of: $0) } ?? .null,
            "recovered": .array(opened.recovered.map { .string($0) }),
            "lost": .array(opened.lost.map(\.document)),
        ])
    }

    /// The document of `raystorage_run_stats`.
    public var stats: JSONValue {
        let document = monitor.withLock {
            JSONValue.make([
                "reports": JSONValue(nextIndex), "pending": JSONValue(admission.pending),
                "staged_bytes": JSONValue(admission.bytes), "staging_max_bytes": JSONValue(admission.maxBytes),
                "captured_bytes": JSONValue(bytesCaptured),
                "states": .object(
                    ReportState.allCases.filter(\.isFinal).map { JSONMember($0.name, JSONValue(counts[$0] ?? 0)) }),
            ])
        }
        return .object((document.objectValue ?? []) + opened.counters.members)
    }

    /// The run's checkpoints, oldest first.
    public var checkpoints: JSONValue { opened.catalog.documents }

    // MARK: - Reporting

    /// Takes a report. Returns when it is complete (metrics only) or begun; see `Report.waitCaptured`.
    public func report(
        metricsJSON: [UInt8], directory: String?, options: ReportOptions
    ) throws(StorageError) -> Report {
        guard let directory else {
            if let name = options.checkpointDirName {
                throw StorageError(
                    .invalidArgument, "checkpoint_dir_name \(quoted(name)) needs a checkpoint",
                    details: [("name", "checkpoint_dir_name"), ("value", .string(name))])
            }
            return try reportMetrics(metricsJSON)
        }
        try monitor.withLock { () throws(StorageError) in try checkAlive() }
        let document = try MetricsRecorder.parse(metricsJSON)
        try self.options.retention.validateScore(in: document)
        var name = options.checkpointDirName
        if options.mode == .noUpload { name = try registeredName(directory, name) }
        if let name { try CheckpointName.validate(name) }
        return try begin(
            ReportJob(
                metricsJSON: metricsJSON, metrics: document, source: directory, name: name,
                handOver: options.deleteLocalAfterUpload || options.mode == .noUpload,
                isRegistration: options.mode == .noUpload))
    }

    /// The hot path: one look at the state, one write(2).
    private func reportMetrics(_ metricsJSON: [UInt8]) throws(StorageError) -> Report {
        try MetricsRecorder.validate(metricsJSON)
        let index = try monitor.withLock { () throws(StorageError) -> Int in
            try checkAlive()
            nextIndex += 1
            counts[.committed, default: 0] += 1
            return nextIndex - 1
        }
        // Not with the monitor locked: a write that hangs must not keep others from waiting with a time-out.
        try metrics.append(index: index, checkpoint: nil, metricsJSON: metricsJSON)
        return makeReport(index: index, hasCheckpoint: false, name: nil, state: .committed)
    }

    func makeReport(index: Int, hasCheckpoint: Bool, name: String?, state: ReportState) -> Report {
        Report(
            index: index, hasCheckpoint: hasCheckpoint, name: name, state: state, monitor: monitor,
            onChange: { [eventDescriptor, weak self] in
                guard self != nil else { return }
                var one: UInt64 = 1
                _ = cs_write(eventDescriptor, &one, 8)
            },
            syncMetrics: { [metrics] () throws(StorageError) in try metrics.sync() })
    }

    /// With the monitor locked: refuses a report on a run that is closed, and tells of a failure that nobody has seen,
    /// once, before anything of the new report is done.
    func checkAlive() throws(StorageError) {
        guard phase == .open else {
            throw StorageError(.closed, "the run \(quoted(path)) is closed", details: [("path", .string(path))])
        }
        if let superseded = opened.hold.superseded { throw superseded }
        if unsettled.isEmpty { return }
        if let failed = unsettled.first(where: \.hasUnobservedFailure), var failure = failed.takeFailure() {
            failure.message =
                "an earlier report (\(failed.index)) failed: \(failure.message); this report was not taken, report again"
            failure.details += [("earlier", true), ("earlier_report", JSONValue(failed.index))]
            throw failure
        }
        unsettled.removeAll(where: \.isFinal)
    }

    /// NO_UPLOAD: a directory directly below the run, registered under its own name.
    private func registeredName(_ directory: String, _ given: String?) throws(StorageError) -> String {
        var trimmed = directory
        while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed.removeLast() }
        let name = Path.name(trimmed)
        guard try Path.resolved(Path.parent(trimmed)).utf8.elementsEqual(try Path.resolved(path).utf8) else {
            throw StorageError(
                .invalidArgument,
                "NO_UPLOAD registers a directory directly below the run \(quoted(path)), not \(quoted(directory))",
                details: [("path", .string(directory)), ("allowed", .string(path + "/<name>"))])
        }
        if let given, !given.utf8.elementsEqual(name.utf8) {
            throw StorageError(
                .invalidArgument, "NO_UPLOAD keeps the directory's name \(quoted(name)), not \(quoted(given))",
                details: [("name", "checkpoint_dir_name"), ("value", .string(given)), ("allowed", .string(name))])
        }
        return name
    }
}
