/// One `report()` call: a handle that any thread may ask and wait on.
public final class Report: @unchecked Sendable {
    // Proof for @unchecked: the variables are only touched with `monitor`, that of the run, locked.
    /// The number of the call within its epoch.
    public let index: Int
    let hasCheckpoint: Bool
    let progress = Progress()
    private let monitor: Monitor
    private var state: ReportState
    private var failure: StorageError?
    private var name: String?
    private var checkpoint: JSONValue = .null
    private var isObserved = false
    private var captureSeconds: Double?
    private var captured: (method: String, bytes: Int, files: Int)?
    private let onChange: @Sendable () -> Void
    private let syncMetrics: @Sendable () throws(StorageError) -> Void

    init(
        index: Int, hasCheckpoint: Bool, name: String?, state: ReportState, monitor: Monitor,
        onChange: @escaping @Sendable () -> Void, syncMetrics: @escaping @Sendable () throws(StorageError) -> Void
    ) {
        self.index = index
        self.hasCheckpoint = hasCheckpoint
        self.name = name
        self.state = state
        self.monitor = monitor
        self.onChange = onChange
        self.syncMetrics = syncMetrics
    }

    /// Where it stands.
    public var currentState: ReportState { monitor.withLock { state } }

    /// Moves on, if it may from where it is.
    @discardableResult
    func advance(to next: ReportState, checkpoint document: JSONValue? = nil) -> Bool {
        let moved = monitor.withLock {
            guard state.mayBecome(next) else { return false }
            state = next
            if let document { checkpoint = document }
            monitor.broadcast()
            return true
        }
        if moved { onChange() }
        return moved
    }

    /// Ends with an error, or dropped without one.
    func end(_ error: StorageError, as outcome: ReportState, isExpected: Bool = false) {
        monitor.withLock {
            guard state.mayBecome(outcome) else { return }
            state = outcome
            failure = isExpected ? nil : error
            monitor.broadcast()
        }
        onChange()
    }

    func note(_ result: Capture.Result, seconds: Double) {
        monitor.withLock {
            captureSeconds = seconds
            captured = (result.method.rawValue, result.bytes, result.fileCount)
        }
    }

    // MARK: - With the monitor locked by the run

    /// A failure that nobody has been told about.
    var hasUnobservedFailure: Bool { !isObserved && (state == .failed || state == .unknown) }
    var isFinal: Bool { state.isFinal }

    func takeFailure() -> StorageError? {
        guard hasUnobservedFailure else { return nil }
        isObserved = true
        return failure
    }

    // MARK: - Waiting

    /// Waits until the directory is the caller's again; the error of a report that failed before.
    public func waitCaptured(_ deadline: Deadline) throws(StorageError) {
        try wait(deadline) { $0 != .pending }
    }

    /// Waits until the report is durable; its error if it is not going to be.
    public func wait(_ deadline: Deadline) throws(StorageError) {
        try wait(deadline) { $0.isFinal }
        if !hasCheckpoint { try syncMetrics() }
    }

    private func wait(_ deadline: Deadline, until isDone: (ReportState) -> Bool) throws(StorageError) {
        try monitor.withLock { () throws(StorageError) in
            while !isDone(state) {
                if deadline.isPast || !deadline.wait(on: monitor), !isDone(state) {
                    throw StorageError(
                        .timeout, "report \(index) is \(state.name) and goes on",
                        details: [("pending", true), ("state", .string(state.name)), ("index", JSONValue(index))])
                }
            }
            if let failure {
                isObserved = true
                throw failure
            }
        }
    }

    /// Drops the report unless its commit has begun; then it goes on as it is.
    public func cancel() { progress.cancel() }

    /// The "checkpoint" document of a committed report, null otherwise.
    public var checkpointDocument: JSONValue { monitor.withLock { checkpoint } }

    /// Everything about it, for people.
    public var document: JSONValue {
        monitor.withLock {
            .make([
                "index": JSONValue(index), "state": .string(state.name), "name": .optional(name),
                "bytes": JSONValue(captured?.bytes ?? 0), "files": JSONValue(captured?.files ?? 0),
                "capture": .optional(captured?.method),
                "captured_in_ms": captureSeconds.map { .number($0 * 1000) } ?? .null,
                "error": .optional(failure?.message), "progress": progress.document,
            ])
        }
    }
}
