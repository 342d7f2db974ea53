internal import Synchronization

/// `result.json` and `progress.csv` of a run, Ray V1's files with one row for each report, in the order of the log. They
/// are derived from rank 0's metrics log, which is the truth, by the holder of the run only; a lost or torn end is
/// derived again.
final class ResultFiles: Sendable {
    static let resultsName = "result.json"
    static let progressName = "progress.csv"
    static let names = [resultsName, progressName]

    private struct State {
        var results: LineFile
        var progress: LineFile
        var table: ProgressTable?
        /// Rows that the files had when they were opened.
        var inResults = ReportSet()
        var inProgress = ReportSet()
        var maker: ResultRowMaker
        /// Where reading goes on in each segment.
        var offsets: [MetricsSegmentName: Int] = [:]
        var origins: [Int: EpochOrigin] = [:]
        var resultLines: [UInt8] = []
        var progressLines: [UInt8] = []
    }

    /// Lines are collected up to that size, then written by one write per file.
    private let batchBytes: Int
    private let runDirectory: String
    private let runID: String
    private let calls: FileCalls
    private let origin: @Sendable (Int) -> EpochOrigin
    private let localTime: @Sendable (Double) -> LocalTime
    private let state = SlowMutex<State?>(nil)

    /// Touches nothing yet. `origin` tells about an epoch by its number; by default its record in the run is read.
    init(
        runDirectory: String, runID: String, origin: (@Sendable (Int) -> EpochOrigin)? = nil,
        localTime: @escaping @Sendable (Double) -> LocalTime = LocalTime.system, calls: FileCalls = .system,
        batchBytes: Int = 1 << 20
    ) {
        self.runDirectory = runDirectory
        self.runID = runID
        self.origin = origin ?? { EpochOrigin.read(runDirectory: runDirectory, epoch: $0) }
        self.localTime = localTime
        self.calls = calls
        self.batchBytes = batchBytes
    }

    /// Adds the rows that the log has got since the last time. The first call, and the first after an error, cuts both
    /// files back to their last whole line and goes on behind it; it reads the whole log, later ones only what is new.
    ///
    /// The owner calls it about once a second, at commit, flush and close, and not once it is fenced. Fails with the
    /// error of a system call; the next call makes up for it.
    func update() throws(StorageError) {
        try state.withLock { state throws(StorageError) in
            var current: State
            if let known = state.take() { current = known } else { current = try open() }
            // Not put back after an error: what was written by then is found again on disk.
            for segment in try MetricsSegmentName.list(runDirectory: runDirectory) where segment.rank == 0 {
                try read(segment, &current)
            }
            try flush(&current)
            state = current
        }
    }

    private func open() throws(StorageError) -> State {
        var state = State(
            results: try LineFile(Path.join(runDirectory, Self.resultsName), calls),
            progress: try LineFile(Path.join(runDirectory, Self.progressName), calls),
            maker: ResultRowMaker(runID: runID, localTime: localTime))
        _ = try state.results.cutToLastLine { line in (try? JSONParser.parse(line))?.objectValue != nil }
        state.table = try state.progress.firstLine().flatMap { ProgressTable(header: $0) }
        let table = state.table
        _ = try state.progress.cutToLastLine { table?.accepts($0) ?? false }
        if state.progress.length == 0 { state.table = nil }
        // The whole files, not just their last rows: rows come in the order in which reports were captured, so that one
        // that is missing at the end may have a lower number than those that are there.
        state.inResults = try Self.places(state.results) { ResultRowMaker.sequence(ofLine: $0) }
        // A table of Ray's cannot tell which of our rows it has: it follows result.json.
        state.inProgress =
            table?.hasPlaces == false
            ? state.inResults : try Self.places(state.progress) { table?.sequence(ofLine: $0) }
        return state
    }

    private static func places(
        _ file: LineFile, _ sequence: (UnsafeBufferPointer<UInt8>) -> ReportSequence?
    ) throws(StorageError) -> ReportSet {
        var places = ReportSet()
        guard file.length > 0 else { return places }
        var reader = try LineReader(file.path)
        try reader.forEach { line throws(StorageError) -> Bool in
            if let place = sequence(line) { places.insert(place) }
            return true
        }
        return places
    }

    private func read(_ segment: MetricsSegmentName, _ state: inout State) throws(StorageError) {
        let path = segment.path(runDirectory: runDirectory)
        let offset = state.offsets[segment] ?? 0
        guard let size = try System.status(path)?.size, size > offset else { return }
        var reader = try LineReader(path, from: offset)
        try reader.forEach { line throws(StorageError) -> Bool in
            guard let row = MetricsRow(line, segment) else { return true }
            let epoch = row.sequence.epoch
            let origin = state.origins[epoch] ?? self.origin(epoch)
            state.origins[epoch] = origin
            try add(row, origin, &state)
            return true
        }
        state.offsets[segment] = reader.offset
    }

    private func add(_ row: MetricsRow, _ origin: EpochOrigin, _ state: inout State) throws(StorageError) {
        guard state.maker.count(row.sequence, time: row.time, origin: origin) else { return }
        let isForResults = !state.inResults.contains(row.sequence)
        let isForProgress = !state.inProgress.contains(row.sequence)
        guard isForResults || isForProgress else { return }
        let object = state.maker.row(row, origin: origin)
        if isForResults {
            object.write(to: &state.resultLines)
            state.resultLines.append(0x0A)
        }
        if isForProgress {
            if state.table == nil {
                let table = ProgressTable(firstRow: object)
                state.table = table
                state.progressLines += table.header
            }
            state.table?.write(object, to: &state.progressLines)
        }
        if state.resultLines.count + state.progressLines.count >= batchBytes { try flush(&state) }
    }

    private func flush(_ state: inout State) throws(StorageError) {
        try state.results.append(state.resultLines)
        state.resultLines.removeAll(keepingCapacity: true)
        try state.progress.append(state.progressLines)
        state.progressLines.removeAll(keepingCapacity: true)
    }
}
