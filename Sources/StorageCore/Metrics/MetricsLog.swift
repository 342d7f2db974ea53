internal import Synchronization

/// The metrics of one rank in one epoch, one line for each report, in segments that only this process writes (P14).
///
/// A line is in the kernel's hands when `append` returns, so that SIGKILL loses nothing; it is on the disk after the
/// next `sync`, which the owner calls once a second and at `wait`, `flush` and commit.
public final class MetricsLog: Sendable {
    /// Sizes, for tests to make small.
    struct Limits: Sendable {
        /// A segment gets no further line that would make it larger.
        var segmentBytes = 64 << 20
        /// Unsynced lines kept in memory against a failing fsync. What does not fit is read from the file then.
        var tailBytes = 8 << 20
        /// A larger line is refused.
        var lineBytes = 16 << 20
    }

    struct State: Sendable {
        var current: MetricsSegment?
        /// Full and not synced yet, oldest first.
        var full: [MetricsSegment] = []
        /// Directories with entries that are not durable yet.
        var changedDirectories: [String] = []
        var nextNumber: Int?
        var line: [UInt8] = []
        var isClosed = false

        var tailBytes: Int { full.reduce(current?.keptBytes ?? 0) { $0 + $1.keptBytes } }
    }

    private let directory: String
    private let epoch: Int
    private let rank: Int
    let isDurable: Bool
    let limits: Limits
    let calls: FileCalls
    let state = SlowMutex(State())
    /// Held around a whole `sync`, so that two do not rewrite one segment.
    let syncTurn = Monitor()

    /// Writes below `<runDirectory>/.raystorage/metrics`; nothing is created before the first line. With `isDurable`
    /// false (`durability="none"`) `sync` does nothing.
    /// `segmentBytes`: when a new segment is begun; nil: the default.
    public convenience init(
        runDirectory: String, epoch: Int, rank: Int = 0, isDurable: Bool = true, segmentBytes: Int? = nil
    ) {
        var limits = Limits()
        if let segmentBytes { limits.segmentBytes = segmentBytes }
        self.init(
            runDirectory: runDirectory, epoch: epoch, rank: rank, isDurable: isDurable, limits: limits, calls: .system)
    }

    init(runDirectory: String, epoch: Int, rank: Int, isDurable: Bool, limits: Limits, calls: FileCalls) {
        directory = Path.join(runDirectory, MetricsSegmentName.directory)
        self.epoch = epoch
        self.rank = rank
        self.isDurable = isDurable
        self.limits = limits
        self.calls = calls
    }

    /// Adds the line of one report, by one `write(2)`. From any thread, in any order: a report with a checkpoint is added
    /// after its capture, when later ones may be there already. Readers sort, and of two lines of one index they take
    /// the first. `checkpointName` is the physical name, nil for metrics only; `time` is in
    /// seconds since 1970; `metricsJSON` must be one JSON object (NaN and the infinities as bare literals). `epoch`: of an
    /// earlier launch, whose own log is lost; nil: this one's.
    ///
    /// Fails with INVALID_ARGUMENT when it is not, CLOSED, or the error of the
    /// system call (NO_SPACE, IO …); then no part of the line is read later, and the next call may succeed.
    public func append(
        index: Int, epoch: Int? = nil, time: Double, checkpointName: String?, metricsJSON: UnsafeBufferPointer<UInt8>
    ) throws(StorageError) {
        try Self.validate(metricsJSON)
        try state.withLock { state throws(StorageError) in
            if state.isClosed { throw StorageError(.closed, "the metrics log is closed") }
            Self.write(
                index: index, epoch: epoch, time: time, checkpointName: checkpointName, metricsJSON: metricsJSON,
                to: &state.line)
            if state.line.count > limits.lineBytes {
                throw StorageError(
                    .invalidArgument, "metrics of \(metricsJSON.count) bytes are too large",
                    details: [("allowed", .string("at most \(limits.lineBytes) bytes"))])
            }
            try makeRoom(&state)
            let room = limits.tailBytes - state.tailBytes
            try state.current?.append(state.line, room: room, calls)
        }
    }

