/// Long work on the engine's threads that a caller waits for in slices, asks for progress, or cancels.
public final class Operation: @unchecked Sendable {
    // Proof for @unchecked: the variables are only touched with `monitor` locked.
    private let monitor = Monitor()
    private var result: Result<JSONValue, StorageError>?
    private var run: TrainingRun?
    private var isAbandoned = false
    /// What it shows while it runs.
    public let progress = Progress()

    /// Starts work that yields a document.
    ///
    /// Errors: IO when the system gives no threads.
    public init(_ body: @escaping @Sendable (Progress) async throws(StorageError) -> JSONValue) throws(StorageError) {
        try Engine.shared.prepare()
        Engine.shared.spawn { [self] in
            do throws(StorageError) { end(.success(try await body(progress))) } catch { end(.failure(error)) }
        }
    }

    /// Starts the opening of a run.
    public init(opening options: RunOptions) throws(StorageError) {
        try Engine.shared.prepare()
        Engine.shared.spawn { [self] in
            do throws(StorageError) {
                let run = try await TrainingRun.open(options, progress: progress)
                monitor.withLock { self.run = run }
                end(.success(run.info))
                if monitor.withLock({ isAbandoned }) { takeRun()?.abandon() }
            } catch {
                end(.failure(error))
            }
        }
    }

    private func end(_ outcome: Result<JSONValue, StorageError>) {
        monitor.withLock {
            result = outcome
            monitor.broadcast()
        }
    }

    /// Waits for the end; TIMEOUT when the deadline comes first, the operation's own error when it failed.
    public func wait(_ deadline: Deadline) throws(StorageError) {
        let outcome = monitor.withLock {
            while result == nil {
                if deadline.isPast || !deadline.wait(on: monitor) { break }
            }
            return result
        }
        guard let outcome else {
            throw StorageError(.timeout, "the operation goes on", details: [("pending", true)])
        }
        _ = try outcome.get()
    }

    /// The document that it yielded.
    public func document() throws(StorageError) -> JSONValue {
        guard let result = monitor.withLock({ result }) else {
            throw StorageError(.timeout, "the operation goes on", details: [("pending", true)])
        }
        return try result.get()
    }

    /// The run that it opened, once.
    public func takeRun() -> TrainingRun? {
        monitor.withLock {
            defer { run = nil }
            return run
        }
    }

    /// Asks it to end.
    public func cancel() { progress.cancel() }

    /// Nobody waits for it any more: it is cancelled, and a run that it opened is let go of.
    public func abandon() {
        progress.cancel()
        monitor.withLock { isAbandoned = true }
        takeRun()?.abandon()
    }
}
