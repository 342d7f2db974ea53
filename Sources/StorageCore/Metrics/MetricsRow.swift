/// One line of the metrics log: what one `report()` call said.
struct MetricsRow: Sendable, Equatable {
    var sequence: ReportSequence
    var rank: Int
    /// Seconds since 1970.
    var time: Double
    /// The physical name of the checkpoint that was reported along, committed or not; nil for metrics only.
    var checkpointName: String?
    /// An object, as reported.
    var metrics: JSONValue

    init(sequence: ReportSequence, rank: Int, time: Double, checkpointName: String?, metrics: JSONValue) {
        self.sequence = sequence
        self.rank = rank
        self.time = time
        self.checkpointName = checkpointName
        self.metrics = metrics
    }

    /// Nil for anything that is no line of the log: the torn piece of a failed write, or what a power cut left.
    init?(_ line: UnsafeBufferPointer<UInt8>, _ segment: MetricsSegmentName) {
        guard line.first == UInt8(ascii: "{"), let document = try? JSONParser.parse(line),
            let index = document["index"]?.intValue, let time = document["time"]?.doubleValue,
            let metrics = document["metrics"], metrics.objectValue != nil
        else { return nil }
        var epoch = segment.epoch
        // A line that an earlier launch could not write itself.
        if let other = document["epoch"] {
            guard let number = other.intValue, 1...ReportSequence.limit ~= number else { return nil }
            epoch = number
        }
        self.init(
            sequence: ReportSequence(epoch: epoch, index: index), rank: segment.rank, time: time,
            checkpointName: document["checkpoint"]?.stringValue, metrics: metrics)
    }
}

/// Every row of a run's metrics, in the order of reports (P14).
enum MetricsHistory {
    /// Reads all segments, whoever wrote them: by (epoch, index), then by rank. Lines that were written again after a
    /// failed fsync count once; torn lines do not count. No metrics, or no such run, is no error.
    static func read(runDirectory: String) throws(StorageError) -> [MetricsRow] {
        var rows: [MetricsRow] = []
        try forEach(runDirectory: runDirectory) { rows.append($0) }
        return ordered(rows)
    }

    /// Which reports have a line of rank 0.
    static func reports(runDirectory: String) throws(StorageError) -> ReportSet {
        var reports = ReportSet()
        try forEach(runDirectory: runDirectory) { if $0.rank == 0 { reports.insert($0.sequence) } }
        return reports
    }

    private static func forEach(runDirectory: String, _ body: (MetricsRow) -> Void) throws(StorageError) {
        for segment in try MetricsSegmentName.list(runDirectory: runDirectory) {
            var reader: LineReader
            do throws(StorageError) {
                reader = try LineReader(segment.path(runDirectory: runDirectory))
            } catch {
                if error.code == .notFound { continue }
                throw error
            }
            try reader.forEach { line throws(StorageError) -> Bool in
                if let row = MetricsRow(line, segment) { body(row) }
                return true
            }
        }
    }

    /// The whole lines of a segment that was read at once.
    static func rows(_ bytes: [UInt8], of segment: MetricsSegmentName) -> [MetricsRow] {
        guard let end = bytes.lastIndex(of: 0x0A) else { return [] }
        var rows: [MetricsRow] = []
        for line in bytes[..<end].split(separator: 0x0A) {
            ForkYield.passed(line.startIndex, line.endIndex + 1)
            line.withUnsafeBufferPointer { line in
                if let row = MetricsRow(line, segment) { rows.append(row) }
            }
        }
        return rows
    }

    /// By (epoch, index), then by rank, each once.
    static func ordered(_ rows: [MetricsRow]) -> [MetricsRow] {
        // Stable by the place in the log: of two lines with one number the first counts.
        var forks = ForkYield()
        let sorted = rows.enumerated().sorted { left, right in
            forks.step(16)
            if left.element.sequence != right.element.sequence { return left.element.sequence < right.element.sequence }
            return (left.element.rank, left.offset) < (right.element.rank, right.offset)
        }.map(\.element)
        var unique: [MetricsRow] = []
        unique.reserveCapacity(sorted.count)
        for row in sorted where unique.last?.sequence != row.sequence || unique.last?.rank != row.rank {
            unique.append(row)
        }
        return unique
    }
}

extension MetricsHistory {
    /// The rows of rank 0 in the form of `result.json`, made anew from the log in the order of reports: complete also where
    /// that file is not.
    static func resultRows(
        runDirectory: String, runID: String, origin: ((Int) -> EpochOrigin)? = nil,
        localTime: @escaping @Sendable (Double) -> LocalTime = LocalTime.system
    ) throws(StorageError) -> [JSONValue] {
        var maker = ResultRowMaker(runID: runID, localTime: localTime)
        var origins: [Int: EpochOrigin] = [:]
        var rows: [JSONValue] = []
        var forks = ForkYield()
        for row in try read(runDirectory: runDirectory) where row.rank == 0 {
            forks.step(1024)
            let epoch = row.sequence.epoch
            let known = origins[epoch] ?? origin?(epoch) ?? EpochOrigin.read(runDirectory: runDirectory, epoch: epoch)
            origins[epoch] = known
            if maker.count(row.sequence, time: row.time, origin: known) { rows.append(maker.row(row, origin: known)) }
        }
        return rows
    }

    /// The rows of a `result.json` that Ray or this library wrote; lines that are no object, a torn end too, are left
    /// out. No such file: no rows.
    static func rows(ofResultFile path: String) throws(StorageError) -> [JSONValue] {
        var rows: [JSONValue] = []
        var reader: LineReader
        do throws(StorageError) {
            reader = try LineReader(path)
        } catch {
            if error.code == .notFound { return [] }
            throw error
        }
        try reader.forEach { line throws(StorageError) -> Bool in
            if let row = try? JSONParser.parse(line), row.objectValue != nil { rows.append(row) }
            return true
        }
        return rows
    }
}
