internal import Synchronization

/// The metrics of one trainer: the log that every report goes to, and the files derived from it at most once a second.
final class MetricsRecorder: Sendable {
    private let log: MetricsLog
    private let files: ResultFiles
    private let hold: Hold
    private let environment: Environment
    private let engine: Engine
    private let isScheduled = Flag()
    private let isClosed = Flag()
    /// Deriving is not reentrant.
    private let deriving = Monitor()

    init(_ opened: OpenedRun, durability: Durability, environment: Environment, engine: Engine) {
        log = MetricsLog(
            runDirectory: opened.root, epoch: opened.hold.epoch.number, isDurable: durability == .fsync)
        files = ResultFiles(runDirectory: opened.root, runID: opened.runID)
        hold = opened.hold
        self.environment = environment
        self.engine = engine
    }

    /// Adds a report's line; called with the run's monitor locked.
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
        }
    }

    func sync() throws(StorageError) { try log.sync() }

    /// Brings `result.json` and `progress.csv` up to the log, if this trainer may write them.
    func derive() {
        guard hold.mayWrite else { return }
        deriving.withLock {
            do throws(StorageError) { try files.update() } catch {
                Log.shared.write(.warning, error.while_("deriving result.json").message)
            }
        }
    }

    func close() throws(StorageError) {
        isClosed.raise()
        var failure: StorageError?
        do throws(StorageError) { try log.close() } catch { failure = error }
        derive()
        if let failure { throw failure }
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
