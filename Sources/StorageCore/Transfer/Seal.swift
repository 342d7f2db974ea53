internal import CStorage
internal import Glibc

/// Makes a captured directory checkable and durable: every CRC known, every byte and every name on the disk.
enum Seal {
    /// What `captured` lacks is read once, in parallel. nil: the capture of a process that is dead, so everything is
    /// read. Returns the records for the manifest; `beforeSync` gets them as soon as every CRC is known.
    ///
    /// Errors: PRECONDITION for a file that changed since it was captured, IO or NO_SPACE when the kernel could not
    /// write (final: after a failed fsync the pages count as clean and must not be trusted), CANCELLED.
    static func run(
        directory: String, captured: Capture.Result?, durability: Durability, progress: Progress,
        hooks: TransferHooks = .none, buffers: BufferPool = BufferPool(),
        beforeSync: (_ files: [FileRecord]) throws(StorageError) -> Void = { _ in }
    ) async throws(StorageError) -> [FileRecord] {
        progress.phase = "seal"
        let root = try RootDirectory(directory, followLink: false)
        var files: [Capture.File]
        if let captured, captured.method != .renamed {
            files = captured.files
        } else {
            let tree = try await FileTree.walk(root, progress: progress)
            files = captured?.files ?? tree.entries.map { Capture.File($0) }
            if captured != nil { try checkSame(files, tree, root) }
        }
        // Nobody else knows the place of a copy; a directory that was handed over may still be open elsewhere.
        let isOurs = captured.map { $0.method != .renamed } ?? false
        try await sum(&files, root, isOurs: isOurs, progress, hooks, buffers)
        let records = files.filter { !$0.isSidecar }.map { $0.record }
        try beforeSync(records)
        if durability == .fsync { try await sync(files, root, isOurs: isOurs, progress, hooks) }
        return records
    }

    /// A directory that was handed over could still be written to by those who had it open.
    private static func checkSame(
        _ files: [Capture.File], _ tree: FileTree, _ root: RootDirectory
    ) throws(StorageError) {
        for (file, entry) in zip(files, tree.entries) {
            if file.path.utf8.elementsEqual(entry.path.utf8) { continue }
            throw .changed(root.full(entry.path), "an entry came or went", during: "sealed")
        }
        if files.count != tree.entries.count {
            throw .changed(root.path, "an entry came or went", during: "sealed")
        }
    }

    private static func sum(
        _ files: inout [Capture.File], _ root: RootDirectory, isOurs: Bool, _ progress: Progress,
        _ hooks: TransferHooks, _ buffers: BufferPool
    ) async throws(StorageError) {
        let open = files.indices.filter { index in
            files[index].status.kind == .file && files[index].sums == nil && !files[index].isSidecar
        }
        progress.expect(bytes: ByteSum.of(open.map { files[$0].status.size }), files: open.count)
        var pass = FilePass(source: root, destination: nil, progress: progress, hooks: hooks, activity: "sealed")
        pass.ignoresChangeTime = isOurs
        pass.buffers = buffers
        pass.workers = WorkPlan.workers(onNetwork: FileSystemKind.isNetwork(root.path))
        let outputs = try await pass.run(
            open.map { index in
                let file = files[index]
                return FilePass.Input(
                    path: file.path, size: file.status.size, mayHaveHoles: file.status.mayHaveHoles, mode: file.mode,
                    modifiedNanoseconds: file.modifiedNanoseconds, signature: file.status)
            })
        for (index, output) in zip(open, outputs) { files[index].sums = output?.sums }
    }

    private static func sync(
        _ files: [Capture.File], _ root: RootDirectory, isOurs: Bool, _ progress: Progress,
        _ hooks: TransferHooks
    ) async throws(StorageError) {
        progress.phase = "fsync"
        let batches = stride(from: 0, to: files.count, by: 64).map { $0..<min(files.count, $0 + 64) }
        // Everything is on its way before the first wait, so that the disk sees one long queue.
        try await Engine.shared.forEach(batches) { batch throws(StorageError) in
            try progress.checkCancelled()
            for file in files[batch] where file.status.kind == .file && file.status.size > 0 {
                let descriptor = try root.open(file.path, O_RDONLY)
                _ = cs_start_writeback(descriptor.number)
            }
        }
        try await Engine.shared.forEach(batches) { batch throws(StorageError) in
            for file in files[batch] where file.status.kind == .file {
                try progress.checkCancelled()
                try syncFile(file, root, isOurs: isOurs, hooks)
            }
        }
        let directories = files.filter { $0.status.kind == .directory }.map(\.path).reversed() + [""]
        try await Engine.shared.forEach(Array(directories)) { path throws(StorageError) in
            try progress.checkCancelled()
            try root.syncDirectory(path)
        }
    }

    private static func syncFile(
        _ file: Capture.File, _ root: RootDirectory, isOurs: Bool, _ hooks: TransferHooks
    ) throws(StorageError) {
        let descriptor = try root.open(file.path, O_RDONLY)
        let number = descriptor.number
        let path = root.full(file.path)
        if let sync = hooks.sync {
            let error = sync(path)
            if error != 0 { throw .system(error, "fsync", path) }
        }
        try System.check("fsync", path) { cs_fsync(number) }
        let now = try root.status(of: number, file.path)
        if !file.isSidecar, !now.isUnchanged(since: file.status, ignoringChangeTime: isOurs) {
            throw .changed(path, "it was written or replaced", during: "sealed")
        }
        try root.close(descriptor, file.path)
    }
}

extension Capture.File {
    var record: FileRecord {
        let kind: FileRecord.Kind =
            switch status.kind {
            case .directory: .directory
            case .symlink: .symlink(target: target ?? "")
            case .file, .other: .file
            }
        return FileRecord(
            path: path, kind: kind, size: kind == .file ? status.size : 0, mode: mode,
            modifiedNanoseconds: modifiedNanoseconds, crc32c: sums?.crc32c ?? 0, blocks: sums?.blocks ?? [])
    }
}
