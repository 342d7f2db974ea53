internal import Glibc
internal import Synchronization

/// What an opened run consists of.
struct OpenedRun: Sendable {
    var root: String
    /// What opens it again.
    var address: String
    var storagePath: String
    var name: String
    var runID: String
    var backend: any StorageBackend
    /// Of what is sent for this run.
    var counters: StoreCounters
    var checkpoints: any CheckpointStore
    /// The directory of this machine where reports are captured and the metrics are logged: the run, if it is on one.
    var workspace: String
    var host: HostIdentity
    var hold: Hold
    var lock: ProcessLock
    var catalog: Catalog
    var resumedFrom: CheckpointEntry?
    var recovered: [String]
    var lost: [LostReport]
    /// What dead trainers left on a store is collected beside the training.
    var collection: Collection?

    struct Collection: Sendable {
        let task: Task<Void, Never>
        let progress: Progress
        /// For the sake of a run that is opened for a moment only.
        static let grace: Int64 = 10_000

        /// Ends it, after a while in which it may come to its end.
        func finish(on engine: Engine, isHopeless: Bool) async {
            await engine.limit(progress, milliseconds: isHopeless ? 0 : Self.grace) { await task.value }
        }
    }
}

/// A captured report that could not be finished.
struct LostReport: Sendable, Equatable {
    var name: String
    var reason: String

    var document: JSONValue { .make(["name": .string(name), "reason": .string(reason)]) }
}

/// The runs that are open in this process: a lock of the kernel does not keep a process from itself.
final class OpenRuns: @unchecked Sendable {
    // Proof for @unchecked: both sets are only touched with `monitor` locked.
    private let monitor = Monitor()
    private var ids: Set<String> = []
    private var probed: Set<String> = []

    static var shared: OpenRuns { Engine.shared.only(OpenRuns.self) { OpenRuns() } }

    /// False when it is open already.
    func enter(_ id: String) -> Bool {
        monitor.withLock {
            while probed.contains(id) { monitor.wait() }
            return ids.insert(id).inserted
        }
    }

    func leave(_ id: String) { monitor.withLock { _ = ids.remove(id) } }

    /// For those who open the lock file of a run that they do not train: closing it drops the lock that their process
    /// holds. nil when this process has the run open; else nobody opens it until `body`, which must be short, is over.
    func probe<Value>(_ id: String, _ body: () throws(StorageError) -> Value) throws(StorageError) -> Value? {
        let isFree = monitor.withLock {
            while probed.contains(id) { monitor.wait() }
            if ids.contains(id) { return false }
            return probed.insert(id).inserted
        }
        guard isFree else { return nil }
        defer {
            monitor.withLock {
                probed.remove(id)
                monitor.broadcast()
            }
        }
        return try body()
    }
}

/// Opens a run for training, in the order that keeps every commit that was reported as durable: lock, watch the
/// holder, create the epoch, raise the fence, finish this host's leftovers, list, choose where to go on from.
struct Takeover: Sendable {
    let options: RunOptions
    let environment: Environment
    let engine: Engine
    let progress: Progress
    /// Stands between the run and its storage; tests put failures and other trainers there.
    var wrap: @Sendable (any StorageBackend) -> any StorageBackend = { $0 }
    var opener = Storage.Opener.system

    func open() async throws(StorageError) -> OpenedRun {
        try options.validate()
        let storagePath = try StoragePath.resolve(options.storagePath, environment: environment)
        let name = options.name ?? environment.variable("RAYSTORAGE_NAME") ?? RunName.automatic(environment)
        try RunName.validate(name)
        // The run goes on when the operation that opened it is long forgotten.
        let life = Progress()
        progress.lead(life)
        defer { progress.release(life) }
        let storage = try Storage.open(
            storagePath.appending(name), options: options.storageOptions,
            patience: StorePatience(retryMilliseconds: options.retryTimeoutMilliseconds), environment: environment,
            opener: opener, progress: life)
        progress.phase = "opening"
        try await refuseNesting(storage)
        try await checkExisting(storage)
        let host = try HostIdentity.open(options.stagingDirectory, environment: environment)
        let backend = wrap(storage.writer(durability: options.durability, temporaryTag: host.temporaryTag))
        let runID = try await createRun(backend)
        guard OpenRuns.shared.enter(runID) else { throw Self.inUse(backend.root, "this process", []) }
        do throws(StorageError) {
            return try await take(
                storage, backend, runID: runID, host: host, storagePath: storagePath.uri, name: name)
        } catch {
            OpenRuns.shared.leave(runID)
            throw error
        }
    }

