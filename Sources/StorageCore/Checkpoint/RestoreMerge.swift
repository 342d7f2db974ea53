internal import CStorage
internal import Glibc

/// Moves a finished tree into a directory that exists, entry by entry, and back again when one of them fails.
struct RestoreMerge {
    let plan: RestorePlan
    /// The finished tree.
    let source: RootDirectory
    /// Keeps what is replaced until the end.
    let old: RootDirectory
    let target: RootDirectory
    private var undo: [Step] = []

    private enum Step {
        case made(String)
        case opened(String, mode: UInt32)
        /// `kept`: the name in `old` of what stood there.
        case placed(String, kept: String?)
    }

    init(plan: RestorePlan, source: RootDirectory, old: RootDirectory, target: RootDirectory) {
        self.plan = plan
        self.source = source
        self.old = old
        self.target = target
    }

    mutating func run(_ progress: Progress) throws(StorageError) {
        let entries = plan.files.map(\.path) + plan.builder.links.map(\.path)
        try checkTarget(entries)
        do throws(StorageError) {
            for directory in plan.builder.directories { try openDirectory(directory) }
            for (index, path) in entries.enumerated() {
                try progress.checkCancelled()
                try place(path, number: index)
            }
            try plan.builder.finishDirectories(in: target, progress: progress)
        } catch {
            revert()
            throw error
        }
    }

    /// Looks for what stands in the way before anything is moved. Directories come before what they hold, so no path
    /// is ever looked up through a link that somebody has planted.
    private func checkTarget(_ entries: [String]) throws(StorageError) {
        for directory in plan.builder.directories {
            guard let status = try target.status(directory.path) else { continue }
            if status.kind != .directory { throw inTheWay(directory.path, "a \(status.kind), not a directory") }
        }
        for path in entries {
            if let status = try target.status(path), status.kind == .directory { throw inTheWay(path, "a directory") }
        }
    }

    private func inTheWay(_ path: String, _ what: String) -> StorageError {
        StorageError(
            .alreadyExists, "\(quoted(target.full(path))) stands in the way: it is \(what)",
            details: [("path", .string(target.full(path)))])
    }

    private mutating func openDirectory(_ directory: TreeBuilder.Directory) throws(StorageError) {
        if try target.makeDirectory(directory.path, mode: directory.mode | 0o700) {
            undo.append(.made(directory.path))
            return
        }
        guard let status = try target.status(directory.path), status.mode & 0o700 != 0o700 else { return }
        try target.setMode(directory.path, status.mode | 0o700)
        undo.append(.opened(directory.path, mode: status.mode))
    }

    private mutating func place(_ path: String, number: Int) throws(StorageError) {
        var kept: String?
        if try target.status(path) != nil {
            let name = String(number)
            // A second name, so that the first is never absent; where there are no hard links, for an instant it is.
            if cs_linkat(target.descriptor, path, old.descriptor, name, 0) == -1 {
                try target.move(path, to: old, name)
            }
            kept = name
        }
        undo.append(.placed(path, kept: kept))
        try source.move(path, to: target, path)
    }

    private func revert() {
        // Best effort, step by step: each one that works brings back something.
        for step in undo.reversed() {
            switch step {
            case .made(let path): _ = try? target.unlink(path, isDirectory: true)
            case .opened(let path, let mode): try? target.setMode(path, mode)
            case .placed(let path, nil): _ = try? target.unlink(path)
            case .placed(let path, let kept?): try? old.move(kept, to: target, path)
            }
        }
    }
}
