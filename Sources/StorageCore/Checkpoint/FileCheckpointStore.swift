internal import CStorage
internal import Glibc

/// Commit, abort and un-commit of checkpoints on file systems. Everything, the manifest too, is written inside the
/// hidden attempt directory; the rename of that directory to its physical name is the commit, and there is no instant
/// with a visible directory and no manifest. After any error the destination is looked at: ours means committed.
struct FileCheckpointStore: CheckpointStore {
    let root: String
    let runID: String
    let durability: Durability

    var workspace: String { root }
    var uploads: Bool { false }

    func address(_ physicalName: String) -> String { path(physicalName) }

    func isOccupied(_ physicalName: String) throws(StorageError) -> Bool {
        try System.status(path(physicalName)) != nil
    }

    /// They are captured where they stay.
    func upload(_ attempt: AttemptID, as physicalName: String, progress: Progress) throws(StorageError) {}

    func outcome(_ attempt: AttemptID) throws(StorageError) -> CommitOutcome? { nil }

    func forget(_ attempt: AttemptID) throws(StorageError) {
        try System.unlink(path(RunLayout.captured(attempt)))
    }

    /// Makes a sealed attempt visible under its physical name.
    func commit(_ attempt: AttemptID, as physicalName: String) throws(StorageError) -> CommitOutcome {
        let source = directory(attempt)
        let target = path(physicalName)
        do throws(StorageError) {
            try renameWithoutReplacing(source, to: target)
        } catch {
            // A lost reply, a repeated request (NFS), or a real failure: what stands there decides.
            if try isOurs(target, attempt) { return try settle(.committed) }
            if try System.status(target) != nil { return .occupied }
            if try System.status(source) == nil { return .aborted }
            throw error
        }
        return try settle(.committed)
    }

    private func settle(_ outcome: CommitOutcome) throws(StorageError) -> CommitOutcome {
        if durability == .fsync {
            try System.syncDirectory(root)
            try System.syncDirectory(path(RunLayout.attempts))
        }
        return outcome
    }

    /// `RENAME_NOREPLACE`, and where it is not known (NFS: EINVAL) a plain rename, which fails on a directory that is
    /// not empty.
    private func renameWithoutReplacing(_ source: String, to target: String) throws(StorageError) {
        do throws(StorageError) {
            try System.check("rename", source) { cs_rename_noreplace(source, target) }
        } catch {
            guard let number = error.errorNumber, [EINVAL, ENOSYS, EOPNOTSUPP].contains(number) else { throw error }
            try System.rename(source, to: target)
        }
    }

    /// Whether the directory holds a manifest of this run and attempt.
    func isOurs(_ directory: String, _ attempt: AttemptID) throws(StorageError) -> Bool {
        guard let summary = try ManifestSummary.read(directory: directory) else { return false }
        return summary.runID == runID && summary.attempt == attempt
    }

    /// Ends an attempt that is not to become a checkpoint: out of sight in one step, then removed. False: it was
    /// committed before.
    @discardableResult
    func abort(_ attempt: AttemptID) throws(StorageError) -> Bool {
        let moved = try moveToTrash(directory(attempt), attempt)
        _ = try System.unlink(path(RunLayout.captured(attempt)))
        if moved { try TreeRemoval.remove(path(RunLayout.trash(attempt))) }
        return moved
    }

    /// Moves a directory that was handed over back to its owner, without what we put into it.
    func giveBack(_ attempt: AttemptID, to source: String) throws(StorageError) {
        try System.removeTree(Path.join(directory(attempt), RunLayout.own))
        do throws(StorageError) {
            try renameWithoutReplacing(directory(attempt), to: source)
        } catch {
            throw error.while_("the directory \(quoted(source)) is now at \(quoted(directory(attempt)))")
        }
        _ = try System.unlink(path(RunLayout.captured(attempt)))
    }

