internal import CStorage
internal import Glibc
internal import Synchronization

/// Everything below a directory, in the order of the bytes of the paths: a directory comes before what it holds.
struct FileTree: Sendable {
    struct Entry: Sendable {
        /// Below the root, `/` between components.
        var path: String
        var status: System.FileStatus
        /// Of a symbolic link.
        var target: String?
        /// The top-level `.metadata.json`: travels along, but users rewrite it, so it has no CRC.
        var isSidecar: Bool
    }

    enum Rules: Sendable {
        /// What a checkpoint may hold; anything else is an error that names it.
        case checkpoint
        /// Whatever is there, for those who compare.
        case asFound
    }

    /// Our own directory inside a checkpoint: never captured, never restored.
    static let ownName = ".raystorage"
    static let sidecarName = ".metadata.json"
    /// Larger files are refused: the table of their blocks would no longer be small (8 Mi blocks).
    static let maximumFileSize = ObjectSummary.maximumSize

    var entries: [Entry]

    /// Bytes of all files.
    var bytes: Int { ByteSum.of(entries.lazy.map { $0.status.kind == .file ? $0.status.size : 0 }) }

    /// Walks level by level, in parallel: depth costs no stack, and one huge directory keeps all threads busy.
    static func walk(
        _ root: RootDirectory, rules: Rules = .checkpoint, progress: Progress
    ) async throws(StorageError) -> FileTree {
        var entries: [Entry] = []
        var level = [""]
        while !level.isEmpty {
            let directories = level
            let names = Slots<[String]>(count: directories.count)
            try await Engine.shared.forEach(Array(directories.indices)) { index throws(StorageError) in
                try progress.checkCancelled()
                names.set(index, try Self.names(root, directories[index], rules: rules))
            }
            let found = try await look(root, Self.batches(directories, names.takeAll()), rules, progress)
            level = found.filter { $0.status.kind == .directory }.map(\.path)
            entries.append(contentsOf: found)
        }
        PathBytes.sort(&entries) { $0.path }
        let tree = FileTree(entries: entries)
        if rules == .checkpoint { try tree.checkLinks(root) }
        return tree
    }

    /// Those alone, as they are found; what is not there is left out.
    static func look(
        _ root: RootDirectory, at paths: [String], progress: Progress
    ) async throws(StorageError) -> FileTree {
        let batches = stride(from: 0, to: paths.count, by: batchSize).map {
            Array(paths[$0..<min($0 + batchSize, paths.count)])
        }
        var entries = try await look(root, batches, .asFound, progress)
        PathBytes.sort(&entries) { $0.path }
        return FileTree(entries: entries)
    }

    private static func look(
        _ root: RootDirectory, _ batches: [[String]], _ rules: Rules, _ progress: Progress
    ) async throws(StorageError) -> [Entry] {
        let found = Slots<[Entry]>(count: batches.count)
        try await Engine.shared.forEach(Array(batches.indices)) { index throws(StorageError) in
            try progress.checkCancelled()
            var list: [Entry] = []
            list.reserveCapacity(batches[index].count)
            for path in batches[index] { if let entry = try Self.entry(root, path, rules) { list.append(entry) } }
            found.set(index, list)
        }
        return found.takeAll().flatMap { $0 ?? [] }
    }

    private static let batchSize = 512

    private static func batches(_ directories: [String], _ names: [[String]?]) -> [[String]] {
        var batches: [[String]] = []
        var batch: [String] = []
        var forks = ForkYield()
        for (directory, names) in zip(directories, names) {
            for name in names ?? [] {
                forks.step()
                batch.append(directory.isEmpty ? name : "\(directory)/\(name)")
                if batch.count == batchSize {
                    batches.append(batch)
                    batch = []
                }
            }
        }
        if !batch.isEmpty { batches.append(batch) }
        return batches
    }

    private static func names(
        _ root: RootDirectory, _ directory: String, rules: Rules
    ) throws(StorageError) -> [String] {
        var names: [String] = []
        try root.forEachName(in: directory) { name throws(StorageError) in
            guard let text = String(validating: name, as: UTF8.self) else {
                let readable = String(decoding: name, as: UTF8.self)
                throw StorageError(
                    .invalidArgument,
                    "the file name \(quoted(readable)) in \(quoted(root.full(directory))) is not UTF-8: rename it",
                    details: [("path", .string(root.full(directory))), ("name", .string(readable))])
            }
            // ASCII, so that String's canonical equivalence does not matter.
            if directory.isEmpty, rules == .checkpoint, text == ownName { return }
            names.append(text)
        }
        return names
    }

    private static func entry(
        _ root: RootDirectory, _ path: String, _ rules: Rules
    ) throws(StorageError) -> Entry? {
        guard let status = try root.status(path) else {
            if rules == .asFound { return nil }
            throw .changed(root.full(path), "vanished")
        }
        var target: String?
        if status.kind == .symlink { target = try root.readLink(path) }
        if rules == .checkpoint { try check(root, path, status) }
        return Entry(
            path: path, status: status, target: target, isSidecar: path == sidecarName && status.kind == .file)
    }

    private static func check(
        _ root: RootDirectory, _ path: String, _ status: System.FileStatus
    ) throws(StorageError) {
        let full = root.full(path)
        switch status.kind {
        case .other(let what):
            let allowed = "files, directories and symbolic links that stay inside"
            throw StorageError(
                .invalidArgument, "\(quoted(full)) is a \(what): a checkpoint holds \(allowed)",
                details: [("path", .string(full)), ("kind", .string(what)), ("allowed", .string(allowed))])
        case .file:
            // Bits for everybody make the question to the kernel unnecessary.
            if status.mode & 0o444 != 0o444, !root.isReadable(path) { throw .system(EACCES, "open", full) }
            if status.size > maximumFileSize {
                throw StorageError(
                    .invalidArgument,
                    "\(quoted(full)) has \(status.size) bytes: at most \(maximumFileSize) are allowed",
                    details: [("path", .string(full)), ("allowed", JSONValue(maximumFileSize))])
            }
        case .directory, .symlink: break
        }
    }

    private func checkLinks(_ root: RootDirectory) throws(StorageError) {
        var links: [(path: String, target: String)] = []
        for entry in entries { if let target = entry.target { links.append((entry.path, target)) } }
        let rules = LinkRules(links)
        var forks = ForkYield()
        for link in links {
            forks.step(256)
            if rules.staysInside(path: link.path, target: link.target) { continue }
            let full = root.full(link.path)
            throw StorageError(
                .invalidArgument,
                "the symbolic link \(quoted(full)) -> \(quoted(link.target)) leaves the directory: links must be "
                    + "relative and stay inside",
                details: [
                    ("path", .string(full)), ("target", .string(link.target)),
                    ("allowed", "relative links that stay inside"),
                ])
        }
    }
}

/// Results of parallel work, one place for each piece.
final class Slots<Value: Sendable>: Sendable {
    private let values: Mutex<[Value?]>

    init(count: Int) { values = Mutex(Array(repeating: nil, count: count)) }

    func set(_ index: Int, _ value: Value) { values.withLock { $0[index] = value } }

    /// All of them, leaving nothing behind.
    func takeAll() -> [Value?] {
        values.withLock { values in
            let all = values
            values = []
            return all
        }
    }
}

extension StorageError {
    /// A file that is no longer what it was when work on it began.
    static func changed(_ path: String, _ how: String, during: String = "captured") -> StorageError {
        StorageError(
            .precondition, "\(quoted(path)) changed while it was being \(during) (\(how))",
            details: [("path", .string(path)), ("reason", .string(how))])
    }
}
