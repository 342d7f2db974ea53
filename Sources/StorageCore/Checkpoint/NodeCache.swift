internal import Glibc

/// One copy of a checkpoint per machine for all its processes, when the checkpoint lies on a network file system.
///
/// `<staging>/cache/<run>-<attempt>/` is restored by whoever comes first and removed by whoever leaves last. Users hold
/// a shared lock on `<run>-<attempt>.lock`, so a killed one counts no longer; what killed ones leave behind is removed
/// when the next checkpoint is acquired.
struct NodeCache: Sendable {
    private let folder: String

    /// Below the staging directory, which is on a local disk.
    init(staging: String) { folder = Path.join(staging, "cache") }

    /// Keeps a directory in place while it is used.
    final class Lease: Sendable {
        /// Where the checkpoint's files are to be read.
        let path: String
        private let lock: FileLock?

        fileprivate init(path: String, lock: FileLock?) {
            self.path = path
            self.lock = lock
        }

        deinit { release() }

        /// Ends the use; a second time does nothing. The last user of the machine removes the copy.
        func release() {
            let path = path
            lock?.release(last: { try? TreeRemoval.remove(path) })
        }
    }

    /// The checkpoint's files: in place on a local disk, verified copies of the machine's own otherwise.
    /// `copies` nil: decided by the kind of file system.
    ///
    /// Errors: those of `Restore.run`.
    func acquire(
        _ directory: String, manifest: Manifest, copies: Bool? = nil, progress: Progress,
        hooks: TransferHooks = .none
    ) async throws(StorageError) -> Lease {
        guard copies ?? FileSystemKind.isNetwork(directory) else { return Lease(path: directory, lock: nil) }
        return try await acquire(
            name: "\(manifest.runID)-\(manifest.attempt)", progress: progress
        ) { path throws(StorageError) in
            // The restore itself builds beside the place, renames at the end and collects what a killed one has left.
            _ = try await Restore.run(
                from: directory, manifest: manifest, to: path, verify: true, progress: progress, hooks: hooks)
        }
    }

    /// The machine's copy of that name, which `build` makes in one step for whoever comes first.
    func acquire(
        name: String, progress: Progress, build: (_ path: String) async throws(StorageError) -> Void
    ) async throws(StorageError) -> Lease {
        try System.makeDirectories(folder, mode: 0o700)
        if let why = ManifestReader.refusal(of: name) ?? (name.utf8.contains(UInt8(ascii: "/")) ? "is no name" : nil) {
            throw StorageError(.invalidArgument, "the cache name \(quoted(name)) \(why)")
        }
        let path = Path.join(folder, name)
        let lockPath = "\(path).lock"
        collect(except: name)
        var patience: Int64 = 5
        while true {
            try progress.checkCancelled()
            if let lock = try LockTable.shared.take(lockPath, exclusive: false) {
                // A copy gets its name when it is whole, and loses it only to somebody who is alone.
                if try System.exists(path) { return Lease(path: path, lock: lock) }
                lock.release()
            }
            if let lock = try LockTable.shared.take(lockPath, exclusive: true) {
                let lease = Lease(path: path, lock: lock)
                if try !System.exists(path) {
                    do throws(StorageError) { try await build(path) } catch {
                        lease.release()
                        throw error
                    }
                }
                try lock.downgrade()
                return lease
            }
            await Engine.shared.sleep(milliseconds: patience)
            patience = min(100, patience * 2)
        }
    }

    /// Removes copies that nobody uses any longer: their users were killed. Failing is no reason to fail.
    private func collect(except kept: String) {
        guard let names = try? System.list(folder) else { return }
        for name in names where !name.utf8.elementsEqual(kept.utf8) {
            let path = Path.join(folder, name)
            if name.hasPrefix(RestorePlace.prefix) {
                TemporaryDirectory.removeIfDead(path)
            } else if !name.hasSuffix(".lock") {
                guard let lock = try? LockTable.shared.take("\(path).lock", exclusive: true) else { continue }
                lock.release(last: { try? TreeRemoval.remove(path) })
            } else if !names.contains(String(name.dropLast(5))) {
                (try? LockTable.shared.take(path, exclusive: true))?.release(last: {})
            }
        }
    }
}
