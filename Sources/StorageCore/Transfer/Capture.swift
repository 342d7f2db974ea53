internal import CStorage
internal import Glibc

/// Takes a caller's directory into ours, so that its content can no longer change under us.
enum Capture {
    /// In the details of an error: the caller's directory is at that place and nothing was removed.
    static let keptAt = "kept_at"

    enum Method: String, Sendable { case renamed, reflinked, copied }

    struct File: Sendable {
        var path: String
        /// Target of a symbolic link.
        var target: String?
        /// Of the entry in our directory: what it must still be when it is sealed.
        var status: System.FileStatus
        /// As it was reported.
        var mode: UInt32
        var modifiedNanoseconds: Int64
        /// Taken during a copy; sealing takes the others.
        var sums: FilePass.Sums?
        /// The mutable `.metadata.json`: travels along and is in no manifest.
        var isSidecar: Bool
    }

    struct Result: Sendable {
        /// In the order of the bytes of their paths.
        var files: [File]
        /// Of all files.
        var bytes: Int
        /// Files and links, without directories.
        var fileCount: Int
        var method: Method
        /// It was handed over but had to be copied: the caller removes the source once the checkpoint is committed.
        var removesSourceAfterCommit: Bool
    }

    /// Brings the content of `source` into `attempt`, a directory that does not exist or is empty and whose parent
    /// exists. Handed over, the source is moved where one rename can do it.
    ///
    /// Errors: INVALID_ARGUMENT for what no checkpoint holds and for a source that overlaps the run; NOT_FOUND;
    /// PERMISSION_DENIED; PRECONDITION for a file that changed meanwhile; NO_SPACE; IO; CANCELLED. After an error the
    /// source is as it was and nothing is left in `attempt`. `admit` is asked for room before bytes are copied.
    static func run(
        source: String, into attempt: String, handOver: Bool, runDirectory: String, progress: Progress,
        hooks: TransferHooks = .none, buffers: BufferPool = BufferPool(),
        admit: @Sendable (_ bytes: Int) async throws(StorageError) -> Void = { _ in }
    ) async throws(StorageError) -> Result {
        let source = try resolve(source)
        try checkPlace(source, runDirectory: runDirectory, handOver: handOver)
        progress.phase = "capture"
        let root = try RootDirectory(source)
        let tree = try await FileTree.walk(root, progress: progress)
        let made = try System.makeDirectory(attempt)
        do throws(StorageError) {
            if handOver,
                let result = try await HandOver.run(
                    tree, root, into: attempt, progress: progress, hooks: hooks, buffers: buffers)
            {
                return result
            }
            try await admit(tree.bytes)
            var result = try await copy(
                tree, root, into: attempt, progress: progress, hooks: hooks, buffers: buffers)
            result.removesSourceAfterCommit = handOver
            return result
        } catch {
            // The caller's only copy, which could not be moved back.
            if error.detailsDocument[keptAt] != nil { throw error }
            // What we put there goes; an error while removing it says less than the one that we have.
            if let left = try? RootDirectory(attempt) { try? TreeRemoval.removeContents(of: left) }
            if made { _ = cs_rmdir(attempt) }
            throw error
        }
    }

    private static func copy(
        _ tree: FileTree, _ root: RootDirectory, into attempt: String, progress: Progress, hooks: TransferHooks,
        buffers: BufferPool
    ) async throws(StorageError) -> Result {
        let destination = try RootDirectory(attempt)
        let entries = tree.entries
        let builder = TreeBuilder(tree)
        let indices = entries.indices.filter { entries[$0].status.kind == .file }
        progress.expect(bytes: tree.bytes, files: indices.count)
        try builder.begin(in: destination, progress: progress)
        var pass = FilePass(source: root, destination: destination, progress: progress, hooks: hooks)
        pass.reflink = try canReflink(tree, root, destination)
        let network = FileSystemKind.isNetwork(attempt) || FileSystemKind.isNetwork(root.path)
        pass.workers = WorkPlan.workers(onNetwork: network)
        pass.buffers = buffers
        let outputs = try await pass.run(indices.map { FilePass.Input(entries[$0]) })
        try builder.makeLinks(in: destination, progress: progress)
        try builder.finishDirectories(in: destination, progress: progress)
        var files = entries.map { File($0) }
        for (index, output) in zip(indices, outputs) {
            guard let output else { throw StorageError(.internal, "a file was not captured") }
            files[index].status = output.status
            files[index].sums = output.sums
        }
        return Result(
            files: files, bytes: tree.bytes, fileCount: tree.fileCount, method: pass.reflink ? .reflinked : .copied,
            removesSourceAfterCommit: false)
    }

