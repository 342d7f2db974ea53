internal import CStorage
internal import Glibc

/// Where a restore puts its files, and the temporary directories that it may leave there when it is killed.
///
/// A destination that does not exist is built as `.raystorage-restore-<CRC of its name>-<random>` beside it, an
/// existing one in `.raystorage-restore-<random>` inside it. The next restore to the same destination removes those
/// whose process is gone.
struct RestorePlace: Sendable {
    static let prefix = ".raystorage-restore-"

    /// Absolute, without links.
    let path: String
    let exists: Bool
    /// Parents that are not there yet, outermost first.
    private let missing: [String]

    /// Looks without changing anything.
    init(_ destination: String) throws(StorageError) {
        func refuse(_ why: String) -> StorageError {
            StorageError(
                .invalidArgument, "cannot restore to \(quoted(destination)): \(why)",
                details: [("path", .string(destination))])
        }
        if let status = try System.statusFollowing(destination) {
            guard status.kind == .directory else { throw refuse("it is no directory") }
            (path, exists, missing) = (try Path.resolved(destination), true, [])
            return
        }
        if try System.exists(destination) { throw refuse("it is a link to nothing") }
        var rest: [String] = []
        var ancestor = destination
        while try System.statusFollowing(ancestor) == nil {
            while ancestor.utf8.count > 1, ancestor.utf8.last == UInt8(ascii: "/") { ancestor.removeLast() }
            let name = Path.name(ancestor)
            if name.utf8.elementsEqual("..".utf8) { throw refuse("its parents do not exist") }
            if !name.utf8.isEmpty, !name.utf8.elementsEqual(".".utf8) { rest.append(name) }
            let parent = Path.parent(ancestor)
            if parent.utf8.elementsEqual(ancestor.utf8) { throw refuse("it has no parent") }
            ancestor = parent
        }
        var path = try Path.resolved(ancestor)
        var parents: [String] = []
        for name in rest.reversed() {
            path = Path.join(path, name)
            parents.append(path)
        }
        if parents.isEmpty { throw refuse("it is no directory") }
        (self.path, exists, missing) = (path, false, parents.dropLast())
    }

    /// Where runs and checkpoints lie, some files of one would be taken for a whole one (P1).
    ///
    /// Errors: INVALID_ARGUMENT naming the run or checkpoint.
    func refuseParts() throws(StorageError) {
        var place = path
        let marks = [RunLayout.manifest, RunLayout.record, RunLayout.snapshot]
        while true {
            for mark in marks where try System.status(Path.join(place, mark)) != nil {
                let what = mark == RunLayout.manifest ? "a checkpoint" : "a run"
                throw StorageError(
                    .invalidArgument,
                    "cannot restore some files of a checkpoint to \(quoted(path)): \(quoted(place)) is \(what), where they"
                        + " would be taken for a whole checkpoint",
                    details: [("path", .string(path)), ("allowed", "a directory outside of runs and checkpoints")])
            }
            let parent = Path.parent(place)
            if parent.utf8.elementsEqual(place.utf8) { return }
            place = parent
        }
    }

    /// Makes the missing parents and returns those made, outermost first.
    func makeParents() throws(StorageError) -> [String] {
        var made: [String] = []
        for parent in missing { if try System.makeDirectory(parent) { made.append(parent) } }
        return made
    }

    private var folder: String { exists ? path : Path.parent(path) }
    private var prefix: String {
        if exists { return Self.prefix }
        let digits = String(CRC32C.of(Array(Path.name(path).utf8)), radix: 16)
        return "\(Self.prefix)\(String(repeating: "0", count: 8 - digits.utf8.count))\(digits)-"
    }

    /// A new empty directory that counts as alive until it is let go of.
    func makeTemporary() throws(StorageError) -> TemporaryDirectory {
        try TemporaryDirectory(in: folder, prefix: prefix)
    }

    /// Removes what killed restores to this destination have left. What cannot be removed is no reason to fail.
    func removeStale() {
        guard let names = try? System.list(folder) else { return }
        for name in names where name.hasPrefix(prefix) { TemporaryDirectory.removeIfDead(Path.join(folder, name)) }
    }
}

/// A directory whose owner holds a lock on it: locked means alive, whatever clocks and process ids say.
final class TemporaryDirectory: Sendable {
    let path: String
    let root: RootDirectory
    /// Where directories cannot be locked (NFS), younger ones count as alive.
    private static let assumedLifeNanoseconds: Int64 = 24 * 3600 * 1_000_000_000

    init(in folder: String, prefix: String) throws(StorageError) {
        while true {
            let path = Path.join(folder, prefix + Environment.system.randomHex(8))
            guard try System.makeDirectory(path) else { continue }
            do throws(StorageError) {
                let root = try RootDirectory(path, followLink: false)
                let taken = flock(root.descriptor, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK
                // Somebody who collects may have come between making and locking.
                if !taken, let named = try System.status(path), let held = try root.status(""),
                    named.inode == held.inode
                {
                    self.path = path
                    self.root = root
                    return
                }
            } catch {
                if error.code != .notFound { throw error }
            }
        }
    }

    static func removeIfDead(_ path: String) {
        guard let root = try? RootDirectory(path, followLink: false) else { return }
        if flock(root.descriptor, LOCK_EX | LOCK_NB) == -1 {
            guard errno != EWOULDBLOCK, let status = try? root.status("") else { return }
            if cs_realtime_ns() - status.modifiedNanoseconds < assumedLifeNanoseconds { return }
        }
        try? TreeRemoval.remove(path)
    }

    func remove() throws(StorageError) { try TreeRemoval.remove(path) }
}
