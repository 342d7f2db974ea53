internal import Synchronization

/// The metrics of one trainer: the log that every report goes to, and the files derived from it at most once a second.
final class MetricsRecorder: Sendable {
    private let log: MetricsLog
    private let files: ResultFiles
    /// nil: the files are where they belong.
    private let publisher: MetricsPublisher?
    private let hold: Hold
    private let environment: Environment
    private let engine: Engine
    private let isScheduled = Flag()
    private let isClosed = Flag()
    /// Deriving is not reentrant.
    private let deriving = Monitor()

    init(_ opened: OpenedRun, options: RunOptions, environment: Environment, engine: Engine) {
        log = MetricsLog(
            runDirectory: opened.workspace, epoch: opened.hold.epoch.number, isDurable: options.durability == .fsync,
            segmentBytes: opened.checkpoints.uploads ? MetricsPublisher.segmentBytes : nil)
        files = ResultFiles(runDirectory: opened.workspace, runID: opened.runID)
        publisher = (opened.checkpoints as? ObjectCheckpointStore).map { [log] store in
            let mirror = MetricsMirror(
                backend: opened.backend, store: store, log: log, epoch: opened.hold.epoch,
                environment: environment, engine: engine, derivedLimit: options.largestDerivedBytes)
            return MetricsPublisher(
                backend: opened.backend, mirror: mirror, hold: opened.hold, environment: environment)
        }
        hold = opened.hold
        self.environment = environment
        self.engine = engine
    }

    /// Adds a report's line; from any thread, without the run's monitor locked.
    func append(index: Int, checkpoint: String?, metricsJSON: [UInt8]) throws(StorageError) {
        try log.append(
            index: index, time: environment.now(), checkpointName: checkpoint, metricsJSON: metricsJSON)
        schedule()
    }

    /// A power cut takes at most the last second.
    private func schedule() {
        guard isScheduled.set() else { return }
        engine.spawnLog { [weak self, engine] in
            await engine.sleep(milliseconds: 1000)
            guard let self else { return }
            _ = self.isScheduled.clear()
            if self.isClosed.isSet { return }
            do throws(StorageError) { try self.log.sync() } catch {
                Log.shared.write(.warning, error.while_("syncing the metrics log").message)
            }
            self.derive()
            if self.publisher != nil { self.engine.spawn { [weak self] in await self?.publishIfDue() } }
        }
    }

    // MARK: - To the store

    /// At the start of a launch: what earlier ones of this machine left in their logs, and what only decisions tell.
    func begin() {
        guard let publisher else { return }
        engine.spawn { [weak self] in if !publisher.hasBegun { await self?.publishIfDue() } }
    }

    /// At a bounded rate; what fails is tried again the next time.
    func publishIfDue() async {
        guard let publisher, publisher.isDue, hold.mayWrite else { return }
        do throws(StorageError) { try await publishAll() } catch {
            Log.shared.write(.warning, error.while_("publishing the metrics").message)
        }
    }

    /// Everything that was added before the call, unless somebody else holds the run by now: SUPERSEDED.
    func publishAll() async throws(StorageError) {
        guard let publisher else { return }
        // One that was too busy to show a heartbeat may go on if nobody has taken over.
        try await hold.check()
        try await publisher.publish { self.deriveNow() }
    }

    /// The same for a caller that waits; TIMEOUT when the deadline comes first, and it goes on.
    func publish(_ deadline: Deadline) throws(StorageError) {
        guard publisher != nil else { return }
        try Operation { [self] _ throws(StorageError) in
            try await publishAll()
            return .null
        }.wait(deadline)
    }

    func sync() throws(StorageError) { try log.sync() }

    /// Brings `result.json` and `progress.csv` up to the log, if this trainer may write them.
    func derive() {
        // Of a run on a store they are made when they are published, from what was fetched before.
        if publisher == nil { deriveNow() }
    }

    private func deriveNow() {
        guard hold.mayWrite else { return }
        deriving.withLock {
            do throws(StorageError) { try files.update() } catch {
                Log.shared.write(.warning, error.while_("deriving result.json").message)
            }
        }
    }

    /// Ends the log and publishes all of it; the first failure is thrown when everything was tried.
    func close() async throws(StorageError) {
        isClosed.raise()
        var failure: StorageError?
        do throws(StorageError) {
            if let publisher {
                try await hold.check()
                try await publisher.prepare()
            }
        } catch { failure = error }
        do throws(StorageError) { try log.close() } catch { failure = failure ?? error }
        derive()
        if let failure { throw failure }
        try await publishAll()
    }

    // MARK: - Input

    static func validate(_ metricsJSON: [UInt8]) throws(StorageError) {
        do throws(JSONSyntaxError) {
            guard try JSONParser.validate(metricsJSON) else {
                throw JSONSyntaxError(reason: "a JSON object", offset: 0)
            }
        } catch {
            throw refusal(error)
        }
    }

    static func parse(_ metricsJSON: [UInt8]) throws(StorageError) -> JSONValue {
        do throws(JSONSyntaxError) {
            let value = try JSONParser.parse(metricsJSON)
            guard value.objectValue != nil else { throw JSONSyntaxError(reason: "a JSON object", offset: 0) }
            return value
        } catch {
            throw refusal(error)
        }
    }

    private static func refusal(_ error: JSONSyntaxError) -> StorageError {
        StorageError(
            .invalidArgument, "metrics must be a JSON object: expected \(error.reason) at byte \(error.offset)",
            details: [("name", "metrics"), ("offset", JSONValue(error.offset)), ("allowed", "a JSON object")])
    }
}
