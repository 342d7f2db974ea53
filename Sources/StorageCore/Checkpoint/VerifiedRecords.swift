internal import CStorage
internal import Glibc

/// Remembers on this machine which checkpoints were read and found good, so that using one in place reads it once per
/// (manifest, inode, size, mtime, ctime) and not once per process.
struct VerifiedRecords: Sendable {
    private static let maximumRecords = 2000
    private let folder: String

    /// Below the staging directory.
    init(staging: String) { folder = Path.join(staging, "verified") }

    /// Returns at once when that very content was verified before, by any process that shares the staging directory;
    /// verifies it otherwise. Of several that come at once one reads, the others wait for it.
    ///
    /// Errors: CHECKSUM naming file and offset, CANCELLED, and those of reading the directory.
    func ensure(
        directory: String, manifest: Manifest, progress: Progress, hooks: TransferHooks = .none
    ) async throws(StorageError) {
        progress.phase = "verify"
        let canRemember = (try? System.makeDirectories(folder, mode: 0o700)) != nil
        let root = try RootDirectory(try Path.resolved(directory))
        var key = Digest()
        key.add(root.path.utf8)
        key.add("\(manifest.runID)/\(manifest.attempt)".utf8)
        let record = Path.join(folder, key.text)
        let comparison = try await TreeComparison.make(root, manifest, progress: progress)
        let state = try Self.state(comparison, root)
        var patience: Int64 = 5
        while true {
            try progress.checkCancelled()
            if Self.holds(record, state) { return }
            // A staging directory that cannot be written costs another read and says nothing about the checkpoint.
            let taken: Result<FileLock?, StorageError> = takeLock(canRemember ? record : nil)
            var lock: FileLock?
            var mustRead = false
            switch taken {
            case .success(let held): lock = held
            case .failure: mustRead = true
            }
            if lock != nil || mustRead {
                defer { lock?.release(last: {}) }
                // The one before us may have finished between our look and our lock.
                if Self.holds(record, state) { return }
                let report = try await Verify.check(
                    comparison, root, sizesOnly: false, progress: progress, hooks: hooks)
                if let problem = report.problems.first(where: { $0.kind != .extra }) {
                    if let cause = problem.cause { throw cause }
                    throw problem.error(in: root.path)
                }
                // What changed while we read was not verified.
                let after = try await TreeComparison.make(root, manifest, progress: progress)
                if try Self.state(after, root) == state { remember(record, state) }
                return
            }
            await Engine.shared.sleep(milliseconds: patience)
            patience = min(100, patience * 2)
        }
    }

    private func takeLock(_ record: String?) -> Result<FileLock?, StorageError> {
        guard let record else { return .failure(StorageError(.io, "nothing can be remembered")) }
        do throws(StorageError) {
            return .success(try LockTable.shared.take("\(record).lock", exclusive: true))
        } catch {
            return .failure(error)
        }
    }

    private static func state(_ comparison: TreeComparison, _ root: RootDirectory) throws(StorageError) -> String {
        var digest = Digest()
        var forks = ForkYield()
        func add(_ path: String, _ status: System.FileStatus) {
            forks.step()
            digest.add(path.utf8)
            digest.add(status.device)
            digest.add(status.inode)
            digest.add(status.size)
            digest.add(status.modifiedNanoseconds)
            digest.add(status.changedNanoseconds)
        }
        for entry in comparison.statuses where entry.status.kind != .directory { add(entry.path, entry.status) }
        for problem in comparison.problems { digest.add(problem.path.utf8) }
        if let status = try root.status(RunLayout.manifest) { add(RunLayout.manifest, status) }
        return digest.text
    }

    private static func holds(_ record: String, _ state: String) -> Bool {
        guard let bytes = try? OpenFile(record, O_RDONLY | O_NOFOLLOW).readAll(limit: 4096) else { return false }
        return bytes.elementsEqual(state.utf8)
    }

    /// Failing to remember costs another read and nothing else.
    private func remember(_ record: String, _ state: String) {
        let temporary = "\(record).\(Environment.system.randomHex(4))"
        do throws(StorageError) {
            let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            try file.write(Array(state.utf8))
            try file.close()
            try System.rename(temporary, to: record)
        } catch {
            _ = cs_unlink(temporary)
        }
        prune()
    }

    private func prune() {
        guard let names = try? System.list(folder), names.count > Self.maximumRecords else { return }
        let aged = names.filter { $0.utf8.count == 16 }.compactMap { name in
            (try? System.status(Path.join(folder, name))).map { (name, $0.modifiedNanoseconds) }
        }
        for (name, _) in aged.sorted(by: { $0.1 < $1.1 }).prefix(aged.count / 2) {
            _ = cs_unlink(Path.join(folder, name))
        }
    }
}