    /// One try with one file tells for all.
    private static func canReflink(
        _ tree: FileTree, _ root: RootDirectory, _ destination: RootDirectory
    ) throws(StorageError) -> Bool {
        guard let entry = tree.entries.first(where: { $0.status.kind == .file && $0.status.size > 0 }) else {
            return false
        }
        let name = ".raystorage-probe"
        let input = try root.open(entry.path, O_RDONLY)
        let output = try destination.open(name, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        let works = cs_reflink(output.number, input.number) == 0
        try destination.unlink(name)
        return works
    }

    /// The directory without links, which the record would not follow; refuses what is none.
    static func resolve(_ source: String) throws(StorageError) -> String {
        func refuse(_ code: StorageError.Code, _ problem: String) -> StorageError {
            StorageError(
                code, "the checkpoint \(quoted(source)) \(problem); allowed is a directory on this machine",
                details: [
                    ("name", "checkpoint"), ("value", .string(source)), ("path", .string(source)),
                    ("allowed", "a directory on this machine"),
                ])
        }
        let resolved: String
        do throws(StorageError) { resolved = try Path.resolved(source) } catch {
            if error.errorNumber == ENOENT { throw refuse(.notFound, "does not exist") }
            if error.errorNumber == ENOTDIR { throw refuse(.notFound, "lies below something that is no directory") }
            throw error.while_("the checkpoint \(quoted(source))")
        }
        guard let status = try System.statusFollowing(resolved) else { throw refuse(.notFound, "does not exist") }
        guard status.kind == .directory else { throw refuse(.invalidArgument, "is not a directory") }
        return resolved
    }

    private static func checkPlace(
        _ source: String, runDirectory: String, handOver: Bool
    ) throws(StorageError) {
        let run = try Path.resolved(runDirectory)
        func refuse(_ why: String) -> StorageError {
            StorageError(
                .invalidArgument, "\(quoted(source)) cannot be reported: \(why)",
                details: [("path", .string(source)), ("run", .string(run))])
        }
        if Path.contains(source, run) { throw refuse("the run directory \(quoted(run)) lies inside it") }
        if Path.contains(Path.join(run, FileTree.ownName), source) {
            throw refuse("it lies inside the run's own \(FileTree.ownName)")
        }
        // A committed checkpoint would be un-committed by moving it.
        let manifest = Path.join(Path.join(source, FileTree.ownName), "manifest.json")
        let record = Path.join(Path.join(Path.parent(source), FileTree.ownName), "run.json")
        if handOver, try System.exists(manifest), try System.exists(record) {
            throw refuse("it is a committed checkpoint and cannot be handed over (it can be reported as a copy)")
        }
    }
}

extension Capture.File {
    init(_ entry: FileTree.Entry) {
        self.init(
            path: entry.path, target: entry.target, status: entry.status, mode: entry.status.mode & 0o777,
            modifiedNanoseconds: entry.status.modifiedNanoseconds, sums: nil, isSidecar: entry.isSidecar)
    }
}

extension FileTree {
    /// Entries that are no directories.
    var fileCount: Int { entries.reduce(0) { $0 + ($1.status.kind == .directory ? 0 : 1) } }
}

extension TreeBuilder {
    /// The directories and links of a tree as it is.
    init(_ tree: FileTree) {
        directories = []
        links = []
        for entry in tree.entries {
            let modified = entry.status.modifiedNanoseconds
            if entry.status.kind == .directory {
                directories.append(
                    Directory(path: entry.path, mode: entry.status.mode & 0o777, modifiedNanoseconds: modified))
            } else if let target = entry.target {
                links.append(Link(path: entry.path, target: target, modifiedNanoseconds: modified))
            }
        }
    }
}
