/// Everything that stands in a run directory, read without changing it.
struct RunState: Sendable {
    /// Who wrote the directory.
    enum Format: String, Sendable {
        case raystorage
        case rayV2 = "ray_v2"
        case rayV1 = "ray_v1"
    }

    var runID: String?
    var format: Format
    /// The numbers that are taken, also those of epochs whose record is damaged.
    var takenEpochs: Set<Int> = []
    var lastEpochNumber: Int { takenEpochs.max() ?? 0 }
    var closedEpochs: Set<Int>
    var history: History
    /// Reports before each epoch.
    var reportBases: [Int: Int] = [:]
    /// Committed checkpoints of this run, in the order of their reports.
    var committed: [CheckpointEntry]
    /// Checkpoint directories of others, in the order of Ray's snapshot or by name.
    var foreign: [CheckpointEntry]
    /// Directories that are ours and have no whole manifest: refused.
    var damaged: [(name: String, claim: Ownership.Claim)] = []
    /// On object stores: how attempts ended.
    var decisions: [KnownDecision] = []
    /// On object stores: directories that are ours, and about which nothing was decided: refused.
    var undecided: [String] = []
    var snapshot: Snapshot?

    /// The line of history that a reader sees: that of the last epoch that got as far as reporting.
    var line: Int? { history.resumePoints.keys.max() }

    /// All checkpoints, oldest first.
    var entries: [CheckpointEntry] { CheckpointEntry.chronological(foreign, committed) }

    /// Where Ray got to after our last epoch; else the latest one on the line; before our first commit Ray's latest.
    var latest: CheckpointEntry? {
        if let name = raysLatest, let entry = foreign(name) { return entry }
        guard let line else { return foreign(snapshot?.latest) ?? foreign.last }
        if let entry = history.candidates(committed, foreign: foreign, of: line).first { return entry }
        guard committed.isEmpty, history.resumePoints[line]?.physicalName == nil else { return nil }
        return foreign(snapshot?.latest) ?? foreign.last
    }

    /// The directory that Ray got to after our last epoch, whether it is there or not; nil: Ray has not been here since.
    var raysLatest: String? {
        let ours = committed.map { Array($0.physicalName.utf8) } + damaged.map { Array($0.name.utf8) }
        return RaysTurn.latest(snapshot, ours: Set(ours), lastStart: line.flatMap { history.resumePoints[$0] })
    }

    private func foreign(_ name: String?) -> CheckpointEntry? {
        guard let name = name.map({ Array($0.utf8) }) else { return nil }
        return foreign.last { Array($0.physicalName.utf8) == name }
    }

    var statuses: [String: CheckpointStatus] { history.statuses(entries, of: line) }
}

/// Reads run directories.
struct RunReader: Sendable {
    let backend: any StorageBackend

    /// The run's id; nil when this is no run of ours.
    func runID() async throws(StorageError) -> String? {
        try await backend.readDocument(RunLayout.record)?["run_id"]?.stringValue
    }

    /// Only the epochs' numbers and where they resumed from: after thousands of launches still two calls for each, and
    /// many at a time.
    func epochs() async throws(StorageError) -> RunState {
        var state = RunState(
            runID: nil, format: .raystorage, closedEpochs: [], history: History(),
            committed: [], foreign: [], snapshot: nil)
        let numbers = try await backend.list(RunLayout.epochs).compactMap { Int($0.dropLast()) }
        try await readEpochs(numbers, into: &state)
        return state
    }

    /// Reads those epochs again that began with a number or later; new ones are not looked for.
    func refresh(_ state: inout RunState, from first: Int) async throws(StorageError) {
        try await readEpochs(state.takenEpochs.filter { $0 >= first }, into: &state)
    }

    /// Who holds an epoch, or held it; nil when its record is damaged.
    func record(of epoch: Int) async throws(StorageError) -> EpochRecord? {
        try await backend.readDocument(RunLayout.epoch(epoch)).flatMap(EpochRecord.init)
    }

    /// The last record that can be read.
    func lastRecord(_ state: RunState) async throws(StorageError) -> EpochRecord? {
        for number in state.takenEpochs.sorted(by: >) {
            if let record = try await record(of: number) { return record }
        }
        return nil
    }

    /// Reads all of it, or what is missing in `epochs`. Damaged derived files (snapshot) are ignored with a warning; commits
    /// are the truth.
    func read(_ epochs: RunState? = nil) async throws(StorageError) -> RunState {
        let runID = try await runID()
        var state: RunState
        if let epochs { state = epochs } else { state = try await self.epochs() }
        state.runID = runID
        do throws(StorageError) {
            if let object = try await backend.read(RunLayout.snapshot, limit: 256 << 20) {
                state.snapshot = try Snapshot(decoding: object.bytes, path: Path.join(backend.root, RunLayout.snapshot))
            }
        } catch {
            Log.shared.write(.warning, error.while_("ignoring the snapshot").message)
        }
        try await readCheckpoints(into: &state)
        if runID == nil {
            state.format = state.snapshot == nil ? .rayV1 : .rayV2
        }
        return state
    }

    /// What the directory of an epoch says.
    private struct Epoch: Sendable {
        var number: Int
        var isTaken = false
        var isClosed = false
        var point: History.ResumePoint?
        var reportBase = 0
    }

    /// The names in the directories of epochs, by number, where one request tells all of them.
    private func epochFiles() async throws(StorageError) -> [Int: [String]]? {
        guard !backend.capabilities.renamesDirectories else { return nil }
        var files: [Int: [String]] = [:]
        for key in try await backend.keys(RunLayout.epochs) {
            let parts = key.utf8.dropFirst(RunLayout.epochs.utf8.count).split(separator: UInt8(ascii: "/"))
            guard parts.count == 2, let number = Decimal.strict(parts[0]) else { continue }
            files[number, default: []].append(String(decoding: parts[1], as: UTF8.self))
        }
        return files
    }

