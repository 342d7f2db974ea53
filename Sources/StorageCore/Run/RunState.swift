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
    /// By number, ascending.
    var epochs: [EpochRecord]
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
    var snapshot: Snapshot?

    var lastEpoch: EpochRecord? { epochs.last }
    /// The line of history that a reader sees: that of the last epoch that got as far as reporting.
    var line: Int? { history.resumePoints.keys.max() }

    /// All checkpoints, oldest first.
    var entries: [CheckpointEntry] { foreign + committed }

    /// The latest one on the line; before our first commit Ray's latest.
    var latest: CheckpointEntry? {
        if let line, let entry = history.candidates(committed, of: line).first { return entry }
        guard let name = line.flatMap({ history.resumePoints[$0]?.physicalName }) ?? latestForeignName else {
            return nil
        }
        return foreign.last { Array($0.physicalName.utf8) == Array(name.utf8) }
    }

    private var latestForeignName: String? {
        guard committed.isEmpty || line == nil else { return nil }
        return snapshot?.latest ?? foreign.last?.physicalName
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

    /// Only the epochs and where they resumed from.
    func epochs() async throws(StorageError) -> RunState {
        var state = RunState(
            runID: nil, format: .raystorage, epochs: [], closedEpochs: [], history: History(),
            committed: [], foreign: [], snapshot: nil)
        try await readEpochs(into: &state)
        return state
    }

    /// Reads all of it. Damaged derived files (snapshot) are ignored with a warning; commits are the truth.
    func read() async throws(StorageError) -> RunState {
        let runID = try await runID()
        var state = try await epochs()
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

    private func readEpochs(into state: inout RunState) async throws(StorageError) {
        for name in try await backend.list(RunLayout.epochs) {
            guard let number = Int(name.dropLast()), 1...ReportSequence.limit ~= number else { continue }
            for file in try await backend.list("\(RunLayout.epochs)\(number)/") {
                if file == "epoch.json" {
                    state.takenEpochs.insert(number)
                    if let document = try await backend.readDocument(RunLayout.epoch(number)),
                        let record = EpochRecord(document)
                    {
                        state.epochs.append(record)
                    }
                } else if file == "closed.json" {
                    state.closedEpochs.insert(number)
                } else if file.hasPrefix("resume-"), let turn = Int(file.dropFirst(7).dropLast(5)),
                    0...ReportSequence.limit ~= turn,
                    let document = try await backend.readDocument(RunLayout.resume(number, turn))
                {
                    state.history.add(Self.resumePoint(document, turn: turn), epoch: number)
                    state.reportBases[number] = min(
                        max(document["report_index_base"]?.intValue ?? 0, 0), ReportSequence.limit)
                }
            }
        }
        state.epochs.sort { $0.number < $1.number }
    }

    static func resumePoint(_ document: JSONValue, turn: Int) -> History.ResumePoint {
        History.ResumePoint(
            turn: turn, attempt: document["attempt"]?.stringValue.flatMap(AttemptID.init),
            physicalName: document["physical_name"]?.stringValue)
    }

    private func readCheckpoints(into state: inout RunState) async throws(StorageError) {
        let root = backend.root
        let listed = Dictionary(
            (state.snapshot?.entries ?? []).map { (Array($0.physicalName.utf8), $0) }, uniquingKeysWith: { $1 })
        var foreign: [String] = []
        for name in try await backend.list("") where name.utf8.last == UInt8(ascii: "/") {
            let directory = String(name.dropLast())
            if directory == RunLayout.own { continue }
            let summary = try ManifestSummary.read(directory: Path.join(root, directory))
            if let summary, summary.runID == state.runID, summary.physicalName.utf8.elementsEqual(directory.utf8) {
                state.committed.append(summary.entry)
            } else if summary == nil, let claim = try Ownership.claim(on: directory, root: root) {
                state.damaged.append((directory, claim))
            } else if directory.hasPrefix("checkpoint_") || listed[Array(directory.utf8)] != nil {
                foreign.append(directory)
            }
        }
        state.committed.sort { ($0.sequence ?? .start) < ($1.sequence ?? .start) }
        foreign.sort { left, right in
            let (first, second) = (listed[Array(left.utf8)]?.sequence, listed[Array(right.utf8)]?.sequence)
            if first != second { return (first ?? .start) < (second ?? .start) }
            return left.utf8.lexicographicallyPrecedes(right.utf8)
        }
        state.foreign = foreign.map { name in
            let metrics = listed[Array(name.utf8)]?.metrics ?? .object([])
            return CheckpointEntry(attempt: nil, name: name, physicalName: name, metrics: metrics)
        }
    }
}

extension ReportSequence {
    /// Before every report.
    static let start = ReportSequence(epoch: -1, index: -1)
}
