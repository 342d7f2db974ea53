internal import Synchronization

/// A file that goes up in parts, by several workers: begun by the first, completed by the last.
final class UploadingFile: Sendable {
    /// One upload of the file; another one is begun when the store has lost it.
    struct Session: Sendable {
        var number: Int
        var upload: String
        var source: UploadSource
        /// Parts that need not be sent, from 0.
        var isDone: Set<Int>
    }
    private struct State {
        var number = 0
        var session: Session?
        var parts: [Int: UploadedPart] = [:]
        /// Somebody has all parts and completes.
        var isCompleting = false
        var hasEnded = false

        mutating func complete(_ count: Int) -> [UploadedPart]? {
            guard parts.count == count, !isCompleting else { return nil }
            isCompleting = true
            return parts.sorted { $0.key < $1.key }.map(\.value)
        }
    }
    /// Held while the upload is begun.
    let turn = Turn()
    let plan: PartPlan
    private let state = Mutex(State())

    init(_ plan: PartPlan) { self.plan = plan }

    var session: Session? { state.withLock { $0.session } }
    var hasEnded: Bool { state.withLock { $0.hasEnded } }

    /// `parts`: those that the store has already.
    func begin(_ upload: String, _ source: UploadSource, parts: [UploadedPart]) -> Session {
        state.withLock { state in
            state.number += 1
            state.parts = Dictionary(parts.map { ($0.number - 1, $0) }) { _, last in last }
            let session = Session(
                number: state.number, upload: upload, source: source, isDone: Set(state.parts.keys))
            state.session = session
            return session
        }
    }

    /// Whether the part counts: it does not when its session was lost meanwhile. And all parts in their order for the one
    /// who is to complete.
    func add(_ index: Int, _ part: UploadedPart, to session: Session) -> (counts: Bool, all: [UploadedPart]?) {
        state.withLock { state in
            guard state.session?.number == session.number else { return (false, nil) }
            state.parts[index] = part
            return (true, state.complete(plan.count))
        }
    }

    /// The same when no part was missing at the beginning.
    func allParts() -> [UploadedPart]? { state.withLock { $0.complete(plan.count) } }

    /// It is there whole; lets the source be closed.
    func end() {
        state.withLock { state in
            state.session = nil
            state.hasEnded = true
        }
    }

    /// Whether any upload of the file was begun by this process.
    var hasBegun: Bool { state.withLock { $0.number > 0 } }

    /// How many sessions there were, and the parts that are lost with this one; nil: somebody else has noticed before.
    func lose(_ session: Session) -> (sessions: Int, parts: [Int: UploadedPart])? {
        state.withLock { state in
            guard state.session?.number == session.number else { return nil }
            let parts = state.parts
            state.session = nil
            state.parts = [:]
            state.isCompleting = false
            return (state.number, parts)
        }
    }
}

/// An open file of a sealed attempt, and what it was when it was opened.
struct UploadSource: Sendable {
    let file: OpenFile
    private let status: System.FileStatus
    private let record: FileRecord

    /// Errors: PRECONDITION when its size is not the one that was sealed.
    init(_ record: FileRecord, in root: RootDirectory) throws(StorageError) {
        self.record = record
        var descriptor = -1 as Int32
        do throws(StorageError) { descriptor = try root.open(record.path, 0).release() } catch {
            if error.code == .notFound { throw .changed(root.full(record.path), "it is gone", during: "uploaded") }
            throw error
        }
        file = OpenFile(owning: descriptor, path: root.full(record.path))
        status = try file.status()
        guard status.kind == .file, status.size == record.size else {
            throw .changed(file.path, "it had \(record.size) bytes and has \(status.size)", during: "uploaded")
        }
    }

    /// PRECONDITION when it is not what it was: inode, size, mtime and ctime.
    func checkUnchanged() throws(StorageError) {
        let now = try file.status()
        if now.size != record.size {
            throw .changed(file.path, "it had \(record.size) bytes and has \(now.size)", during: "uploaded")
        }
        if !now.isUnchanged(since: status) {
            throw .changed(file.path, "it was written or replaced", during: "uploaded")
        }
    }

    /// Why sending failed, when the file itself is the reason; else `error`. What arrived with other bytes than were sealed
    /// is read once more to tell a changed file from a bad network.
    func reason(_ error: StorageError, _ range: Range<Int>, crc32c: UInt32) -> StorageError {
        if error.code == .cancelled { return error }
        do throws(StorageError) {
            try checkUnchanged()
            guard error.code == .checksum else { return error }
            if try crc(range) == crc32c { return error }
            return .changed(file.path, "its bytes are not those that were sealed", during: "uploaded")
        } catch let changed {
            return changed
        }
    }

    private func crc(_ range: Range<Int>) throws(StorageError) -> UInt32 {
        var crc: UInt32 = 0
        var offset = range.lowerBound
        while offset < range.upperBound {
            let length = min(1 << 20, range.upperBound - offset)
            let bytes = try HTTPBody.file(file, offset: offset, length: length).readAll()
            crc = bytes.withUnsafeBytes { CRC32C.update(crc, $0) }
            offset += length
        }
        return crc
    }
}
