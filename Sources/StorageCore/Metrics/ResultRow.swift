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
/// rows go in in the order of the log, and every row counts, also when nobody wants its text.
///
/// Where the user reports a key that Ray fills in ("timestamp", "date", "pid" …) the user's value stays, since no metric
/// may be lost. Four keys are ours whatever the user says, because readers find checkpoints and their place by them:
/// "checkpoint_dir_name", "should_checkpoint", "raystorage_epoch", "raystorage_index"; the log keeps the user's value.
struct ResultRowMaker: Sendable {
    static let epochKey = "raystorage_epoch"
    static let indexKey = "raystorage_index"
    private static let ownKeys = ["checkpoint_dir_name", "should_checkpoint", epochKey, indexKey]

    private let trialID: String
    private let localTime: @Sendable (Double) -> LocalTime
    private var counted = ReportSet()
    private var iterations = 0
    private var thisSeconds = 0.0
    private var totalSeconds = 0.0
    private var epochs: [Int: EpochCount] = [:]
    /// The epoch of the row that was counted last.
    private var current = EpochCount()
    private var date: (second: Double, text: String)?

    private struct EpochCount {
        var iterations = 0
        var seconds = 0.0
        var lastTime: Double?
    }

    /// `runID` is the run's 32 hexadecimal digits.
    init(runID: String, localTime: @escaping @Sendable (Double) -> LocalTime = LocalTime.system) {
        trialID = String(runID.unicodeScalars.prefix(8)) + "_00000"
        self.localTime = localTime
    }

    /// Counts one row; false when it was counted before (a repetition after a failed fsync) and does not count again.
    mutating func count(_ sequence: ReportSequence, time: Double, origin: EpochOrigin) -> Bool {
        guard counted.insert(sequence) else { return false }
        var epoch = epochs[sequence.epoch] ?? EpochCount(lastTime: origin.startedAt)
        // Clocks are set back at times; durations are not negative.
        let seconds = time - (epoch.lastTime ?? time)
        thisSeconds = seconds.isFinite ? max(0, seconds) : 0
        iterations += 1
        totalSeconds += thisSeconds
        epoch.iterations += 1
        epoch.seconds += thisSeconds
        epoch.lastTime = time
        epochs[sequence.epoch] = epoch
        current = epoch
        return true
    }

    /// The row's object; call it right after `count` said yes.
    mutating func row(_ row: MetricsRow, origin: EpochOrigin) -> JSONValue {
        var members = row.metrics.objectValue ?? []
        var forks = ForkYield()
        members.removeAll { member in Self.ownKeys.contains { member.key == $0 } }
        let users = members.count
        func fill(_ key: String, _ value: JSONValue) {
            if !members[..<users].contains(where: { $0.key == key }) { members.append(JSONMember(key, value)) }
            forks.step(users)
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
        fill("time_since_restore", .number(current.seconds))
        fill("iterations_since_restore", JSONValue(current.iterations))
        fill(Self.epochKey, JSONValue(row.sequence.epoch))
        fill(Self.indexKey, JSONValue(row.sequence.index))
        return .object(members)
    }

    /// The place of a derived row; nil for one that Ray wrote.
    static func sequence(of row: JSONValue) -> ReportSequence? {
        guard let epoch = row[epochKey]?.intValue, let index = row[indexKey]?.intValue else { return nil }
        return ReportSequence(epoch: epoch, index: index)
    }

    /// The same from the line of a row, of which ours end with their place; a line that is no object has none.
    static func sequence(ofLine line: UnsafeBufferPointer<UInt8>) -> ReportSequence? {
        guard line.first == UInt8(ascii: "{") else { return nil }
        var rest = line[...]
        if rest.popLast() == UInt8(ascii: "}"), let index = number(atEndOf: &rest, key: indexKey),
            let epoch = number(atEndOf: &rest, key: epochKey)
        {
            return ReportSequence(epoch: epoch, index: index)
        }
        // Ray's, or written anew by another program.
        return (try? JSONParser.parse(line)).flatMap { sequence(of: $0) }
    }

    /// Takes `,"key":123` off the end.
    private static func number(atEndOf line: inout Slice<UnsafeBufferPointer<UInt8>>, key: String) -> Int? {
        guard let colon = line.suffix(24).lastIndex(of: UInt8(ascii: ":")) else { return nil }
        guard let number = Decimal.strict(line[(colon + 1)...]) else { return nil }
        let head = ",\"\(key)\":".utf8
        guard line[...colon].suffix(head.count).elementsEqual(head) else { return nil }
        line = line[..<(colon + 1 - head.count)]
        return number
    }

    private mutating func dateText(_ time: Double) -> String {
        let second = time.rounded(.down)
        if let date, date.second == second { return date.text }
        let text = localTime(time).underscored
        date = (second, text)
        return text
    }
}
