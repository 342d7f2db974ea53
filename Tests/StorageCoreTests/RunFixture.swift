import Glibc
import Synchronization

@testable import StorageCore

/// A storage path of a test's own with a run on it, machines (staging directories) that train it, and words for what
/// trainers do and leave. Every trainer counts as a process of its own.
final class RunFixture: Sendable {
    /// What the run lies on.
    enum Kind: Sendable, CaseIterable { case files, objects }

    let tree: TreeFixture
    let kind: Kind
    let memory: MemoryObjectStore
    /// By which the object store stamps what it is given.
    let storeClock = MovableClock()
    /// Of its own, like the tree: who reads a checkpoint pins its address for all of the process.
    let bucket = "s3://bucket-\(Environment.system.randomHex(16))"
    private let sources = Counter()
    private let holds = Mutex<[Hold]>([])

    /// `hook` is given the requests to the object store.
    init(
        _ kind: Kind = .files, capabilities: ObjectStoreCapabilities = MemoryObjectStore.usual,
        hook: MemoryObjectStore.Hook? = nil
    ) throws {
        self.kind = kind
        tree = try TreeFixture()
        memory = MemoryObjectStore(
            root: bucket, capabilities: capabilities, environment: storeClock.environment, hook: hook)
    }

    var opener: Storage.Opener { Storage.Opener { [memory] _, _, _, _ throws(StorageError) in memory } }

    deinit {
        for hold in holds.withLock({ $0 }) { hold.release() }
        forgetOpen()
    }

    /// What opens the run.
    var root: String { kind == .files ? tree.at("storage/run") : "\(bucket)/storage/run" }

    func path(_ key: String) -> String { Path.join(root, key) }

    /// Beats so rarely that no test sees two of them: who is alive is a matter of the test.
    func options(_ host: String, _ change: (inout RunOptions) -> Void = { _ in }) -> RunOptions {
        var options = RunOptions()
        options.storagePath = kind == .files ? tree.at("storage") : "\(bucket)/storage"
        options.name = "run"
        options.stagingDirectory = tree.at("host-\(host)")
        options.durability = .none
        options.heartbeatMilliseconds = 3_600_000
        change(&options)
        return options
    }

    private func takeover(
        _ host: String, _ environment: Environment, _ hook: HookedBackend.Hook?, _ change: (inout RunOptions) -> Void
    ) -> Takeover {
        forgetOpen()
        var takeover = Takeover(
            options: options(host, change), environment: environment, engine: .shared, progress: Progress())
        takeover.opener = opener
        if let hook { takeover.wrap = { HookedBackend($0, hook) } }
        return takeover
    }

    /// Lets the next trainer be another process.
    func forgetOpen() { if let id = try? runID() { OpenRuns.shared.leave(id) } }

    func runID() throws -> String? { try document(RunLayout.record)?["run_id"]?.stringValue }

    /// Opens the run and no more: the caller plays the trainer.
    func open(
        _ host: String = "a", environment: Environment = .system, change: (inout RunOptions) -> Void = { _ in },
        hook: HookedBackend.Hook? = nil
    ) async throws -> OpenedRun {
        let opened = try await takeover(host, environment, hook, change).open()
        holds.withLock { $0.append(opened.hold) }
        return opened
    }

    /// Opens the run as the C interface does.
    func train(
        _ host: String = "a", environment: Environment = .system, change: (inout RunOptions) -> Void = { _ in },
        hook: HookedBackend.Hook? = nil
    ) async throws -> TrainingRun {
        let run = try await TrainingRun.open(takeover(host, environment, hook, change))
        holds.withLock { $0.append(run.opened.hold) }
        return run
    }

    // MARK: - The ends of trainers

    /// The process is gone, without a word.
    func kill(_ opened: OpenedRun) throws {
        opened.hold.release()
        opened.lock.release()
        OpenRuns.shared.leave(opened.runID)
        // Others watch a heartbeat for 3 T before they say so; T was short, then.
        let key = RunLayout.epoch(opened.hold.epoch.number)
        var record = opened.hold.epoch
        record.heartbeatMilliseconds = 10
        try write(key, record.document.compact)
    }

