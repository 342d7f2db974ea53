internal import Glibc
internal import Synchronization

/// What an opened run consists of.
struct OpenedRun: Sendable {
    var root: String
    var storagePath: String
    var name: String
    var runID: String
    var backend: any StorageBackend
    var store: FileCheckpointStore
    var host: HostIdentity
    var hold: Hold
    var lock: ProcessLock
    var catalog: Catalog
    var resumedFrom: CheckpointEntry?
    var recovered: [String]
    var lost: [LostReport]
}

/// A captured report that could not be finished.
struct LostReport: Sendable, Equatable {
    var name: String
    var reason: String

    var document: JSONValue { .make(["name": .string(name), "reason": .string(reason)]) }
}

/// The runs that are open in this process: a lock of the kernel does not keep a process from itself.
final class OpenRuns: Sendable {
    private let ids = Mutex<Set<String>>([])
    static var shared: OpenRuns { Engine.shared.only(OpenRuns.self) { OpenRuns() } }
    func enter(_ id: String) -> Bool { ids.withLock { $0.insert(id).inserted } }
    func contains(_ id: String) -> Bool { ids.withLock { $0.contains(id) } }
    func leave(_ id: String) { ids.withLock { _ = $0.remove(id) } }
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

    func open() async throws(StorageError) -> OpenedRun {
        try options.validate()
        let storage = try StoragePath.resolve(options.storagePath, environment: environment)
        try storage.requireSupported()
        let name = options.name ?? environment.variable("RAYSTORAGE_NAME") ?? RunName.automatic(environment)
        try RunName.validate(name)
        let root = Path.join(storage.directory, name)
        try refuseNesting(root)
        progress.phase = "opening"
        try await checkExisting(root)
        let host = try HostIdentity.open(options.stagingDirectory, environment: environment)
        let backend = wrap(
            LocalBackend(
                root: root, durability: options.durability, temporaryTag: host.temporaryTag, environment: environment))
        let runID = try await createRun(backend)
        guard OpenRuns.shared.enter(runID) else { throw Self.inUse(root, "this process", []) }
        do throws(StorageError) {
            return try await take(backend, runID: runID, host: host, storage: storage.uri, name: name)
        } catch {
            OpenRuns.shared.leave(runID)
            throw error
        }
    }

    private func take(
        _ backend: any StorageBackend, runID: String, host: HostIdentity, storage: String, name: String
    ) async throws(StorageError) -> OpenedRun {
        try host.remember(runID: runID, path: backend.root)
        let lock = try await takeLock(backend, runID: runID, host: host)
        do throws(StorageError) {
            let epoch = try await createEpoch(backend, host: host)
            let hold = Hold(backend: backend, epoch: epoch, environment: environment)
            do throws(StorageError) {
                _ = try await backend.create(RunLayout.fence(epoch.number), [])
                try await hold.renew()
                hold.keepRenewing(on: engine, lock: lock)
                try await raiseFences(before: epoch, backend)
                let store = FileCheckpointStore(root: backend.root, runID: runID, durability: options.durability)
                let leftovers = Leftovers(
                    store: store, backend: backend, host: host, hold: hold, options: options, environment: environment,
                    engine: engine, progress: progress)
                let (recovered, lost) = try await leftovers.finish()
                let resumption = Resumption(
                    options: options, store: store, backend: backend, hold: hold, environment: environment,
                    engine: engine, progress: progress)
                let (catalog, resumedFrom) = try await resumption.choose()
                try await leftovers.collectForeign()
                return OpenedRun(
                    root: backend.root, storagePath: storage, name: name, runID: runID, backend: backend, store: store,
                    host: host, hold: hold, lock: lock, catalog: catalog, resumedFrom: resumedFrom,
                    recovered: recovered, lost: lost)
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
    private func refuseNesting(_ root: String) throws(StorageError) {
        var ancestor = Path.parent(root)
        while true {
            if try System.status(Path.join(ancestor, RunLayout.record)) != nil {
                throw StorageError(
                    .invalidArgument,
                    "\(quoted(root)) lies inside the run \(quoted(ancestor)): choose a storage_path outside it",
                    details: [("path", .string(root)), ("run", .string(ancestor))])
            }
            if ancestor == "/" { return }
            ancestor = Path.parent(ancestor)
        }
    }

    private func checkExisting(_ root: String) async throws(StorageError) {
        var isRun = false
        for key in [RunLayout.record, RunLayout.snapshot, RunLayout.results] where !isRun {
            isRun = try System.status(Path.join(root, key)) != nil
        }
        if isRun, options.resume == .never {
            throw StorageError(
                .alreadyExists,
                "the run \(quoted(root)) exists, and resume=\"never\" refuses to go on with it: choose another name",
                details: [("path", .string(root))])
        }
        if !isRun, options.resume == .must || options.resumeFrom != nil {
            throw StorageError(
                .notFound, "there is no run at \(quoted(root)) to go on with", details: [("path", .string(root))])
        }
        if !isRun, let inner = try innerRun(root) {
            throw StorageError(
                .invalidArgument, "\(quoted(root)) holds the run \(quoted(inner)): a run cannot lie inside another",
                details: [("path", .string(root)), ("run", .string(inner))])
        }
        if let wanted = options.resumeFrom {
            let reader = RunReader(
                backend: LocalBackend(root: root, durability: .none, temporaryTag: "", environment: environment))
            let state = try await reader.read()
            if Resumption.find(wanted, in: state) == nil { throw Resumption.missing(wanted, state, root: root) }
        }
    }

    private func innerRun(_ root: String) throws(StorageError) -> String? {
        guard try System.status(root)?.kind == .directory else { return nil }
        for name in try System.list(root) {
            let inner = Path.join(root, name)
            if try System.status(Path.join(inner, RunLayout.record)) != nil { return inner }
        }
        return nil
    }

    // MARK: - Steps

    private func createRun(_ backend: any StorageBackend) async throws(StorageError) -> String {
        for key in [
            RunLayout.attempts, RunLayout.trash, ".raystorage/metrics", ".raystorage/names", ".raystorage/epochs",
        ] {
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
            let last = try await RunReader(backend: backend).read().lastEpoch
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

    private func createEpoch(_ backend: any StorageBackend, host: HostIdentity) async throws(StorageError)
        -> EpochRecord
    {
        while true {
            let state = try await RunReader(backend: backend).epochs()
            // On this host and boot the lock has told already that the holder is dead.
            if let last = state.epochs.last, !state.closedEpochs.contains(last.number),
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
            if try await backend.create(RunLayout.epoch(record.number), record.document) { return record }
        }
    }

    /// Every holder before us that did not say goodbye may still be alive somewhere and about to commit.
    private func raiseFences(before epoch: EpochRecord, _ backend: any StorageBackend) async throws(StorageError) {
        let state = try await RunReader(backend: backend).epochs()
        let earlier = state.takenEpochs.filter { $0 < epoch.number }.subtracting(state.closedEpochs)
        for number in earlier.sorted() {
            try await Hold.raiseFence(of: number, by: epoch, backend: backend)
        }
    }
}
