internal import Glibc

/// `raystorage drain`: finishes what dead trainers of this host had captured, in every run that the staging directory
/// knows. A run with a live trainer is left alone.
public enum Drain {
    /// The document of `raystorage_staging_drain_start`.
    public static func run(
        stagingDirectory: String?, environment: Environment = .system, progress: Progress
    ) async throws(StorageError) -> JSONValue {
        let host = try HostIdentity.open(stagingDirectory, environment: environment)
        var runs: [JSONValue] = []
        let known = Path.join(host.directory, "runs")
        for name in try System.list(known).sorted() where name.hasSuffix(".json") {
            try progress.checkCancelled()
            let path = Path.join(known, name)
            let bytes = try OpenFile(path, O_RDONLY).readAll(limit: 64 << 10)
            guard let root = (try? JSONParser.parse(bytes))?["path"]?.stringValue else { continue }
            do throws(StorageError) {
                if let document = try await drain(root, record: path, host, environment, progress) {
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
        _ root: String, record: String, _ host: HostIdentity, _ environment: Environment, _ progress: Progress
    ) async throws(StorageError) -> JSONValue? {
        let runID = String(Path.name(record).dropLast(5))
        let backend = LocalBackend(root: root, durability: .none, temporaryTag: "", environment: environment)
        let found = try await RunReader(backend: backend).runID()
        guard found == runID else {
            // Another run by now: there is nothing left of it to remember. Nothing at all may be a missing mount.
            if found != nil { try System.unlink(record) }
            return nil
        }
        let store = FileCheckpointStore(root: root, runID: runID, durability: .fsync)
        if try store.unfinished().isEmpty { return nil }
        var options = RunOptions()
        options.storagePath = Path.parent(root)
        options.name = Path.name(root)
        options.resume = .must
        options.stagingDirectory = host.directory
        options.drainTimeoutMilliseconds = -1
        do throws(StorageError) {
            let run = try await TrainingRun.open(options, environment: environment, progress: progress)
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

    private static func failed(_ root: String, _ error: StorageError) -> JSONValue {
        .make([
            "path": .string(root), "in_use": .bool(error.code == .runInUse), "committed": .array([]),
            "lost": .array([]), "error": .string(error.message),
        ])
    }
}
