internal import Glibc

/// `raystorage drain`: finishes what dead trainers of this host had captured, in every run that the staging directory
/// knows. A run with a live trainer is left alone.
public enum Drain {
    /// The document of `raystorage_staging_drain_start`.
    public static func run(
        stagingDirectory: String?, storageOptions: JSONValue? = nil, environment: Environment = .system,
        progress: Progress
    ) async throws(StorageError) -> JSONValue {
        try await run(
            stagingDirectory: stagingDirectory, storageOptions: storageOptions, environment: environment,
            opener: .system, progress: progress)
    }

    static func run(
        stagingDirectory: String?, storageOptions: JSONValue? = nil, environment: Environment, opener: Storage.Opener,
        progress: Progress
    ) async throws(StorageError) -> JSONValue {
        let host = try HostIdentity.open(stagingDirectory, environment: environment)
        defer { forgetLocks(host, environment) }
        var runs: [JSONValue] = []
        let folder = Path.join(host.directory, "runs")
        for name in try System.list(folder).sorted() where name.hasSuffix(".json") {
            try progress.checkCancelled()
            let path = Path.join(folder, name)
            let bytes = try OpenFile(path, O_RDONLY).readAll(limit: 64 << 10)
            guard let known = try? JSONParser.parse(bytes), let root = known["path"]?.stringValue else { continue }
            do throws(StorageError) {
                let place = try StoragePath.resolve(root, environment: environment)
                // Given for stores; a run on a file system takes none.
                let options =
                    place.scheme == .file
                    ? nil : StoragePath.merged(storageOptions, over: known["storage_options"])
                let storage = try Storage.open(place, options: options, environment: environment, opener: opener)
                if let document = try await drain(
                    storage, options, record: path, host, environment, opener, progress)
                {
                    runs.append(document)
                }
            } catch {
                if error.code == .cancelled { throw error }
                runs.append(failed(root, error))
            }
        }
        return .make(["staging_dir": .string(host.directory), "runs": .array(runs)])
    }

    /// nil: nothing to do there.
    private static func drain(
        _ storage: Storage, _ storageOptions: JSONValue?, record: String, _ host: HostIdentity,
        _ environment: Environment, _ opener: Storage.Opener, _ progress: Progress
    ) async throws(StorageError) -> JSONValue? {
        let runID = String(Path.name(record).dropLast(5))
        let root = storage.path.uri
        let isRemote = storage.objects != nil
        let store = storage.checkpoints(
            runID: runID, backend: storage.backend, workspace: host.workspace(runID: runID), durability: .fsync,
            epoch: nil)
        // Of a run on a store everything that waits is here: without any of it the store is not asked.
        if isRemote, try await store.unfinished().isEmpty { return nil }
        let found = try await RunReader(backend: storage.backend).runID()
        guard found == runID else {
            // Another run by now: there is nothing left of it to remember. Nothing at all may be a missing mount.
            var isGone = found != nil
            if found == nil, !isRemote, try System.status(root) == nil { isGone = try isIdle(runID, host, environment) }
            if isGone { try host.forget(runID: runID) }
            return nil
        }
        if try await store.unfinished().isEmpty { return nil }
        var options = RunOptions()
        let directory = storage.path.directory
        let parent = Path.parent(directory)
        options.storagePath = storage.at(parent == "." ? "" : parent).path.uri
        options.storageOptions = isRemote ? storageOptions : nil
        options.name = Path.name(directory)
        options.resume = .must
        options.stagingDirectory = host.directory
        options.drainTimeoutMilliseconds = -1
        do throws(StorageError) {
            let run = try await TrainingRun.open(
                Takeover(
                    options: options, environment: environment, engine: .shared, progress: progress, opener: opener))
            let document = JSONValue.make([
                "path": .string(root), "in_use": false,
                "committed": .array(run.opened.recovered.map { .string($0) }),
                "lost": .array(run.opened.lost.map(\.document)),
            ])
            await run.closeFromTask()
            return document
        } catch {
            if error.code == .cancelled { throw error }
            return failed(root, error)
        }
    }

    /// Whether no trainer of this host has been on a run for longer than anything waits for it.
    private static func isIdle(
        _ runID: String, _ host: HostIdentity, _ environment: Environment
    ) throws(StorageError) -> Bool {
        let idle = try host.idleSeconds(runID: runID, now: environment.now()) ?? 0
        return idle * 1000 > Double(RunOptions().orphanTTLMilliseconds)
    }

    /// Lock files of runs that nothing else is remembered of.
    private static func forgetLocks(_ host: HostIdentity, _ environment: Environment) {
        for name in (try? System.list(Path.join(host.directory, "locks"))) ?? [] where name.hasSuffix(".lock") {
            let runID = String(name.dropLast(5))
            do throws(StorageError) {
                if try System.status(host.recordPath(runID: runID)) != nil { continue }
                if try isIdle(runID, host, environment) { try host.forget(runID: runID) }
            } catch {
                Log.shared.write(.debug, error.while_("the lock of run \(runID)").message)
            }
        }
    }

    private static func failed(_ root: String, _ error: StorageError) -> JSONValue {
        .make([
            "path": .string(root), "in_use": .bool(error.code == .runInUse), "committed": .array([]),
            "lost": .array([]), "error": .string(error.message),
        ])
    }
}
