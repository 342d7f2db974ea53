internal import Synchronization

/// Brings the metrics of a run on an object store from the workspace to the store, where nothing can be appended to: each
/// segment of the log is written anew while it grows, `result.json` and `progress.csv` as a whole, at a bounded rate.
///
/// The workspace holds a copy of everything that those two are derived from, completed once (`MetricsMirror`). What is lost
/// with this machine's disk are rows since the last publication, and of those none that came with a committed checkpoint:
/// its decision has them too.
final class MetricsPublisher: Sendable {
    /// Segments are rewritten while they are smaller.
    static let segmentBytes = 1 << 20
    /// Between two publications that nobody waits for, in milliseconds.
    static let period: Int64 = 5000
    /// Larger files are published less often, so that rewriting them takes no more than this on average.
    static let bytesPerSecond = 1 << 20

    private let backend: any StorageBackend
    private let mirror: MetricsMirror
    private let hold: Hold
    private let environment: Environment
    private let turn = Turn()
    private let state = Mutex(State())

    private struct State: Sendable {
        var isComplete = false
        /// What of each file is on the store.
        var published: [String: MetricsMirror.Copy] = [:]
        var publishedAt: Int64?
        /// That the last publication took.
        var bytes = 0
        /// Files that have become too large, and of which somebody has been told.
        var tooLarge: Set<String> = []
    }

    init(backend: any StorageBackend, mirror: MetricsMirror, hold: Hold, environment: Environment) {
        self.backend = backend
        self.mirror = mirror
        self.hold = hold
        self.environment = environment
    }

    /// Whether enough time has passed for a publication that nobody asked for.
    var isDue: Bool {
        state.withLock { state in
            guard let last = state.publishedAt else { return true }
            let pause = max(Self.period, Int64(state.bytes) * 1000 / Int64(Self.bytesPerSecond))
            return environment.bootMilliseconds() - last >= pause
        }
    }

    /// Whether this launch has published yet.
    var hasBegun: Bool { state.withLock { $0.publishedAt != nil } }

    /// Completes the workspace, once, while the log still takes lines.
    func prepare() async throws(StorageError) {
        try await turn.take { () async throws(StorageError) in try await prepareInTurn() }
    }

    private func prepareInTurn() async throws(StorageError) {
        if state.withLock({ $0.isComplete }) { return }
        let published = try await mirror.complete()
        state.withLock { state in
            state.published = published
            state.isComplete = true
        }
    }

    /// Publishes what is new; `derive` brings the derived files of the workspace up to its log first.
    func publish(derive: @Sendable () -> Void) async throws(StorageError) {
        try await turn.take { () async throws(StorageError) in
            state.withLock { $0.publishedAt = environment.bootMilliseconds() }
            try await prepareInTurn()
            derive()
            var bytes = 0
            // The truth first.
            let segments = try MetricsSegmentName.list(runDirectory: mirror.workspace)
            for key in segments.map({ RunLayout.metrics + $0.fileName }) + ResultFiles.names {
                bytes += try await publish(key)
            }
            state.withLock { $0.bytes = bytes }
        }
    }

    /// Writes a file anew if it has grown; its size then.
    private func publish(_ key: String) async throws(StorageError) -> Int {
        guard let size = try mirror.size(key), size > 0 else { return 0 }
        let published = state.withLock { $0.published[key]?.bytes }
        if published == size { return 0 }
        if mirror.isTooLarge(key, max(size, published ?? 0)) {
            tellOnce(key, size)
            return 0
        }
        // A line that is being written is not one yet.
        let bytes = try mirror.read(key)
        let whole = bytes.lastIndex(of: 0x0A).map { Array(bytes[...$0]) } ?? []
        if whole.isEmpty { return 0 }
        let version = try await write(key, whole)
        state.withLock { $0.published[key] = MetricsMirror.Copy(bytes: whole.count, version: version) }
        return whole.count
    }

    /// All that they tell is in the segments, which grow on.
    private func tellOnce(_ key: String, _ size: Int) {
        guard state.withLock({ $0.tooLarge.insert(key).inserted }) else { return }
        Log.shared.write(
            .warning,
            "\(quoted(backend.path(key))) is no longer written: it would be \(size) bytes, and stores get it up to "
                + "\(mirror.derivedLimit); Result and `raystorage metrics` read all rows from \(RunLayout.metrics)")
    }

    /// Over the version that is known: what a dead trainer's connection still delivers must not take our rows away.
    private func write(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> String? {
        guard backend.capabilities.replacesConditionally else {
            try await backend.replace(key, bytes, ifVersion: nil)
            return nil
        }
        var known = state.withLock { $0.published[key]?.version }
        for _ in 0..<10 {
            if let version = try await backend.exchange(key, bytes, over: known) { return version }
            // By a successor, while we were suspended; else delivered late, or by a try of ours whose answer was lost.
            try await hold.check(looking: true)
            known = try await mirror.head(key)?.version
        }
        throw StorageError(
            .precondition, "\(quoted(backend.path(key))) is rewritten by others without end",
            details: [("path", .string(backend.path(key)))], isRetryable: true)
    }
}