    /// Adds the line of one report, its metrics in an array.
    public func append(
        index: Int, epoch: Int? = nil, time: Double, checkpointName: String?, metricsJSON: [UInt8]
    ) throws(StorageError) {
        let result = metricsJSON.withUnsafeBufferPointer { bytes -> Result<Void, StorageError> in
            do throws(StorageError) {
                try append(
                    index: index, epoch: epoch, time: time, checkpointName: checkpointName, metricsJSON: bytes)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// Adds the line of one report, its metrics as text.
    public func append(index: Int, time: Double, checkpointName: String?, metricsJSON: String) throws(StorageError) {
        try append(index: index, time: time, checkpointName: checkpointName, metricsJSON: Array(metricsJSON.utf8))
    }

    private static func validate(_ metricsJSON: UnsafeBufferPointer<UInt8>) throws(StorageError) {
        let isObject: Bool
        do throws(JSONSyntaxError) {
            isObject = try JSONParser.validate(metricsJSON)
        } catch {
            throw StorageError(
                .invalidArgument, "metrics are not JSON: \(error.reason) expected at byte \(error.offset)",
                details: [("offset", JSONValue(error.offset)), ("allowed", "one JSON object")])
        }
        if !isObject {
            throw StorageError(
                .invalidArgument, "metrics are not a JSON object", details: [("allowed", "one JSON object")])
        }
    }

    /// The line between two newlines: see `MetricsSegment.append`.
    private static func write(
        index: Int, epoch: Int?, time: Double, checkpointName: String?, metricsJSON: UnsafeBufferPointer<UInt8>,
        to line: inout [UInt8]
    ) {
        line.removeAll(keepingCapacity: true)
        line.append(contentsOf: "\n{\"index\":".utf8)
        line.append(contentsOf: String(index).utf8)
        if let epoch {
            line.append(contentsOf: ",\"epoch\":".utf8)
            line.append(contentsOf: String(epoch).utf8)
        }
        line.append(contentsOf: ",\"time\":".utf8)
        line.append(contentsOf: JSONValue.text(time).utf8)
        line.append(contentsOf: ",\"checkpoint\":".utf8)
        JSONValue.optional(checkpointName).write(to: &line)
        line.append(contentsOf: ",\"metrics\":".utf8)
        let start = line.count
        line.append(contentsOf: metricsJSON)
        // In valid JSON a raw line break is only space between values.
        for place in start..<line.count where line[place] == 0x0A || line[place] == 0x0D { line[place] = 0x20 }
        line.append(contentsOf: "}\n".utf8)
    }

    /// Sees to a segment that takes the line.
    private func makeRoom(_ state: inout State) throws(StorageError) {
        if let current = state.current {
            if current.length == 0 || current.length + state.line.count <= limits.segmentBytes { return }
            let next = try openSegment(&state)
            if isDurable { state.full.append(current) }
            state.current = next
        } else {
            state.current = try openSegment(&state)
        }
    }

    func openSegment(_ state: inout State) throws(StorageError) -> MetricsSegment {
        var number: Int
        if let next = state.nextNumber {
            number = next
        } else {
            for made in try System.makeDirectories(directory) {
                if isDurable { state.changedDirectories.append(Path.parent(made)) }
            }
            let taken = try System.list(directory).compactMap { MetricsSegmentName($0) }
            number = (taken.filter { $0.epoch == epoch && $0.rank == rank }.map(\.number).max() ?? -1) + 1
        }
        while true {
            do throws(StorageError) {
                let name = MetricsSegmentName(epoch: epoch, rank: rank, number: number)
                let segment = try MetricsSegment(name, directory: directory)
                state.nextNumber = number + 1
                if isDurable { state.changedDirectories.append(directory) }
                return segment
            } catch {
                // Only a failed rewrite leaves one: its number is used up.
                guard error.code == .alreadyExists else { throw error }
                number += 1
            }
        }
    }
}
