internal import Glibc

/// What a run directory holds, for people and programs that come afterwards. Reads only; a reader without write
/// permission works. Written by us or by Ray (V1 trial directories, V2 run directories).
public struct RunResult: Sendable {
    let root: String
    private let environment: Environment

    /// The directory of a run; NOT_FOUND when there is none of any kind.
    public init(_ path: String, environment: Environment = .system) throws(StorageError) {
        let storage = try StoragePath.resolve(path, environment: environment)
        try storage.requireSupported()
        root = storage.directory
        self.environment = environment
    }

    private var backend: LocalBackend {
        LocalBackend(root: root, durability: .none, temporaryTag: "", environment: environment)
    }

    /// Whether a directory is a run of ours or of Ray's.
    static func isRun(_ directory: String) throws(StorageError) -> Bool {
        for key in [RunLayout.record, RunLayout.snapshot, RunLayout.results, "progress.csv"] {
            if try System.status(Path.join(directory, key)) != nil { return true }
        }
        return false
    }

    func state() async throws(StorageError) -> RunState {
        guard try System.statusFollowing(root)?.kind == .directory else {
            throw StorageError(.notFound, "there is no run at \(quoted(root))", details: [("path", .string(root))])
        }
        guard try Self.isRun(root) else {
            throw StorageError(
                .notFound,
                "\(quoted(root)) is not a run directory: it has no .raystorage/run.json, no \(RunLayout.snapshot) and no"
                    + " \(RunLayout.results)",
                details: [("path", .string(root))])
        }
        var state = try await RunReader(backend: backend).read()
        if state.format == .rayV1 { try fillInMetrics(&state) }
        return state
    }

    /// Ray V1 keeps the metrics of its checkpoints in `result.json` only.
    private func fillInMetrics(_ state: inout RunState) throws(StorageError) {
        var byName: [[UInt8]: JSONValue] = [:]
        for row in try resultRows() {
            if let name = row["checkpoint_dir_name"]?.stringValue { byName[Array(name.utf8)] = row }
        }
        for index in state.foreign.indices {
            if let metrics = byName[Array(state.foreign[index].physicalName.utf8)] {
                state.foreign[index].metrics = metrics
            }
        }
    }

    /// The "result" document.
    public func document() async throws(StorageError) -> JSONValue {
        let state = try await state()
        let statuses = state.statuses
        let latest = state.latest
        func document(_ entry: CheckpointEntry) -> JSONValue {
            entry.document(root: root, status: statuses[entry.id] ?? .committed, isLatest: entry.id == latest?.id)
        }
        var metrics = latest?.metrics
        if metrics == nil { metrics = try metricsRows().last }
        return .make([
            "schema": 1, "format": .string(state.format.rawValue), "path": .string(root),
            "name": .string(Path.name(root)), "run_id": .optional(state.runID), "metrics": metrics ?? .null,
            "checkpoint": latest.map(document) ?? .null, "checkpoints": .array(state.entries.map(document)),
            "best_checkpoints": .array(ranked(state).map(document)),
        ])
    }

    /// As the snapshot ranks them, worst first; what it does not know (committed after it was written) comes by age
    /// before them. Without a snapshot: by age.
    private func ranked(_ state: RunState) -> [CheckpointEntry] {
        guard let snapshot = state.snapshot else { return state.entries }
        let byName = Dictionary(
            state.entries.map { (Array($0.physicalName.utf8), $0) }, uniquingKeysWith: { $1 })
        let listed = snapshot.entries.compactMap { byName[Array($0.physicalName.utf8)] }
        let known = Set(listed.map(\.id))
        return state.entries.filter { !known.contains($0.id) } + listed
    }

    // MARK: - Metrics

    /// Every row of metrics, in the order of the reports.
    public func metrics() throws(StorageError) -> JSONValue {
        guard try Self.isRun(root) else {
            throw StorageError(.notFound, "there is no run at \(quoted(root))", details: [("path", .string(root))])
        }
        return .array(try metricsRows())
    }

    private func metricsRows() throws(StorageError) -> [JSONValue] {
        let rows = try MetricsHistory.read(runDirectory: root)
        if rows.isEmpty { return try resultRows() }
        var result: [JSONValue] = []
        result.reserveCapacity(rows.count)
        var start: Double?
        for (number, row) in rows.enumerated() {
            let first = start ?? row.time
            start = first
            let own = row.metrics.objectValue ?? []
            let keys = Set(own.map { Array($0.key.utf8) })
            let added = [
                JSONMember("training_iteration", JSONValue(number + 1)), JSONMember("timestamp", .number(row.time)),
                JSONMember("time_total_s", .number(row.time - first)),
                JSONMember("checkpoint_dir_name", .optional(row.checkpointName)),
                JSONMember("raystorage_epoch", JSONValue(row.sequence.epoch)),
                JSONMember("raystorage_index", JSONValue(row.sequence.index)),
            ]
            result.append(.object(own + added.filter { !keys.contains(Array($0.key.utf8)) }))
        }
        return result
    }

    /// The rows of `result.json`, whole lines only; Ray V2 directories have none.
    private func resultRows() throws(StorageError) -> [JSONValue] {
        let path = Path.join(root, RunLayout.results)
        guard try System.status(path) != nil else { return [] }
        var rows: [JSONValue] = []
        var reader = try LineReader(path)
        try reader.forEach { line throws(StorageError) in
            if let row = try? JSONParser.parse(line), row.objectValue != nil { rows.append(row) }
            return true
        }
        return rows
    }

    // MARK: - Listing

    /// The "listing" document: the checkpoints of a run, or the runs below a storage path.
    public func listing() async throws(StorageError) -> JSONValue {
        if try Self.isRun(root) {
            let members = try await document().objectValue ?? []
            return .object([JSONMember("kind", "run")] + members)
        }
        guard try System.statusFollowing(root)?.kind == .directory else {
            throw StorageError(.notFound, "there is nothing at \(quoted(root))", details: [("path", .string(root))])
        }
        var runs: [JSONValue] = []
        for name in try System.list(root).sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
            let directory = Path.join(root, name)
            guard try System.statusFollowing(directory)?.kind == .directory, try Self.isRun(directory) else { continue }
            do throws(StorageError) {
                runs.append(try await RunResult(directory, environment: environment).summary())
            } catch {
                // One damaged run must not hide the others.
                runs.append(
                    .make(["name": .string(name), "path": .string(directory), "error": .string(error.message)]))
            }
        }
        return .make(["kind": "storage", "path": .string(root), "runs": .array(runs)])
    }

    private func summary() async throws(StorageError) -> JSONValue {
        let state = try await state()
        var modified = try System.status(Path.join(root, RunLayout.snapshot))
        if modified == nil { modified = try System.status(root) }
        let sizes = state.committed.compactMap(\.bytes)
        return .make([
            "name": .string(Path.name(root)), "path": .string(root), "format": .string(state.format.rawValue),
            "checkpoints": JSONValue(state.entries.count), "latest": .optional(state.latest?.name),
            "metrics": state.latest?.metrics ?? .null,
            "modified_at": modified.map { .number(Double($0.modifiedNanoseconds) / 1e9) } ?? .null,
            "bytes": state.foreign.isEmpty ? JSONValue(sizes.reduce(0, +)) : .null,
        ])
    }
}