    /// Of a run on a store: a place of its own below the staging directory.
    private func makeWorkspace(_ storage: Storage, runID: String, host: HostIdentity) throws(StorageError) -> String {
        guard storage.objects != nil else { return storage.path.directory }
        let workspace = host.workspace(runID: runID)
        if options.durability == .fsync, FileSystemKind.isMemory(host.directory) {
            Log.shared.write(
                .warning,
                "staging_dir \(quoted(host.directory)) lies in memory: a power cut takes what is not uploaded yet",
                [("path", .string(host.directory))])
        }
        for key in [RunLayout.attempts, RunLayout.trash, RunLayout.uploads] {
            for made in try System.makeDirectories(Path.join(workspace, key), mode: 0o700)
            where options.durability == .fsync {
                try System.syncDirectory(Path.parent(made))
            }
        }
        return workspace
    }

    private func take(
        _ storage: Storage, _ backend: any StorageBackend, runID: String, host: HostIdentity, storagePath: String,
        name: String
    ) async throws(StorageError) -> OpenedRun {
        let lock = try await takeLock(backend, runID: runID, host: host)
        do throws(StorageError) {
            // Behind the lock: without it somebody may be about to forget a run of this id.
            try host.remember(
                runID: runID, path: storage.path.uri, options: storage.path.rememberable(options.storageOptions))
            let workspace = try makeWorkspace(storage, runID: runID, host: host)
            var (epoch, state) = try await createEpoch(backend, host: host)
            let hold = Hold(
                backend: backend, epoch: epoch, environment: environment,
                isFencedBySnapshot: storage.objects != nil && backend.capabilities.replacesConditionally)
            do throws(StorageError) {
                // Stores do not remember what was absent.
                if backend.capabilities.renamesDirectories {
                    _ = try await backend.create(RunLayout.fence(epoch.number), [])
                }
                try await hold.renew()
                hold.keepRenewing(on: engine, lock: lock)
                let snapshot = SnapshotFile(backend: backend, hold: hold)
                try await snapshot.raiseFence()
                try await raiseFences(before: epoch, state, backend)
                let store = storage.checkpoints(
                    runID: runID, backend: backend, workspace: workspace, durability: options.durability,
                    epoch: epoch.number, inflightBytes: options.maxInflightBytes)
                let leftovers = Leftovers(
                    store: store, backend: backend, host: host, hold: hold, options: options, environment: environment,
                    engine: engine, progress: progress)
                let (recovered, lost) = try await leftovers.finish()
                // Their trainers may have fallen back until they were fenced.
                let reader = RunReader(backend: backend)
                try await reader.refresh(&state, from: state.history.lastStarted(before: epoch.number) ?? 1)
                let resumption = Resumption(
                    options: options, store: store, backend: backend, snapshot: snapshot, hold: hold, epochs: state,
                    environment: environment, engine: engine, progress: progress)
                let (catalog, resumedFrom) = try await resumption.choose()
                hold.onBeat { [weak catalog] in await catalog?.keepSnapshot() }
                try await leftovers.collectForeign()
                var collection: OpenedRun.Collection?
                if storage.objects != nil {
                    // It outlives the operation that opens the run.
                    let own = Progress()
                    let task = engine.spawn { await leftovers.collectObjects(own) }
                    collection = OpenedRun.Collection(task: task, progress: own)
                }
                return OpenedRun(
                    root: backend.root, address: storage.path.uri, storagePath: storagePath, name: name, runID: runID,
                    backend: backend, counters: storage.objects?.counters ?? StoreCounters(), checkpoints: store,
                    workspace: workspace, host: host, hold: hold, lock: lock,
                    catalog: catalog, resumedFrom: resumedFrom,
                    recovered: recovered, lost: lost, collection: collection)
            } catch {
                hold.release()
                throw error
            }
        } catch {
            lock.release()
            throw error
        }
    }

    // MARK: - Before anything is written

    /// A run inside another run's directory would be taken for its checkpoint, and the other way round.
    private func refuseNesting(_ storage: Storage) async throws(StorageError) {
        let address = storage.path.uri
        for ancestor in storage.ancestors where try await ancestor.hasRecord() {
            throw StorageError(
                .invalidArgument,
                "\(quoted(address)) lies inside the run \(quoted(ancestor.path.uri)): choose a storage_path outside it",
                details: [("path", .string(address)), ("run", .string(ancestor.path.uri))])
        }
    }

    private func checkExisting(_ storage: Storage) async throws(StorageError) {
        let address = storage.path.uri
        let isRun = try await storage.isRun()
        if isRun, options.resume == .never {
            throw StorageError(
                .alreadyExists,
                "the run \(quoted(address)) exists, and resume=\"never\" refuses to go on with it: choose another name",
                details: [("path", .string(address))])
        }
        if !isRun, options.resume == .must || options.resumeFrom != nil {
            throw StorageError(
                .notFound, "there is no run at \(quoted(address)) to go on with", details: [("path", .string(address))])
        }
        if !isRun, let inner = try await innerRun(storage) {
            throw StorageError(
                .invalidArgument, "\(quoted(address)) holds the run \(quoted(inner)): a run cannot lie inside another",
                details: [("path", .string(address)), ("run", .string(inner))])
        }
        if let wanted = options.resumeFrom {
            let state = try await RunReader(backend: storage.backend).read()
            if Resumption.find(wanted, in: state) == nil { throw Resumption.missing(wanted, state, root: address) }
        }
    }

