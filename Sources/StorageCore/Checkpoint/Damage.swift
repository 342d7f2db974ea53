internal import Glibc

/// Tells damage, which makes a job go on from an older checkpoint, from trouble on the way, which must not.
enum Damage {
    /// What is wrong with a committed checkpoint, nil when nothing is. Trouble is tried again as `retry` says and then
    /// thrown. A disk that cannot read the bytes (EIO, again and again) is damage: waiting does not bring them back.
    static func look(
        at entry: CheckpointEntry, store: FileCheckpointStore, engine: Engine, retry: RetryPolicy,
        environment: Environment, progress: Progress,
        _ check: (_ directory: String, _ manifest: Manifest) async throws(StorageError) -> Void
    ) async throws(StorageError) -> String? {
        guard let attempt = entry.attempt else { return nil }
        let directory = store.path(entry.physicalName)
        do throws(StorageError) {
            try await engine.retrying(retry, environment: environment, progress: progress) { () throws(StorageError) in
                if try System.status(directory) == nil {
                    // An evictor that was suspended before we took over: the files are still in the trash.
                    _ = try store.restoreFromTrash(attempt, physicalName: entry.physicalName)
                }
                guard let manifest = try Manifest.read(directory: directory) else {
                    throw StorageError(.checksum, "\(quoted(directory)) has no manifest any more")
                }
                try await check(directory, manifest)
            }
            return nil
        } catch {
            if error.code == .checksum || error.errorNumber == EIO { return error.message }
            throw error
        }
    }
}
