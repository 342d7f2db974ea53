internal import Glibc

/// Tells damage, which makes a job go on from an older checkpoint, from trouble on the way, which must not.
enum Damage {
    /// What is wrong with a checkpoint, nil when nothing is. Trouble is tried again as `retry` says and then thrown. A disk
    /// that cannot read the bytes (EIO, again and again) is damage: waiting does not bring them back.
    static func look(
        at entry: CheckpointEntry, deeply: Bool, store: any CheckpointStore, staging: String, engine: Engine,
        retry: RetryPolicy, environment: Environment, progress: Progress
    ) async throws(StorageError) -> String? {
        do throws(StorageError) {
            try await engine.retrying(retry, environment: environment, progress: progress) { () throws(StorageError) in
                try await store.inspect(entry, deeply: deeply, staging: staging, progress: progress)
            }
            return nil
        } catch {
            if error.code == .checksum || error.errorNumber == EIO { return error.message }
            throw error
        }
    }
}
