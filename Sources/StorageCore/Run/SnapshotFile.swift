internal import Synchronization

/// The snapshot of a run as its holder writes it. Where the storage replaces conditionally it is the fence too: a
/// newcomer rewrites it before it looks for commits, so that the holder's own next write is refused.
final class SnapshotFile: Sendable {
    private static let limit = 256 << 20
    /// Beside Ray's members and ours: the record of the epoch that raised the fence. The rest of a snapshot stays as it is
    /// then, because it tells whether Ray wrote it.
    static let fenceKey = "raystorage_fence"

    private let backend: any StorageBackend
    private let hold: Hold
    private let version = Mutex<String?>(nil)

    init(backend: any StorageBackend, hold: Hold) {
        self.backend = backend
        self.hold = hold
    }

    private var epoch: Int { hold.epoch.number }

    /// Makes the next write of every earlier holder fail. Nothing where the storage cannot.
    func raiseFence() async throws(StorageError) {
        guard hold.isFencedBySnapshot else { return }
        for _ in 0..<100 {
            let object = try await backend.read(RunLayout.snapshot, limit: Self.limit)
            if let object { try await checkSuccessor(object.bytes) }
            let document = fenced(object?.bytes)
            if let written = try await backend.exchange(
                RunLayout.snapshot, document.compactBytes, over: object?.version)
            {
                version.withLock { $0 = written }
                return
            }
        }
        throw contended()
    }

    private func fenced(_ bytes: [UInt8]?) -> JSONValue {
        var members = bytes.flatMap { try? JSONParser.parse($0) }?.objectValue
        // None, or none that anybody can read: it is made anew from the commits.
        if members == nil {
            let empty = Snapshot(entries: [], latest: nil, reportCount: 0)
            members = (try? JSONParser.parse(empty.encoded))?.objectValue
        }
        let others = (members ?? []).filter { $0.key != Self.fenceKey }
        return .object(others + [JSONMember(Self.fenceKey, hold.epoch.document)])
    }

    /// Writes it, unless a newcomer has. Throws SUPERSEDED then.
    func write(_ snapshot: Snapshot) async throws(StorageError) {
        let bytes = snapshot.encoded
        guard hold.isFencedBySnapshot else {
            _ = try await backend.replace(RunLayout.snapshot, bytes, ifVersion: nil)
            return
        }
        for _ in 0..<100 {
            let known = version.withLock { $0 }
            if let written = try await backend.exchange(RunLayout.snapshot, bytes, over: known) {
                version.withLock { $0 = written }
                return
            }
            // A newcomer; or Ray, whose snapshot we replace; or a write of our own whose answer was lost.
            let object = try await backend.read(RunLayout.snapshot, limit: Self.limit)
            if let object { try await checkSuccessor(object.bytes) }
            version.withLock { $0 = object?.version }
        }
        throw contended()
    }

    private func checkSuccessor(_ bytes: [UInt8]) async throws(StorageError) {
        guard let document = try? JSONParser.parse(bytes) else { return }
        let successor = document[Self.fenceKey].flatMap { EpochRecord($0) }
        let writer = document["raystorage"]?["epoch"]?.intValue ?? 0
        if let successor, successor.number > epoch { throw hold.supersede(by: successor) }
        if writer > epoch {
            // Its fence file says who it is.
            try await hold.check(looking: true)
            throw hold.supersede(by: nil)
        }
    }

    private func contended() -> StorageError {
        StorageError(
            .precondition, "\(quoted(backend.path(RunLayout.snapshot))) is rewritten by others without end",
            details: [("path", .string(backend.path(RunLayout.snapshot)))], isRetryable: true)
    }
}
