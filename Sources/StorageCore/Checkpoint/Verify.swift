internal import Synchronization

/// Compares a checkpoint's directory with its manifest.
enum Verify {
    struct Report: Sendable {
        /// The first of them, in the order of their paths; at most `Verify.maximumProblems`.
        var problems: [CheckpointProblem]
        /// How many there are.
        var count: Int
        var isGood: Bool { count == 0 }
    }

    static let maximumProblems = 100

    /// Kinds, sizes, missing and extra entries; unless `sizesOnly`, every byte of every file too.
    ///
    /// A damaged checkpoint is a report and no error. Errors: NOT_FOUND, PERMISSION_DENIED and IO for the directory
    /// itself, CANCELLED.
    static func run(
        directory: String, manifest: Manifest, sizesOnly: Bool = false, progress: Progress,
        hooks: TransferHooks = .none
    ) async throws(StorageError) -> Report {
        progress.phase = "verify"
        let root = try RootDirectory(directory)
        let comparison = try await TreeComparison.make(root, manifest, progress: progress)
        return try await check(comparison, root, sizesOnly: sizesOnly, progress: progress, hooks: hooks)
    }

    /// The part behind the comparison, for those who have made one.
    static func check(
        _ comparison: TreeComparison, _ root: RootDirectory, sizesOnly: Bool, progress: Progress, hooks: TransferHooks
    ) async throws(StorageError) -> Report {
        let found = Mutex(comparison.problems)
        if !sizesOnly {
            let files = comparison.files
            progress.expect(bytes: ByteSum.of(files.lazy.map(\.record.size)), files: files.count)
            var pass = FilePass(source: root, destination: nil, progress: progress, hooks: hooks, activity: "verified")
            pass.workers = WorkPlan.workers(onNetwork: FileSystemKind.isNetwork(root.path))
            pass.onFailure = { index, error in
                found.withLock { $0.append(CheckpointProblem(files[index].record.path, error)) }
            }
            _ = try await pass.run(files.map { FilePass.Input($0.record, $0.status, verify: true) })
        }
        var problems = found.withLock { $0 }
        PathBytes.sort(&problems) { $0.path }
        return Report(problems: Array(problems.prefix(maximumProblems)), count: problems.count)
    }
}

extension CheckpointProblem {
    init(_ path: String, _ error: StorageError) {
        self.init(
            path: path, kind: error.code == .checksum ? .checksum : .unreadable, message: error.message,
            offset: error.detailsDocument["offset"]?.intValue, cause: error.code == .checksum ? nil : error)
    }
}

extension FilePass.Input {
    /// To read a file of a checkpoint.
    init(_ record: FileRecord, _ status: System.FileStatus, verify: Bool) {
        self.init(
            path: record.path, size: record.size, mayHaveHoles: status.mayHaveHoles, mode: record.mode,
            modifiedNanoseconds: record.modifiedNanoseconds, signature: nil,
            expectedBlocks: verify ? record.blocks : nil)
    }
}
