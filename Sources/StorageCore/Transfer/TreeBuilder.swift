/// Makes the parts of a tree that are not files: directories first, links and the directories' modes and mtimes last.
struct TreeBuilder: Sendable {
    struct Directory: Sendable {
        var path: String
        var mode: UInt32
        var modifiedNanoseconds: Int64
    }
    struct Link: Sendable {
        var path: String
        var target: String
        var modifiedNanoseconds: Int64
    }

    /// A directory before what it holds.
    var directories: [Directory]
    var links: [Link]

    /// Makes the directories, writable for us until the end.
    func begin(in root: RootDirectory, progress: Progress) throws(StorageError) {
        for (index, directory) in directories.enumerated() {
            if index % 256 == 0 { try progress.checkCancelled() }
            try root.makeDirectory(directory.path, mode: directory.mode | 0o700)
        }
    }

    /// Makes the links once all files are there, so that nothing is ever written through one.
    func makeLinks(in root: RootDirectory, progress: Progress) throws(StorageError) {
        for (index, link) in links.enumerated() {
            if index % 256 == 0 { try progress.checkCancelled() }
            try root.makeLink(link.path, target: link.target)
            try root.setModified(link.path, nanoseconds: link.modifiedNanoseconds)
        }
    }

    /// Modes and mtimes at the very end, innermost first: making an entry changes its directory's mtime, and a mode may
    /// forbid it.
    func finishDirectories(in root: RootDirectory, progress: Progress) throws(StorageError) {
        for (index, directory) in directories.reversed().enumerated() {
            if index % 256 == 0 { try progress.checkCancelled() }
            try applyMode(directory, root)
            try root.setModified(directory.path, nanoseconds: directory.modifiedNanoseconds)
        }
    }

    private func applyMode(_ directory: Directory, _ root: RootDirectory) throws(StorageError) {
        guard let status = try root.status(directory.path), status.mode & 0o777 != directory.mode else { return }
        // Special bits stay what the parent directory made them (setgid on shared storage).
        try root.setMode(directory.path, status.mode & ~0o777 | directory.mode)
    }
}