    private func readEpochs(_ numbers: some Sequence<Int>, into state: inout RunState) async throws(StorageError) {
        let numbers = numbers.filter { 1...ReportSequence.limit ~= $0 }.sorted()
        let files = try await epochFiles()
        let found = Slots<Epoch>(count: numbers.count)
        try await Engine.shared.forEach(Array(numbers.indices)) { index throws(StorageError) in
            let number = numbers[index]
            var names = files?[number]
            if files == nil { names = try await backend.list("\(RunLayout.epochs)\(number)/") }
            found.set(index, try await readEpoch(number, names ?? []))
        }
        for case let epoch? in found.takeAll() {
            if epoch.isTaken { state.takenEpochs.insert(epoch.number) }
            if epoch.isClosed { state.closedEpochs.insert(epoch.number) }
            guard let point = epoch.point else { continue }
            state.history.add(point, epoch: epoch.number)
            state.reportBases[epoch.number] = epoch.reportBase
        }
    }

    private func readEpoch(_ number: Int, _ files: [String]) async throws(StorageError) -> Epoch {
        var epoch = Epoch(number: number)
        // The highest counts.
        var last: Int?
        for file in files {
            if file == "epoch.json" {
                epoch.isTaken = true
            } else if file == "closed.json" {
                epoch.isClosed = true
            } else if file.hasPrefix("resume-"), let turn = Int(file.dropFirst(7).dropLast(5)),
                0...ReportSequence.limit ~= turn
            {
                last = max(last ?? 0, turn)
            }
        }
        guard let turn = last, let document = try await backend.readDocument(RunLayout.resume(number, turn)) else {
            return epoch
        }
        epoch.point = Self.resumePoint(document, turn: turn)
        epoch.reportBase = min(max(document["report_index_base"]?.intValue ?? 0, 0), ReportSequence.limit)
        return epoch
    }

    static func resumePoint(_ document: JSONValue, turn: Int) -> History.ResumePoint {
        History.ResumePoint(
            turn: turn, attempt: document["attempt"]?.stringValue.flatMap(AttemptID.init),
            physicalName: document["physical_name"]?.stringValue, behind: behind(document),
            rayReports: document["ray_reports"]?.intValue)
    }

    private static func behind(_ document: JSONValue) -> ReportSequence? {
        guard let epoch = document["behind_epoch"]?.intValue, 1...ReportSequence.limit ~= epoch,
            let index = document["behind_index"]?.intValue, -1...ReportSequence.limit ~= index
        else { return nil }
        return ReportSequence(epoch: epoch, index: index)
    }

    private enum Directory: Sendable {
        case committed(ManifestSummary)
        case damaged(Ownership.Claim)
        case other
    }

    private static func look(at directory: String, root: String, runID: String?) throws(StorageError) -> Directory {
        let summary = try ManifestSummary.read(directory: Path.join(root, directory))
        if let summary, summary.runID == runID, summary.physicalName.utf8.elementsEqual(directory.utf8) {
            return .committed(summary)
        }
        if summary == nil, let claim = try Ownership.claim(on: directory, root: root) { return .damaged(claim) }
        return .other
    }

    /// Our own into the state; returns the directories of others.
    private func readManifests(into state: inout RunState) async throws(StorageError) -> [String] {
        let root = backend.root
        var others: [String] = []
        let directories = try await backend.list("").filter { $0.utf8.last == UInt8(ascii: "/") }
            .map(Path.withoutSlash).filter { $0 != RunLayout.own }
        let found = Slots<Directory>(count: directories.count)
        let runID = state.runID
        try await Engine.shared.forEach(Array(directories.indices)) { index throws(StorageError) in
            found.set(index, try Self.look(at: directories[index], root: root, runID: runID))
        }
        for (directory, outcome) in zip(directories, found.takeAll()) {
            switch outcome {
            case .committed(let summary): state.committed.append(summary.entry)
            case .damaged(let claim): state.damaged.append((directory, claim))
            case .other, nil: others.append(directory)
            }
        }
        return others
    }

    private func readCheckpoints(into state: inout RunState) async throws(StorageError) {
        let listed = Dictionary(
            (state.snapshot?.entries ?? []).map { (Array($0.physicalName.utf8), $0) }, uniquingKeysWith: { $1 })
        var foreign =
            backend.capabilities.renamesDirectories
            ? try await readManifests(into: &state) : try await readDecisions(into: &state)
        foreign = foreign.filter { $0.hasPrefix("checkpoint_") || listed[Array($0.utf8)] != nil }
        state.committed.sort { ($0.sequence ?? .start) < ($1.sequence ?? .start) }
        for place in state.committed.indices {
            guard let sequence = state.committed[place].sequence else { continue }
            state.committed[place].reportNumber = (state.reportBases[sequence.epoch] ?? 0) + sequence.index
        }
        foreign.sort { left, right in
            let (first, second) = (listed[Array(left.utf8)]?.sequence, listed[Array(right.utf8)]?.sequence)
            if first != second { return (first ?? .start) < (second ?? .start) }
            return left.utf8.lexicographicallyPrecedes(right.utf8)
        }
        state.foreign = foreign.map { name in
            let entry = listed[Array(name.utf8)]
            return CheckpointEntry(
                attempt: nil, name: name, physicalName: name, metrics: entry?.metrics ?? .object([]),
                reportNumber: entry?.reportNumber)
        }
    }
}

extension ReportSequence {
    /// Before every report.
    static let start = ReportSequence(epoch: -1, index: -1)
}
