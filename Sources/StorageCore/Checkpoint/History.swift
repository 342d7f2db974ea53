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
        /// Of a checkpoint that is not ours: the last report of ours that its trainer can have gone on from; nil: none.
        var behind: ReportSequence? = nil
        /// How many reports a snapshot that Ray wrote told of when this epoch began; nil: Ray had not written it.
        var rayReports: Int? = nil

        /// The last report of ours before the epoch.
        var previous: ReportSequence? { attempt?.sequence ?? behind }
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
            guard let from = resumePoints[current]?.previous, from.epoch < current else { return false }
            current = from.epoch
            bound = from.index
        }
    }

    /// The last epoch before this one that got as far as reporting: the line to go on with.
    func lastStarted(before epoch: Int) -> Int? { resumePoints.keys.filter { $0 < epoch }.max() }

    /// The checkpoints to resume from, best first: those on the line of `epoch`, the latest first, each where it stands on
    /// it: those of others, which epochs went on from, between ours.
    func candidates(
        _ entries: [CheckpointEntry], foreign: [CheckpointEntry] = [], of epoch: Int
    ) -> [CheckpointEntry] {
        // Loops: the optimizer of Swift 6.3.1 crashes on the same with closures.
        var byEpoch: [Int: [(sequence: ReportSequence, entry: CheckpointEntry)]] = [:]
        for entry in entries {
            guard let sequence = entry.sequence else { continue }
            byEpoch[sequence.epoch, default: []].append((sequence, entry))
        }
        var found: [CheckpointEntry] = []
        var current = epoch
        var bound = Int.max
        while true {
            let own = (byEpoch[current] ?? []).sorted { $0.sequence > $1.sequence }
            for (sequence, entry) in own where sequence.index <= bound { found.append(entry) }
            guard let point = resumePoints[current] else { return found }
            if point.attempt == nil, let name = point.physicalName.map({ Array($0.utf8) }) {
                for entry in foreign where Array(entry.physicalName.utf8) == name { found.append(entry) }
            }
            guard let from = point.previous, from.epoch < current else { return found }
            current = from.epoch
            bound = from.index
        }
    }

    /// What came before a directory of others on the line of an epoch.
    func behind(_ physicalName: String, of epoch: Int) -> ReportSequence? {
        var current = epoch
        while let point = resumePoints[current] {
            if point.attempt == nil, let name = point.physicalName, name.utf8.elementsEqual(physicalName.utf8) {
                return point.behind
            }
            guard let from = point.previous, from.epoch < current else { return nil }
            current = from.epoch
        }
        return nil
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