    private func innerRun(_ storage: Storage) async throws(StorageError) -> String? {
        if storage.objects == nil, try System.status(storage.path.directory)?.kind != .directory { return nil }
        for name in try await storage.backend.list("") where name.utf8.last == UInt8(ascii: "/") {
            let inner = storage.at(storage.path.appending(Path.withoutSlash(name)).directory)
            if try await inner.hasRecord() { return inner.path.uri }
        }
        return nil
    }

    // MARK: - Steps

    private func createRun(_ backend: any StorageBackend) async throws(StorageError) -> String {
        for key in [
            RunLayout.attempts, RunLayout.trash, ".raystorage/metrics", ".raystorage/names", ".raystorage/epochs",
        ] where backend.capabilities.renamesDirectories {
            let made = try System.makeDirectories(backend.path(key))
            if options.durability == .fsync {
                for directory in made { try System.syncDirectory(Path.parent(directory)) }
            }
        }
        let reader = RunReader(backend: backend)
        if let id = try await reader.runID() { return id }
        let id = environment.randomHex(16)
        let document = JSONValue.make([
            "schema": 1, "run_id": .string(id), "created_at": .number(environment.now()),
            "durability": .string(options.durability.rawValue),
        ])
        if try await backend.create(RunLayout.record, document) { return id }
        if let other = try await reader.runID() { return other }
        throw StorageError(
            .checksum, "\(quoted(backend.path(RunLayout.record))) holds no run_id",
            details: [("path", .string(backend.path(RunLayout.record)))])
    }

    /// On one host the kernel knows at once whether the holder lives.
    private func takeLock(
        _ backend: any StorageBackend, runID: String, host: HostIdentity
    ) async throws(StorageError) -> ProcessLock {
        switch try ProcessLock.take(host.lockPath(runID: runID)) {
        case .held(let lock): return lock
        case .busy(let processID):
            let reader = RunReader(backend: backend)
            let last = try await reader.lastRecord(try await reader.epochs())
            if let last, last.processID == processID { throw Self.inUse(backend.root, last.holder, last.holderDetails) }
            throw Self.inUse(
                backend.root, "process \(processID) on \(quoted(host.hostname))",
                [("holder_pid", JSONValue(processID)), ("holder_hostname", .string(host.hostname))])
        }
    }

    static func inUse(
        _ root: String, _ holder: String, _ details: [(key: String, value: JSONValue)]
    ) -> StorageError {
        StorageError(
            .runInUse,
            "the run \(quoted(root)) is in use by \(holder): stop that trainer first, or choose another name",
            details: [("path", .string(root))] + details, isRetryable: true)
    }

    /// The record, and what there was before it.
    private func createEpoch(
        _ backend: any StorageBackend, host: HostIdentity
    ) async throws(StorageError) -> (EpochRecord, RunState) {
        let reader = RunReader(backend: backend)
        while true {
            let state = try await reader.epochs()
            // On this host and boot the lock has told already that the holder is dead.
            if let last = try await reader.lastRecord(state), !state.closedEpochs.contains(last.number),
                last.hostID != host.id || last.bootID != host.bootID
            {
                let isAlive = try await Hold.isAlive(
                    last, backend: backend, environment: environment, engine: engine, progress: progress)
                if isAlive { throw Self.inUse(backend.root, last.holder, last.holderDetails) }
            }
            let record = EpochRecord(
                number: state.lastEpochNumber + 1, nonce: environment.randomHex(8), hostID: host.id,
                hostname: host.hostname, processID: Int(getpid()), startedAt: environment.now(),
                heartbeatMilliseconds: options.heartbeatMilliseconds, bootID: host.bootID)
            // False: another newcomer was faster; look at it as at any holder.
            if try await backend.create(RunLayout.epoch(record.number), record.document) { return (record, state) }
        }
    }

    /// Every holder before us that did not say goodbye may still be alive somewhere and about to commit. Those before the
    /// last epoch that got as far as reporting were fenced by that one, before it chose where to go on from.
    private func raiseFences(
        before epoch: EpochRecord, _ state: RunState, _ backend: any StorageBackend
    ) async throws(StorageError) {
        let first = state.history.lastStarted(before: epoch.number) ?? 1
        for number in state.takenEpochs.sorted() where number >= first && number < epoch.number {
            if state.closedEpochs.contains(number) { continue }
            try await Hold.raiseFence(of: number, by: epoch, backend: backend)
        }
    }
}
