internal import Glibc

/// What a run directory holds, for people and programs that come afterwards. Reads only; a reader without write
/// permission works. Written by us or by Ray (V1 trial directories, V2 run directories).
public struct RunResult: Sendable {
    private let storage: Storage
    private let environment: Environment

    /// The directory of a run; NOT_FOUND when there is none of any kind. `storageOptions` are the storage's.
    public init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system
    ) throws(StorageError) {
        try self.init(path, storageOptions: storageOptions, environment: environment, opener: .system)
    }

    init(
        _ path: String, storageOptions: JSONValue? = nil, environment: Environment = .system, opener: Storage.Opener,
        progress: Progress = Progress()
    ) throws(StorageError) {
        let path = try StoragePath.resolve(path, environment: environment)
        self.init(
            try Storage.open(
                path, options: storageOptions, patience: .reading, environment: environment, opener: opener,
                progress: progress),
            environment)
    }

    private init(_ storage: Storage, _ environment: Environment) {
        self.storage = storage
        self.environment = environment
    }

    private var backend: any StorageBackend { storage.backend }
    /// What opens it again.
    private var root: String { storage.path.uri }

    func state() async throws(StorageError) -> RunState {
        if storage.objects == nil, try System.statusFollowing(storage.path.directory)?.kind != .directory {
            throw StorageError(.notFound, "there is no run at \(quoted(root))", details: [("path", .string(root))])
        }
        guard try await storage.isRun() else {
            throw StorageError(
                .notFound,
                "\(quoted(root)) is not a run directory: it has no .raystorage/run.json, no \(RunLayout.snapshot) and no"
                    + " \(RunLayout.results)",
                details: [("path", .string(root))])
        }
        var state = try await RunReader(backend: backend).read()
        if state.format == .rayV1 { try await fillInMetrics(&state) }
        return state
    }

    /// Ray V1 keeps the metrics of its checkpoints in `result.json` only.
    private func fillInMetrics(_ state: inout RunState) async throws(StorageError) {
        var byName: [[UInt8]: JSONValue] = [:]
        for row in try await resultRows() {
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
            entry.document(
                path: storage.path.appending(entry.physicalName).uri, status: statuses[entry.id] ?? .committed,
                isLatest: entry.id == latest?.id)
        }
        var metrics = latest?.metrics
        if metrics == nil { metrics = try await metricsRows(state).last }
        return .make([
            "schema": 1, "format": .string(state.format.rawValue), "path": .string(root),
            "name": .string(Path.name(storage.path.directory)), "run_id": .optional(state.runID),
            "metrics": metrics ?? .null,
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
    public func metrics() async throws(StorageError) -> JSONValue {
        guard try await storage.isRun() else {
            throw StorageError(.notFound, "there is no run at \(quoted(root))", details: [("path", .string(root))])
        }
        return .array(try await metricsRows(nil))
    }

    private func metricsRows(_ state: RunState?) async throws(StorageError) -> [JSONValue] {
        let rows: [MetricsRow]
        if storage.objects == nil {
            rows = try MetricsHistory.read(runDirectory: storage.path.directory)
        } else {
            rows = try await StoredMetrics(backend: backend).rows(state?.decisions)
        }
        if rows.isEmpty { return try await resultRows() }
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
    private func resultRows() async throws(StorageError) -> [JSONValue] {
        guard storage.objects == nil else {
            let bytes = try await backend.read(RunLayout.results, limit: 1 << 30)?.bytes ?? []
            return bytes.split(separator: 0x0A).compactMap { line in
                (try? JSONParser.parse(line)).flatMap { $0.objectValue == nil ? nil : $0 }
            }
        }
        let root = storage.path.directory
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
        if try await storage.isRun() {
            let members = try await document().objectValue ?? []
            return .object([JSONMember("kind", "run")] + members)
        }
        let names = try await directories()
        guard let names else {
            throw StorageError(.notFound, "there is nothing at \(quoted(root))", details: [("path", .string(root))])
        }
        var runs: [JSONValue] = []
        for name in names {
            let run = storage.at(storage.path.appending(name).directory)
            guard try await run.isRun() else { continue }
            do throws(StorageError) {
                runs.append(try await RunResult(run, environment).summary())
            } catch {
                // One damaged run must not hide the others.
                runs.append(
                    .make(["name": .string(name), "path": .string(run.path.uri), "error": .string(error.message)]))
            }
        }
        return .make(["kind": "storage", "path": .string(root), "runs": .array(runs)])
    }

    /// The directories below the path; nil when there is nothing.
    private func directories() async throws(StorageError) -> [String]? {
        guard storage.objects == nil else {
            let names = try await backend.list("")
            if names.isEmpty { return nil }
            return names.filter { $0.utf8.last == UInt8(ascii: "/") }.map(Path.withoutSlash)
        }
        let root = storage.path.directory
        guard try System.statusFollowing(root)?.kind == .directory else { return nil }
        var names: [String] = []
        for name in try System.list(root).sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) })
        where try System.statusFollowing(Path.join(root, name))?.kind == .directory {
            names.append(name)
        }
        return names
    }

    /// When the run was written to, in seconds since 1970.
    private func modifiedAt() async throws(StorageError) -> Double? {
        if let objects = storage.objects {
            return try await objects.head(RunLayout.snapshot, progress: Progress())?.modifiedAt
        }
        let root = storage.path.directory
        var modified = try System.status(Path.join(root, RunLayout.snapshot))
        if modified == nil { modified = try System.status(root) }
        return modified.map { Double($0.modifiedNanoseconds) / 1e9 }
    }

    private func summary() async throws(StorageError) -> JSONValue {
        let state = try await state()
        let modified = try await modifiedAt()
        let sizes = state.committed.compactMap(\.bytes)
        return .make([
            "name": .string(Path.name(storage.path.directory)), "path": .string(root),
            "format": .string(state.format.rawValue),
            "checkpoints": JSONValue(state.entries.count), "latest": .optional(state.latest?.name),
            "metrics": state.latest?.metrics ?? .null,
            "modified_at": modified.map { .number($0) } ?? .null,
            "bytes": state.foreign.isEmpty ? JSONValue(ByteSum.of(sizes)) : .null,
        ])
    }
}
