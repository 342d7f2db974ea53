/// What a restore makes: known completely, and found possible, before anything is written.
struct RestorePlan: Sendable {
    var builder: TreeBuilder
    var files: [FilePass.Input]
    var bytes: Int { ByteSum.of(files.lazy.map(\.size)) }
    var fileCount: Int { files.count + builder.links.count }

    static func make(
        _ source: RootDirectory, _ manifest: Manifest?, _ selection: FileSelection? = nil, verify: Bool,
        progress: Progress
    ) async throws(StorageError) -> RestorePlan {
        guard let manifest else {
            var tree = try await FileTree.walk(source, progress: progress)
            try NestedRuns.refuse(tree.entries.lazy.map(\.path), in: source.path)
            if let selection { tree.entries = try selection.choose(tree.entries, of: source.path) }
            let files = tree.entries.filter { $0.status.kind == .file }
            return RestorePlan(builder: TreeBuilder(tree), files: files.map { FilePass.Input($0) })
        }
        var records = manifest.files
        let comparison: TreeComparison
        if let selection {
            let sidecar = try source.status(FileTree.sidecarName)
            let chosen = try selection.choose(records, withSidecar: sidecar != nil, of: source.path)
            records = chosen.records
            comparison = try await TreeComparison.make(
                source, only: records, withSidecar: chosen.sidecar, progress: progress)
        } else {
            comparison = try await TreeComparison.make(source, manifest, progress: progress)
        }
        // What was added later is nobody's loss and stays where it is.
        if let problem = comparison.problems.first(where: { $0.kind != .extra }) {
            throw problem.error(in: source.path)
        }
        var files = comparison.files.map { FilePass.Input($0.record, $0.status, verify: verify) }
        if let sidecar = comparison.sidecar { files.append(FilePass.Input(sidecar)) }
        return RestorePlan(builder: TreeBuilder(records), files: files)
    }

    /// Makes everything in an empty directory. Directories keep a mode that lets us work until `finishDirectories`.
    func build(
        in root: RootDirectory, from source: RootDirectory, progress: Progress, hooks: TransferHooks
    ) async throws(StorageError) {
        progress.expect(bytes: bytes, files: files.count)
        try builder.begin(in: root, progress: progress)
        var pass = FilePass(source: source, destination: root, progress: progress, hooks: hooks, activity: "restored")
        let network = FileSystemKind.isNetwork(source.path) || FileSystemKind.isNetwork(root.path)
        pass.workers = WorkPlan.workers(onNetwork: network)
        _ = try await pass.run(files)
        try builder.makeLinks(in: root, progress: progress)
    }
}

extension TreeBuilder {
    /// The directories and links of a manifest.
    init(_ records: [FileRecord]) {
        directories = []
        links = []
        for record in records {
            let modified = record.modifiedNanoseconds
            switch record.kind {
            case .file: break
            case .directory:
                directories.append(Directory(path: record.path, mode: record.mode, modifiedNanoseconds: modified))
            case .symlink(let target):
                links.append(Link(path: record.path, target: target, modifiedNanoseconds: modified))
            }
        }
        // A directory before what it holds, whatever order the document has.
        PathBytes.sort(&directories) { $0.path }
    }
}
