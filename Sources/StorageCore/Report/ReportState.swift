/// Where a report stands; the numbers are those of `raystorage.h`.
public enum ReportState: Int32, Sendable, CaseIterable {
    /// Being captured: the directory must not change.
    case pending = 0
    /// The directory is the caller's again.
    case captured = 1
    /// Checksummed and fsynced.
    case sealed = 2
    /// On its way to the storage, or being committed.
    case uploading = 3
    /// Durable.
    case committed = 4
    /// Ended by an error.
    case failed = 5
    /// Cancelled, or skipped at a limit.
    case dropped = 6
    /// The storage did not say; the next open finds out.
    case unknown = 7

    /// Nothing follows.
    public var isFinal: Bool { rawValue >= ReportState.committed.rawValue }

    /// The name that the Python package and documents use.
    public var name: String {
        switch self {
        case .pending: "PENDING"
        case .captured: "CAPTURED"
        case .sealed: "SEALED"
        case .uploading: "UPLOADING"
        case .committed: "COMMITTED"
        case .failed: "FAILED"
        case .dropped: "DROPPED"
        case .unknown: "UNKNOWN"
        }
    }

    /// Whether a report may go from here to there: forward one step at a time, and out at any step, except that what
    /// is being committed can only end in what the storage says: who carries it knows when that began.
    func mayBecome(_ next: ReportState) -> Bool {
        switch (self, next) {
        case (.pending, .captured), (.captured, .sealed), (.sealed, .uploading), (.uploading, .committed): true
        case (.committed, _), (.failed, _), (.dropped, _), (.unknown, _): false
        case (_, .failed): true
        case (.uploading, .unknown): true
        case (_, .dropped): true
        default: false
        }
    }
}

/// How a report that ended with an error ends. Pure.
enum ReportOutcome {
    static func state(after error: StorageError, commitHadBegun: Bool) -> ReportState {
        if error.code == .cancelled { return commitHadBegun ? .unknown : .dropped }
        return commitHadBegun && error.isRetryable && error.code != .superseded ? .unknown : .failed
    }
}

/// Whether one more checkpoint fits between capture and commit. Pure.
struct Admission: Sendable, Equatable {
    var maxPending: Int
    var maxBytes: Int
    private(set) var pending = 0
    private(set) var bytes = 0

    init(maxPending: Int, maxBytes: Int) {
        self.maxPending = maxPending
        self.maxBytes = maxBytes
    }

    /// Takes a place in the queue, if there is one.
    mutating func enter() -> Bool {
        guard pending < maxPending else { return false }
        pending += 1
        return true
    }

    /// Takes bytes of staging. A checkpoint that is alone is always admitted: waiting would not make it smaller, and
    /// the file system itself says when it is full.
    mutating func take(bytes count: Int) -> Bool {
        guard bytes == 0 || count <= maxBytes - bytes else { return false }
        bytes += count
        return true
    }

    mutating func give(bytes count: Int) { bytes -= count }
    mutating func leave() { pending -= 1 }
}
