internal import CStorage
internal import Glibc

/// Brings a checkpoint's files to where a training loop wants them.
enum Restore {
    struct Result: Sendable {
        /// Of all files.
        var bytes: Int
        /// Files and links.
        var fileCount: Int
        /// Whether every byte was compared with what was reported.
        var verified: Bool
        /// The destination, without links.
        var path: String
    }

    /// Copies the checkpoint in `directory` to `destination`, which is made when it does not exist, with its parents.
    /// Files of the same names in an existing destination are replaced, others stay.
    ///
    /// `manifest` nil: somebody else's checkpoint, copied as it is. With `verify` every block is compared on the way. With a
    /// `selection` nothing else is read or looked at; what is wrong with other files is no matter then.
    /// Nothing appears under its name in the destination before everything is there and good, and after an error the
    /// destination is as it was. The checkpoint's own `.raystorage` is never copied; `.metadata.json` is.
    ///
    /// Errors: CHECKSUM naming file and offset, INVALID_ARGUMENT for a destination inside the checkpoint, one that a part of
    /// a checkpoint must not go to (`RestorePlace.refuseParts`) or a link that stands in the way, NOT_FOUND, also for a pattern
    /// that means nothing, PERMISSION_DENIED, NO_SPACE, IO, CANCELLED.
    static func run(
        from directory: String, manifest: Manifest?, selection: FileSelection? = nil, to destination: String,
        verify: Bool = true, durability: Durability = .none, progress: Progress,
        hooks: TransferHooks = .none
    ) async throws(StorageError) -> Result {
        progress.phase = "restore"
        let source = try RootDirectory(try Path.resolved(directory))
        let place = try RestorePlace(destination)
        if Path.contains(source.path, place.path) {
            throw StorageError(
                .invalidArgument,
                "cannot restore \(quoted(source.path)) to \(quoted(place.path)): it lies inside the checkpoint",
                details: [("path", .string(place.path)), ("checkpoint", .string(source.path))])
        }
        if selection != nil { try place.refuseParts() }
        let plan = try await RestorePlan.make(source, manifest, selection, verify: verify, progress: progress)
        return try await run(
            plan, to: place, durability: durability, verified: manifest != nil && verify, progress: progress
        ) { root throws(StorageError) in
            try await plan.build(in: root, from: source, progress: progress, hooks: hooks)
        }
    }

    /// The same from anywhere: `build` makes everything in an empty directory.
    static func run(
        _ plan: RestorePlan, to destination: String, durability: Durability = .none, verified: Bool,
        progress: Progress, build: (RootDirectory) async throws(StorageError) -> Void
    ) async throws(StorageError) -> Result {
        progress.phase = "restore"
        return try await run(
            plan, to: try RestorePlace(destination), durability: durability, verified: verified, progress: progress,
            build: build)
    }

    private static func run(
        _ plan: RestorePlan, to place: RestorePlace, durability: Durability, verified: Bool, progress: Progress,
        build: (RootDirectory) async throws(StorageError) -> Void
    ) async throws(StorageError) -> Result {
        place.removeStale()
        let parents = try place.makeParents()
        do throws(StorageError) {
            let temporary = try place.makeTemporary()
            do throws(StorageError) {
                try await build(temporary.root)
                if durability == .fsync {
                    try System.check("syncfs", temporary.path) { cs_syncfs(temporary.root.descriptor) }
                }
                try install(plan, temporary, place, progress)
            } catch {
                try? temporary.remove()
                throw error
            }
        } catch {
            for parent in parents.reversed() { _ = cs_rmdir(parent) }
            throw error
        }
        if durability == .fsync { try syncNames(place, parents) }
        return Result(
            bytes: plan.bytes, fileCount: plan.fileCount, verified: verified, path: place.path)
    }

    private static func install(
        _ plan: RestorePlan, _ temporary: TemporaryDirectory, _ place: RestorePlace, _ progress: Progress
    ) throws(StorageError) {
        try progress.checkCancelled()
        if !place.exists {
            try plan.builder.finishDirectories(in: temporary.root, progress: progress)
            if cs_rename_noreplace(temporary.path, place.path) == 0 { return }
            // EINVAL: the file system cannot refuse by itself, but no rename replaces a directory that is not empty.
            if errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP, cs_rename(temporary.path, place.path) == 0 {
                return
            }
            guard errno == EEXIST || errno == ENOTEMPTY else { throw .system(errno, "rename", place.path) }
            // Somebody made it meanwhile, another rank of the same machine perhaps.
        }
        let target = try RootDirectory(place.path, followLink: false)
        let old = try place.makeTemporary()
        defer { try? old.remove() }
        var merge = RestoreMerge(plan: plan, source: temporary.root, old: old.root, target: target)
        try merge.run(progress)
        try? temporary.remove()
    }

    private static func syncNames(_ place: RestorePlace, _ parents: [String]) throws(StorageError) {
        if place.exists {
            // Files have moved between directories since the first one.
            let root = try RootDirectory(place.path)
            try System.check("syncfs", place.path) { cs_syncfs(root.descriptor) }
        }
        try System.syncDirectory(Path.parent(place.path))
        for parent in parents { try System.syncDirectory(Path.parent(parent)) }
    }
}
