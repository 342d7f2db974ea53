/// What is wrong with one entry of a checkpoint.
struct CheckpointProblem: Sendable {
    enum Kind: String, Sendable { case missing, extra, kind, size, checksum, unreadable }

    var path: String
    var kind: Kind
    /// A sentence that names the full path.
    var message: String
    /// Of the first damaged block.
    var offset: Int?
    /// Why it could not be read: trouble, not damage.
    var cause: StorageError? = nil

    var document: JSONValue {
        var members = [
            JSONMember("path", .string(path)), JSONMember("problem", .string(kind.rawValue)),
            JSONMember("message", .string(message)),
        ]
        if let offset { members.append(JSONMember("offset", JSONValue(offset))) }
        return .object(members)
    }

    /// The same as an error, for those who stop at the first.
    func error(in directory: String) -> StorageError {
        var details: [(key: String, value: JSONValue)] = [
            ("path", .string(Path.join(directory, path))), ("file", .string(path)), ("problem", .string(kind.rawValue)),
        ]
        if let offset { details.append(("offset", JSONValue(offset))) }
        return StorageError(.checksum, message, details: details)
    }
}

/// A manifest beside the tree that it describes: everything that can be told without reading files.
struct TreeComparison: Sendable {
    /// Files that are there with their size, to be read.
    private(set) var files: [(record: FileRecord, status: System.FileStatus)] = []
    private(set) var problems: [CheckpointProblem] = []
    /// The mutable `.metadata.json`, if it is there.
    private(set) var sidecar: FileTree.Entry?
    /// Of every entry, for those who want to know whether anything changed.
    private(set) var statuses: [(path: String, status: System.FileStatus)] = []

    static func make(
        _ root: RootDirectory, _ manifest: Manifest, progress: Progress
    ) async throws(StorageError) -> TreeComparison {
        let tree = try await FileTree.walk(root, rules: .asFound, progress: progress)
        return TreeComparison(tree, manifest.files, root)
    }

    /// Some of a manifest's entries, looked at alone. A directory that is none any more is among them, so that nothing is read
    /// through a link that took its place.
    static func make(
        _ root: RootDirectory, only records: [FileRecord], withSidecar: Bool, progress: Progress
    ) async throws(StorageError) -> TreeComparison {
        let paths = records.map(\.path) + (withSidecar ? [FileTree.sidecarName] : [])
        return TreeComparison(try await FileTree.look(root, at: paths, progress: progress), records, root)
    }

    private init(_ tree: FileTree, _ records: [FileRecord], _ root: RootDirectory) {
        var found: [[UInt8]: FileTree.Entry] = [:]
        found.reserveCapacity(tree.entries.count)
        let own = Array(FileTree.ownName.utf8)
        var forks = ForkYield()
        for entry in tree.entries {
            forks.step()
            if entry.isSidecar {
                sidecar = entry
                continue
            }
            let bytes = Array(entry.path.utf8)
            if bytes.starts(with: own), bytes.count == own.count || bytes[own.count] == UInt8(ascii: "/") { continue }
            found[bytes] = entry
        }
        for record in records {
            forks.step()
            guard let entry = found.removeValue(forKey: Array(record.path.utf8)) else {
                add(record.path, .missing, "\(quoted(root.full(record.path))) is missing")
                continue
            }
            statuses.append((record.path, entry.status))
            compare(record, entry, root)
        }
        var extra = Array(found.values)
        PathBytes.sort(&extra) { $0.path }
        for entry in extra {
            forks.step()
            add(entry.path, .extra, "\(quoted(root.full(entry.path))) was not reported")
        }
    }

    private mutating func add(_ path: String, _ kind: CheckpointProblem.Kind, _ message: String) {
        problems.append(CheckpointProblem(path: path, kind: kind, message: message, offset: nil))
    }

    private mutating func compare(_ record: FileRecord, _ entry: FileTree.Entry, _ root: RootDirectory) {
        let full = quoted(root.full(record.path))
        switch (record.kind, entry.status.kind) {
        case (.file, .file):
            if record.size == entry.status.size {
                files.append((record, entry.status))
            } else {
                add(record.path, .size, "\(full) has \(entry.status.size) bytes, \(record.size) were reported")
            }
        case (.directory, .directory): break
        case (.symlink(let target), .symlink):
            let now = entry.target ?? ""
            if !now.utf8.elementsEqual(target.utf8) {
                add(record.path, .kind, "\(full) links to \(quoted(now)), \(quoted(target)) was reported")
            }
        default: add(record.path, .kind, "\(full) is not what was reported (now: \(entry.status.kind))")
        }
    }
}
