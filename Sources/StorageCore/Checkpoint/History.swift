/// Which reports a job stands on: every epoch goes on from one point of an earlier one, so its history is a line
/// through the epochs, and what lies beside that line is stray. Pure.
struct History: Sendable, Equatable {
    /// Where an epoch went on from.
    struct ResumePoint: Sendable, Equatable {
        /// How often this epoch has fallen back to an older one; the highest counts.
        var turn: Int
        /// nil: from nothing, or from a checkpoint that is not ours.
        var attempt: AttemptID?
        /// The directory; nil: from nothing.
        var physicalName: String?
    }

    /// By epoch; an epoch without one died before it could report anything.
    private(set) var resumePoints: [Int: ResumePoint] = [:]

    /// Adds a record; of several for one epoch the highest turn counts.
    mutating func add(_ point: ResumePoint, epoch: Int) {
        if let known = resumePoints[epoch], known.turn > point.turn { return }
        resumePoints[epoch] = point
    }

    /// Whether a report lies on the line that leads to `epoch`.
    func isOnLine(_ sequence: ReportSequence, of epoch: Int) -> Bool {
        var current = epoch
        var bound = Int.max
        while true {
            if sequence.epoch == current { return sequence.index <= bound }
            guard let from = resumePoints[current]?.attempt?.sequence, from.epoch < current else { return false }
            current = from.epoch
            bound = from.index
        }
    }

    /// The last epoch before this one that got as far as reporting: the line to go on with.
    func lastStarted(before epoch: Int) -> Int? { resumePoints.keys.filter { $0 < epoch }.max() }

    /// The checkpoints to resume from, best first: those on the line of `epoch`, the latest first.
    func candidates(_ entries: [CheckpointEntry], of epoch: Int) -> [CheckpointEntry] {
        // A loop: the optimizer of Swift 6.3.1 crashes on the same with closures.
        var found: [(sequence: ReportSequence, entry: CheckpointEntry)] = []
        for entry in entries {
            guard let sequence = entry.sequence, isOnLine(sequence, of: epoch) else { continue }
            found.append((sequence, entry))
        }
        found.sort { $0.sequence > $1.sequence }
        return found.map { $0.entry }
    }

    /// The directory that the line of an epoch began with, when it was not ours (Ray's); nil: it began from nothing.
    func start(of epoch: Int) -> String? {
        var current = epoch
        while let point = resumePoints[current] {
            guard let attempt = point.attempt else { return point.physicalName }
            guard attempt.sequence.epoch < current else { return nil }
            current = attempt.sequence.epoch
        }
        return nil
    }

    /// The candidates of a line, and behind them what it began with.
    func candidates(
        _ entries: [CheckpointEntry], foreign: [CheckpointEntry], of epoch: Int
    ) -> [CheckpointEntry] {
        let name = start(of: epoch).map { Array($0.utf8) }
        return candidates(entries, of: epoch) + foreign.filter { Array($0.physicalName.utf8) == name }
    }

    /// The status of each entry, seen from the line of `epoch`.
    func statuses(_ entries: [CheckpointEntry], of epoch: Int?) -> [String: CheckpointStatus] {
        var statuses: [String: CheckpointStatus] = [:]
        var holders: [[UInt8]: CheckpointEntry] = [:]
        func isOnLine(_ entry: CheckpointEntry) -> Bool {
            guard let epoch, let sequence = entry.sequence else { return false }
            return self.isOnLine(sequence, of: epoch)
        }
        for entry in entries {
            guard let sequence = entry.sequence else {
                statuses[entry.id] = .unverified
                continue
            }
            statuses[entry.id] = isOnLine(entry) ? .committed : .stray
            let name = Array(entry.name.utf8)
            guard let other = holders[name], let otherSequence = other.sequence else {
                holders[name] = entry
                continue
            }
            // The name means the one on the line; of two of a kind the later.
            let wins = isOnLine(entry) == isOnLine(other) ? sequence > otherSequence : isOnLine(entry)
            statuses[wins ? other.id : entry.id] = .superseded
            if wins { holders[name] = entry }
        }
        return statuses
    }
}

/// Whether a `checkpoint_dir_name` may be used again. Pure.
enum NameClaim: Equatable {
    /// Nobody has it: the directory gets the plain name.
    case first
    /// Claimed beyond the point that the job went on from, or by a report that failed: a directory of its own.
    case further
    /// On this job's own line of history.
    case taken(by: AttemptID)

    static func decide(
        existing: [AttemptID], history: History, epoch: Int, failed: Set<AttemptID>
    ) -> NameClaim {
        for attempt in existing where history.isOnLine(attempt.sequence, of: epoch) && !failed.contains(attempt) {
            return .taken(by: attempt)
        }
        return existing.isEmpty ? .first : .further
    }
}
