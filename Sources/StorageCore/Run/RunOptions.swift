/// How a run is opened. Defaults are those of `raystorage_run_options`.
public struct RunOptions: Sendable {
    /// Whether an existing run is gone on with, needed, or refused.
    public enum Resume: Sendable { case auto, must, never }
    /// What `report` does when a limit is reached.
    public enum WhenFull: Sendable { case wait, skip, error }

    /// nil: environment, then `~/ray_results`.
    public var storagePath: String?
    /// Options of the storage, an object; nil: none.
    public var storageOptions: JSONValue?
    /// nil: environment, then a fresh name.
    public var name: String?
    /// This process's rank.
    public var rank = 0
    /// Ranks of the job; more than 1 is refused for now.
    public var worldSize = 1
    /// Existing runs.
    public var resume = Resume.auto
    /// Limits.
    public var whenFull = WhenFull.wait
    /// fsync or not.
    public var durability = Durability.fsync
    /// Checkpoints captured and not yet committed.
    public var maxPendingReports = 8
    /// Which checkpoints are kept.
    public var retention = RetentionPolicy()
    /// Without progress for so long a report fails.
    public var retryTimeoutMilliseconds: Int64 = 3_600_000
    /// Opening finishes a dead trainer's reports for so long; -1: no limit.
    public var drainTimeoutMilliseconds: Int64 = 600_000
    /// T.
    public var heartbeatMilliseconds = 10_000
    /// Unfinished work of other hosts is collected after this.
    public var orphanTTLMilliseconds: Int64 = 7 * 24 * 3_600_000
    /// Bytes captured and not yet committed; nil: half of the free space at opening.
    public var stagingMaxBytes: Int?
    /// Bytes between source and storage at any time: buffers of captures and seals. At least one buffer is used.
    public var maxInflightBytes = 64 << 20
    /// A checkpoint to go on from, by name.
    public var resumeFrom: String?
    /// The staging directory.
    public var stagingDirectory: String?
    /// How long `result.json` and `progress.csv` may become on a store; the segments have every row in any case.
    var largestDerivedBytes = 256 << 20

    /// An hour.
    static let longestHeartbeat = 3_600_000

    /// All defaults.
    public init() {}

    /// Refuses what cannot be, naming the value and what is allowed.
    func validate() throws(StorageError) {
        func refuse(_ name: String, _ value: some CustomStringConvertible, _ allowed: String) -> StorageError {
            StorageError(
                .invalidArgument, "\(name) must be \(allowed), not \(value)",
                details: [
                    ("name", .string(name)), ("value", .string(value.description)), ("allowed", .string(allowed)),
                ])
        }
        if worldSize < 1 { throw refuse("world_size", worldSize, "at least 1") }
        if rank < 0 || rank >= worldSize { throw refuse("rank", rank, "from 0 to world_size - 1") }
        if worldSize > 1 {
            throw StorageError(
                .notSupported,
                "world_size \(worldSize): runs with several ranks are not built yet, and ranks must not overwrite each"
                    + " other in silence; report from one rank only, with rank=0 and world_size=1",
                details: [("name", "world_size"), ("value", JSONValue(worldSize)), ("allowed", "1")])
        }
        if maxPendingReports < 1 { throw refuse("max_pending_reports", maxPendingReports, "at least 1") }
        if maxInflightBytes < 1 { throw refuse("max_inflight_bytes", maxInflightBytes, "at least 1") }
        let heartbeats = EpochRecord.allowedHeartbeats
        if !heartbeats.contains(heartbeatMilliseconds) {
            throw refuse(
                "heartbeat_ms", heartbeatMilliseconds, "from \(heartbeats.lowerBound) to \(heartbeats.upperBound)")
        }
        if retryTimeoutMilliseconds < 1 { throw refuse("retry_timeout_ms", retryTimeoutMilliseconds, "at least 1") }
        if orphanTTLMilliseconds < 1 { throw refuse("orphan_ttl_ms", orphanTTLMilliseconds, "at least 1") }
        try retention.validate()
    }
}