    /// Takes a committed checkpoint away from every reader in one step. Its files stay in the trash until `purge`.
    @discardableResult
    func uncommit(_ attempt: AttemptID, physicalName: String) throws(StorageError) -> Bool {
        guard try isOurs(path(physicalName), attempt) else { return false }
        return try moveToTrash(path(physicalName), attempt)
    }

    /// Puts an un-committed checkpoint back, if its files are still there.
    func restoreFromTrash(_ attempt: AttemptID, physicalName: String) throws(StorageError) -> Bool {
        let source = path(RunLayout.trash(attempt))
        guard try System.status(source) != nil else { return try isOurs(path(physicalName), attempt) }
        do throws(StorageError) {
            try renameWithoutReplacing(source, to: path(physicalName))
        } catch {
            return try isOurs(path(physicalName), attempt)
        }
        if durability == .fsync { try System.syncDirectory(root) }
        return true
    }

    private func moveToTrash(_ source: String, _ attempt: AttemptID) throws(StorageError) -> Bool {
        try System.makeDirectories(path(RunLayout.trash))
        let target = path(RunLayout.trash(attempt))
        do throws(StorageError) {
            try System.rename(source, to: target)
            return true
        } catch {
            if try System.status(source) == nil { return try System.status(target) != nil }
            if error.code == .alreadyExists {
                // An earlier removal was cut off: finish it, then move.
                try TreeRemoval.remove(target)
                try System.rename(source, to: target)
                return true
            }
            throw error
        }
    }

    /// What lies in the trash.
    func trashed() throws(StorageError) -> [AttemptID] { try attempts(in: RunLayout.trash) }

    /// Removes an un-committed checkpoint for good.
    func purge(_ attempt: AttemptID) throws(StorageError) { try TreeRemoval.remove(path(RunLayout.trash(attempt))) }

    /// Attempts that are neither committed nor aborted.
    func unfinished() throws(StorageError) -> [AttemptID] { try attempts(in: RunLayout.attempts) }

    private func attempts(in key: String) throws(StorageError) -> [AttemptID] {
        guard try System.status(path(key)) != nil else { return [] }
        var found = Set<AttemptID>()
        for name in try System.list(path(key)) {
            let text = name.utf8.count > 14 && name.hasSuffix(".captured.json") ? String(name.dropLast(14)) : name
            if let attempt = AttemptID(text) { found.insert(attempt) }
        }
        return found.sorted { $0.sequence < $1.sequence }
    }

    // MARK: - Looking

    func summary(_ physicalName: String) throws(StorageError) -> ManifestSummary? {
        try ManifestSummary.read(directory: path(physicalName))
    }

    func learn(_ decisions: [KnownDecision]) {}

    func inspect(
        _ entry: CheckpointEntry, deeply: Bool, staging: String, progress: Progress
    ) async throws(StorageError) {
        let directory = path(entry.physicalName)
        guard let attempt = entry.attempt else { return try inspectForeign(directory) }
        if try System.status(directory) == nil {
            // An evictor that was suspended before we took over: the files are still in the trash.
            _ = try restoreFromTrash(attempt, physicalName: entry.physicalName)
        }
        guard let manifest = try Manifest.read(directory: directory) else {
            throw StorageError(.checksum, "\(quoted(directory)) has no manifest any more")
        }
        if deeply {
            return try await VerifiedRecords(staging: staging)
                .ensure(directory: directory, manifest: manifest, progress: progress)
        }
        let report = try await Verify.run(
            directory: directory, manifest: manifest, sizesOnly: true, progress: progress)
        if let problem = report.problems.first(where: { $0.kind != .extra }) { throw problem.error(in: directory) }
    }

    /// Of one that is not ours nothing is known but that it should be there.
    private func inspectForeign(_ directory: String) throws(StorageError) {
        func damage(_ what: String) -> StorageError { StorageError(.checksum, "\(quoted(directory)) \(what)") }
        guard let status = try System.statusFollowing(directory) else { throw damage("does not exist") }
        guard status.kind == .directory else { throw damage("is no directory") }
        if try System.list(directory).isEmpty { throw damage("is empty") }
    }
}
