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
    /// The number of its report in Ray's count, which runs through all launches; nil: not known.
    var reportNumber: Int?

    // Not inlined: the optimizer of Swift 6.3.1 crashes (CopyPropagation, "Found ownership error") where it is used in
    // closures.
    @inline(never) var sequence: ReportSequence? { attempt?.sequence }
    /// Unique within a run.
    var id: String { attempt?.description ?? physicalName }

    init(
        attempt: AttemptID?, name: String, physicalName: String, metrics: JSONValue, createdAt: Double? = nil,
        bytes: Int? = nil, files: Int? = nil, reportNumber: Int? = nil
    ) {
        self.attempt = attempt
        self.name = name
        self.physicalName = physicalName
        self.metrics = metrics
        self.createdAt = createdAt
        self.bytes = bytes
        self.files = files
        self.reportNumber = reportNumber
    }

    /// Ours and those of others, oldest first, as far as the numbers of their reports tell: what has none comes first.
    static func chronological(_ foreign: [CheckpointEntry], _ own: [CheckpointEntry]) -> [CheckpointEntry] {
        var merged: [CheckpointEntry] = []
        var rest = foreign[...]
        for entry in own {
            while let first = rest.first, (first.reportNumber ?? -1) <= (entry.reportNumber ?? Int.max) {
                merged.append(first)
                rest.removeFirst()
            }
            merged.append(entry)
        }
        return merged + rest
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
    func document(path: String, status: CheckpointStatus, isLatest: Bool) -> JSONValue {
        .make([
            "name": .string(name), "physical_name": .string(physicalName),
            "path": .string(path),
            "epoch": sequence.map { JSONValue($0.epoch) } ?? .null,
            "index": sequence.map { JSONValue($0.index) } ?? .null,
            "attempt": .optional(attempt?.description), "metrics": metrics, "status": .string(status.rawValue),
            "latest": .bool(isLatest), "created_at": createdAt.map { .number($0) } ?? .null,
            "bytes": bytes.map { JSONValue($0) } ?? .null, "files": files.map { JSONValue($0) } ?? .null,
        ])
    }
}
