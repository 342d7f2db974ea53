internal import Glibc

/// What the rows of one epoch have in common.
struct EpochOrigin: Sendable, Equatable {
    var hostname: String?
    var processID: Int?
    /// Seconds since 1970.
    var startedAt: Double?

    /// From the epoch's record in the run; nil members where there is none, as rows do not depend on it.
    static func read(runDirectory: String, epoch: Int) -> EpochOrigin {
        let path = Path.join(runDirectory, ".raystorage/epochs/\(epoch)/epoch.json")
        guard let file = try? OpenFile(path, O_RDONLY), let bytes = try? file.readAll(limit: 1 << 20),
            let document = try? JSONParser.parse(bytes)
        else { return EpochOrigin() }
        return EpochOrigin(
            hostname: document["hostname"]?.stringValue, processID: document["pid"]?.intValue,
            startedAt: document["started_at"]?.doubleValue)
    }
}

/// Makes the rows of `result.json` and `raystorage metrics` from those of the log, in Ray's V1 format. A pure value:
/// rows go in in the order of reports, and every row counts, also when nobody wants its text.
///
/// Where the user reports a key that Ray fills in ("timestamp", "date", "pid" …) the user's value stays, since no metric
/// may be lost. Four keys are ours whatever the user says, because readers find checkpoints and their place by them:
/// "checkpoint_dir_name", "should_checkpoint", "raystorage_epoch", "raystorage_index"; the log keeps the user's value.
struct ResultRowMaker: Sendable {
    static let epochKey = "raystorage_epoch"
    static let indexKey = "raystorage_index"
    private static let ownKeys = ["checkpoint_dir_name", "should_checkpoint", epochKey, indexKey]

    /// The last row that was counted.
    private(set) var last: ReportSequence?
    private let trialID: String
    private let localTime: @Sendable (Double) -> LocalTime
    private var iterations = 0
    private var iterationsOfEpoch = 0
    private var thisSeconds = 0.0
    private var totalSeconds = 0.0
    private var epochSeconds = 0.0
    private var lastTime: Double?
    private var date: (second: Double, text: String)?

    /// `runID` is the run's 32 hexadecimal digits.
    init(runID: String, localTime: @escaping @Sendable (Double) -> LocalTime = LocalTime.system) {
        trialID = String(runID.unicodeScalars.prefix(8)) + "_00000"
        self.localTime = localTime
    }

    /// Counts one row; false when it is not behind the last one (a repetition after a failed fsync) and does not count.
    mutating func count(_ sequence: ReportSequence, time: Double, origin: EpochOrigin) -> Bool {
        if let last, sequence <= last { return false }
        if last?.epoch != sequence.epoch {
            iterationsOfEpoch = 0
            epochSeconds = 0
            lastTime = origin.startedAt
        }
        last = sequence
        iterations += 1
        iterationsOfEpoch += 1
        // Clocks are set back at times; durations are not negative.
        let seconds = time - (lastTime ?? time)
        thisSeconds = seconds.isFinite ? max(0, seconds) : 0
        lastTime = time
        totalSeconds += thisSeconds
        epochSeconds += thisSeconds
        return true
    }

    /// The row's object; call it right after `count` said yes.
    mutating func row(_ row: MetricsRow, origin: EpochOrigin) -> JSONValue {
        var members = row.metrics.objectValue ?? []
        members.removeAll { member in Self.ownKeys.contains { member.key == $0 } }
        let users = members.count
        func fill(_ key: String, _ value: JSONValue) {
            if !members[..<users].contains(where: { $0.key == key }) { members.append(JSONMember(key, value)) }
        }
        fill("timestamp", Int64(exactly: row.time.rounded(.down)).map { .integer($0) } ?? .number(row.time))
        fill("checkpoint_dir_name", .optional(row.checkpointName))
        if row.checkpointName != nil { fill("should_checkpoint", true) }
        fill("done", false)
        fill("training_iteration", JSONValue(iterations))
        fill("trial_id", .string(trialID))
        fill("date", .string(dateText(row.time)))
        fill("time_this_iter_s", .number(thisSeconds))
        fill("time_total_s", .number(totalSeconds))
        fill("pid", origin.processID.map { JSONValue($0) } ?? .null)
        fill("hostname", .optional(origin.hostname))
        fill("node_ip", .null)
        fill("config", .object([]))
        fill("time_since_restore", .number(epochSeconds))
        fill("iterations_since_restore", JSONValue(iterationsOfEpoch))
        fill(Self.epochKey, JSONValue(row.sequence.epoch))
        fill(Self.indexKey, JSONValue(row.sequence.index))
        return .object(members)
    }

    /// The place of a derived row; nil for one that Ray wrote.
    static func sequence(of row: JSONValue) -> ReportSequence? {
        guard let epoch = row[epochKey]?.intValue, let index = row[indexKey]?.intValue else { return nil }
        return ReportSequence(epoch: epoch, index: index)
    }

    private mutating func dateText(_ time: Double) -> String {
        let second = time.rounded(.down)
        if let date, date.second == second { return date.text }
        let text = localTime(time).underscored
        date = (second, text)
        return text
    }
}