    func kill(_ run: TrainingRun) throws {
        AllRuns.shared.remove(run)
        try kill(run.opened)
    }

    /// An epoch that committed those reports and was killed.
    @discardableResult
    func epoch(_ indices: [Int]) async throws -> OpenedRun {
        let opened = try await open()
        for index in indices { try await commit(opened, index) }
        try kill(opened)
        return opened
    }

    /// Says goodbye.
    func close(_ run: TrainingRun) throws { try run.close(Deadline(timeoutMilliseconds: 600_000)) }

    // MARK: - Reports

    /// A directory with one file.
    func source(_ content: String) throws -> String {
        let name = "sources/\(sources.next())"
        try tree.file("\(name)/data", Array(content.utf8))
        return tree.at(name)
    }

    @discardableResult
    func report(
        _ run: TrainingRun, _ content: String = "x", name: String? = nil, metrics: String = "{}"
    ) throws -> Report {
        var options = ReportOptions()
        options.checkpointDirName = name
        let report = try run.report(
            metricsJSON: Array(metrics.utf8), directory: try source(content), options: options)
        try report.wait(Deadline(timeoutMilliseconds: 600_000))
        return report
    }

    // MARK: - By hand

    /// How far an attempt has come.
    enum Stage: Sendable {
        /// Files, and nobody says what they are.
        case begun
        /// The journal says that a directory is about to be moved in.
        case intent(from: String)
        case captured
        case sealed
    }

    /// Makes what a trainer that was killed at that stage leaves.
    @discardableResult
    func leave(
        _ opened: OpenedRun, _ index: Int, _ stage: Stage, name: String? = nil, physicalName: String? = nil,
        content: String = "x", metrics: JSONValue = .object([]), bootID: String? = nil, hasJournal: Bool = true
    ) async throws -> AttemptID {
        let attempt = AttemptID(
            sequence: ReportSequence(epoch: opened.hold.epoch.number, index: index), nonce: opened.hold.epoch.nonce)
        let name = name ?? CheckpointName.automatic(attempt.sequence)
        let directory = opened.checkpoints.directory(attempt)
        try System.makeDirectories(directory)
        try Self.writeFile(Path.join(directory, "data"), content)
        var record = CapturedRecord(
            runID: opened.runID, attempt: attempt, name: name, physicalName: physicalName ?? name, metrics: metrics,
            hostID: opened.host.id, bootID: bootID ?? opened.host.bootID, createdAt: 1, durability: .none,
            isComplete: true, source: nil)
        switch stage {
        case .begun: return attempt
        case .intent(let source):
            record.isComplete = false
            record.source = source
        case .captured: break
        case .sealed:
            try await Sealing.seal(directory: directory, captured: nil, record: record, progress: Progress())
        }
        if hasJournal {
            try Self.writeFile(opened.checkpoints.local(RunLayout.captured(attempt)), record.document.compact)
        }
        return attempt
    }

    /// Commits and publishes a checkpoint, as far as the look at the fence.
    @discardableResult
    func commit(
        _ opened: OpenedRun, _ index: Int, name: String? = nil, metrics: JSONValue = .object([])
    ) async throws -> CheckpointEntry {
        let attempt = try await leave(opened, index, .sealed, name: name, metrics: metrics, hasJournal: false)
        let name = name ?? CheckpointName.automatic(attempt.sequence)
        try await opened.checkpoints.upload(attempt, as: name, progress: Progress())
        let outcome = try await opened.checkpoints.commit(attempt, as: name)
        try await opened.checkpoints.forget(attempt)
        guard outcome == .committed, let summary = try await opened.checkpoints.summary(name) else {
            throw StorageError(.internal, "not committed: \(outcome)")
        }
        opened.catalog.noteReport(index: index)
        try await opened.catalog.publish(summary.entry)
        return summary.entry
    }

    // MARK: - Looking

