internal import CStorage
internal import Glibc

/// Takes a directory that its owner gave away: one rename, and copies only of what others could still write to.
enum HandOver {
    /// Beginning of the names of copies that are about to replace files with several names.
    private static let copyPrefix = ".raystorage-copy-"

    /// nil when the directory cannot be taken this way: it is where it was, and has to be copied.
    static func run(
        _ tree: FileTree, _ root: RootDirectory, into attempt: String, progress: Progress, hooks: TransferHooks,
        buffers: BufferPool
    ) async throws(StorageError) -> Capture.Result? {
        // The place's own mode, made by the umask: what came from a private temporary directory would stay private.
        guard let place = try System.status(attempt), let before = try root.status("") else { return nil }
        // Opened before: after the rename errors have to name the new place.
        guard cs_rename(root.path, attempt) == 0 else { return nil }
        do throws(StorageError) {
            let moved = try RootDirectory(attempt, followLink: false)
            try moved.setMode("", before.mode & ~0o777 | place.mode & 0o777 | 0o700)
            let result = try await take(tree, moved, progress, hooks, buffers)
            // Last, because it cannot be undone.
            try TreeRemoval.remove(moved.full(FileTree.ownName))
            return result
        } catch {
            try undo(root, attempt, mode: before.mode, error)
            // The place that we moved it to is gone with it, and the copy needs one.
            try System.makeDirectory(attempt)
            if error.code == .cancelled || error.code == .precondition { throw error }
            return nil
        }
    }

    private static func undo(
        _ root: RootDirectory, _ attempt: String, mode: UInt32, _ error: StorageError
    ) throws(StorageError) {
        let names = (try? System.list(attempt)) ?? []
        for name in names where name.hasPrefix(copyPrefix) { _ = try? root.unlink(name) }
        try? root.setMode("", mode)
        if cs_rename(attempt, root.path) == -1 {
            var kept = error.while_("moving it back failed, the directory is now at \(quoted(attempt))")
            kept.details.append((Capture.keptAt, .string(attempt)))
            throw kept
        }
    }

    private static func take(
        _ tree: FileTree, _ root: RootDirectory, _ progress: Progress, _ hooks: TransferHooks,
        _ buffers: BufferPool
    ) async throws(StorageError) -> Capture.Result {
        var files = tree.entries.map { Capture.File($0) }
        let linked = files.indices.filter { files[$0].status.kind == .file && files[$0].status.links > 1 }
        if !linked.isEmpty { try await separate(&files, linked, root, progress, hooks, buffers) }
        return Capture.Result(
            files: files, bytes: tree.bytes, fileCount: tree.fileCount, method: .renamed,
            removesSourceAfterCommit: false)
    }

    /// Replaces files that have other names by copies: through those names their bytes could still change.
    private static func separate(
        _ files: inout [Capture.File], _ linked: [Int], _ root: RootDirectory, _ progress: Progress,
        _ hooks: TransferHooks, _ buffers: BufferPool
    ) async throws(StorageError) {
        let inputs = linked.map { index in
            FilePass.Input(
                path: files[index].path, destinationPath: "\(copyPrefix)\(index)", size: files[index].status.size,
                mayHaveHoles: files[index].status.mayHaveHoles, mode: files[index].mode,
                modifiedNanoseconds: files[index].modifiedNanoseconds, signature: files[index].status)
        }
        progress.expect(bytes: ByteSum.of(inputs.lazy.map(\.size)), files: inputs.count)
        var pass = FilePass(source: root, destination: root, progress: progress, hooks: hooks)
        pass.buffers = buffers
        let outputs = try await pass.run(inputs)
        var parents: Set<[UInt8]> = []
        for (index, output) in zip(linked, outputs) {
            let path = files[index].path
            try root.rename("\(copyPrefix)\(index)", to: path)
            // The rename itself has changed the ctime.
            guard let output, let status = try root.status(path) else {
                throw .changed(root.full(path), "vanished")
            }
            files[index].sums = output.sums
            files[index].status = status
            parents.insert(Array(Path.parent(path).utf8))
        }
        for file in files where file.status.kind == .directory && parents.contains(Array(file.path.utf8)) {
            try root.setModified(file.path, nanoseconds: file.modifiedNanoseconds)
        }
    }
}
