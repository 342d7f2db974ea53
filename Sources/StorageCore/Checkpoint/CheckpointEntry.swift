/// One checkpoint as a catalog knows it.
struct CheckpointEntry: Sendable, Equatable {
    /// nil: not ours (Ray's, or plain files).
    var attempt: AttemptID?
    /// What it was reported as.
    var name: String
    /// What its directory is called.
    var physicalName: String
    var metrics: JSONValue
    var createdAt: Double?
    var bytes: Int?
    var files: Int?

    // Not inlined: the optimizer of Swift 6.3.1 crashes (CopyPropagation, "Found ownership error") where it is used in
    // closures.
    @inline(never) var sequence: ReportSequence? { attempt?.sequence }
    /// Unique within a run.
    var id: String { attempt?.description ?? physicalName }

    init(
        attempt: AttemptID?, name: String, physicalName: String, metrics: JSONValue, createdAt: Double? = nil,
        bytes: Int? = nil, files: Int? = nil
    ) {
        self.attempt = attempt
        self.name = name
        self.physicalName = physicalName
        self.metrics = metrics
        self.createdAt = createdAt
        self.bytes = bytes
        self.files = files
    }
}

/// Where a checkpoint stands in the run's history.
enum CheckpointStatus: String, Sendable {
    /// On the line of history that the job is on.
    case committed
    /// Committed by an epoch beyond the point that a later one went on from.
    case stray
    /// A later checkpoint has taken its name.
    case superseded
    /// No manifest of ours: nothing can be said about its bytes.
    case unverified
}

extension CheckpointEntry {
    /// The "checkpoint" document of the C interface.
    func document(root: String, status: CheckpointStatus, isLatest: Bool) -> JSONValue {
        .make([
            "name": .string(name), "physical_name": .string(physicalName),
            "path": .string(Path.join(root, physicalName)),
            "epoch": sequence.map { JSONValue($0.epoch) } ?? .null,
            "index": sequence.map { JSONValue($0.index) } ?? .null,
            "attempt": .optional(attempt?.description), "metrics": metrics, "status": .string(status.rawValue),
            "latest": .bool(isLatest), "created_at": createdAt.map { .number($0) } ?? .null,
            "bytes": bytes.map { JSONValue($0) } ?? .null, "files": files.map { JSONValue($0) } ?? .null,
        ])
    }
}