    private static func writeFile(_ path: String, _ text: String) throws {
        let file = try OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC)
        try file.write(Array(text.utf8))
        try file.close()
    }

    /// Keys below the run, on an object store.
    var keys: [String] {
        memory.contents.keys.filter { $0.hasPrefix("storage/run/") }.map { String($0.dropFirst(12)) }.sorted()
    }

    func exists(_ key: String) throws -> Bool {
        if kind == .objects { return keys.contains { $0 == key || $0.hasPrefix(key + "/") } }
        return try System.status(path(key)) != nil
    }

    func text(_ key: String) throws -> String {
        if kind == .objects {
            guard let bytes = memory.contents["storage/run/\(key)"] else {
                throw StorageError(.notFound, "there is no \(key)")
            }
            return String(decoding: bytes, as: UTF8.self)
        }
        return String(decoding: try OpenFile(path(key), O_RDONLY).readAll(limit: 1 << 30), as: UTF8.self)
    }

    func write(_ key: String, _ text: String) throws {
        if kind == .objects { return memory.place("storage/run/\(key)", Array(text.utf8)) }
        try tree.file("storage/run/\(key)", Array(text.utf8))
    }

    func document(_ key: String) throws -> JSONValue? {
        try exists(key) ? try JSONParser.parse(try text(key)) : nil
    }

    func snapshot() throws -> Snapshot {
        try Snapshot(decoding: Array(try text(RunLayout.snapshot).utf8), path: RunLayout.snapshot)
    }

    /// What a reader finds.
    func result() throws -> RunResult { try RunResult(root, environment: .system, opener: opener) }

    func state() async throws -> RunState { try await result().state() }

    /// Physical names and their status as a reader sees them, oldest first.
    func statuses() async throws -> [String] {
        let state = try await state()
        let statuses = state.statuses
        return state.entries.map { "\(Self.short($0.physicalName)) \(statuses[$0.id]?.rawValue ?? "?")" }
    }

    func latest() async throws -> String? { try await state().latest.map { Self.short($0.physicalName) } }

    /// `1.4` for the default name of report 4 of epoch 1.
    static func short(_ name: String) -> String {
        CheckpointName.sequence(ofAutomatic: name).map { "\($0.epoch).\($0.index)" } ?? name
    }

    func resume(_ epoch: Int, _ turn: Int = 0) throws -> String? {
        try document(RunLayout.resume(epoch, turn))?["physical_name"]?.stringValue.map(Self.short)
    }
}

/// A wall clock that tests move.
final class MovableClock: Sendable {
    private let ahead = Mutex(0.0)

    /// By so many seconds, for good.
    func move(_ seconds: Double) { ahead.withLock { $0 += seconds } }

    /// That of a machine with this clock.
    var environment: Environment {
        var environment = Environment.system
        let now = environment.now
        environment.now = { [self] in now() + ahead.withLock { $0 } }
        return environment
    }
}

/// The lines of the log, which are handed out once to whoever asks: all tests ask here.
final class LogLines: Sendable {
    static let shared = LogLines()
    private let lines = Mutex<[String]>([])

    /// The lines so far that hold all of these.
    func with(_ parts: String...) -> [String] {
        lines.withLock { lines in
            while let line = Log.shared.next(Deadline(timeoutMilliseconds: 0)) {
                lines.append(line["message"]?.stringValue ?? "")
            }
            return lines.filter { line in parts.allSatisfy { line.contains($0) } }
        }
    }
}

extension OpenedRun {
    /// Of a run on a file system.
    var store: FileCheckpointStore {
        checkpoints as? FileCheckpointStore ?? FileCheckpointStore(root: root, runID: runID, durability: .none)
    }
}

extension Environment {
    /// That of this machine so many seconds later, by its own clock and by that of its file systems.
    static func later(_ seconds: Double) -> Environment {
        var environment = Environment.system
        environment.now = { Environment.system.now() + seconds }
        environment.changedAt = { path in Environment.system.changedAt(path).map { $0 + seconds } }
        return environment
    }
}
