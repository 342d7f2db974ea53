internal import Synchronization

/// One trainer's hold on a run: its heartbeat, and the fence that a successor raises.
///
/// Correctness rests on create-only epochs and on the order of a takeover (fence, then list), never on the heartbeat,
/// which only keeps two live trainers from annoying each other.
final class Hold: Sendable {
    let backend: any StorageBackend
    let epoch: EpochRecord
    let environment: Environment
    /// Whether the holder learns from its own write of the snapshot that it is fenced; looking would cost a request each
    /// time.
    let isFencedBySnapshot: Bool
    private let state: Mutex<State>

    private struct State {
        var beats = 0
        /// `CLOCK_BOOTTIME`, milliseconds: goes on while the machine sleeps.
        var renewedAt: Int64
        var superseded: StorageError?
        var isReleased = false
        var onBeat: (@Sendable () async -> Void)?
    }

    init(
        backend: any StorageBackend, epoch: EpochRecord, environment: Environment, isFencedBySnapshot: Bool = false
    ) {
        self.isFencedBySnapshot = isFencedBySnapshot
        self.backend = backend
        self.epoch = epoch
        self.environment = environment
        state = Mutex(State(renewedAt: environment.bootMilliseconds()))
    }

    /// Bumps the counter that newcomers watch, and looks at the fence. Throws `SUPERSEDED` when it is raised.
    func renew() async throws(StorageError) {
        if let known = superseded { throw known }
        // From before the write: a newcomer counts from when it sees the counter move, which may be at once, while we
        // may be suspended right behind the write.
        let start = environment.bootMilliseconds()
        let beats = state.withLock { state in
            state.beats += 1
            return state.beats
        }
        let text = String(beats)
        let padding = String(repeating: "0", count: max(0, 12 - text.utf8.count))
        // Fixed width: a reader never takes a torn write for another number of digits.
        try await backend.post(RunLayout.heartbeat(epoch.number), Array((padding + text + "\n").utf8))
        // A newcomer that did not see this beat has raised the fence before. So a holder that may write was not fenced
        // at its last beat, and cannot be within the next 3 T of those who go by heartbeats.
        try await lookAtFence()
        state.withLock { $0.renewedAt = max($0.renewedAt, start) }
    }

    /// Renews until released or superseded. Errors are logged once and tried again: `mayWrite` says what follows from
    /// them.
    func keepRenewing(on engine: Engine, lock: ProcessLock? = nil) {
        engine.spawnBeat { [self] in
            var isFailing = false
            // The caller has renewed just now.
            await engine.sleep(milliseconds: epoch.period)
            while !state.withLock({ $0.isReleased }) {
                do throws(StorageError) {
                    try await renew()
                    lock?.touch()
                    isFailing = false
                    // Not on this thread: a write that hangs must not stop the beats.
                    if let onBeat = state.withLock({ $0.onBeat }) { engine.spawn { await onBeat() } }
                } catch {
                    if error.code == .superseded {
                        Log.shared.write(.error, error.message)
                        return
                    }
                    if !isFailing { Log.shared.write(.warning, error.while_("heartbeat").message) }
                    isFailing = true
                }
                await engine.sleep(milliseconds: epoch.period)
            }
        }
    }

    /// What is looked after once a heartbeat.
    func onBeat(_ body: @escaping @Sendable () async -> Void) { state.withLock { $0.onBeat = body } }

    func release() { state.withLock { $0.isReleased = true } }

    /// Whether the run was let go of.
    var isReleased: Bool { state.withLock { $0.isReleased } }

    /// Whether this holder may delete and may write snapshot and metrics files: not fenced, renewed within 2 T.
    var mayWrite: Bool {
        state.withLock { state in
            state.superseded == nil
                && environment.bootMilliseconds() - state.renewedAt < 2 * epoch.period
        }
    }

    /// Looks at the fence; throws `SUPERSEDED` when it is raised. A holder that was suspended renews first: either its
    /// heartbeat or its fence tells what happened meanwhile. Where the snapshot is the fence only what is known counts,
    /// unless `looking`.
    func check(looking: Bool = false) async throws(StorageError) {
        if let known = superseded { throw known }
        if !mayWrite { return try await renew() }
        if looking || !isFencedBySnapshot { try await lookAtFence() }
    }

    /// Opens the fence anew each time (close-to-open on NFS).
    private func lookAtFence() async throws(StorageError) {
        guard let fence = try await backend.read(RunLayout.fence(epoch.number), limit: 1 << 20), !fence.bytes.isEmpty
        else {
            return
        }
        let document = (try? JSONParser.parse(fence.bytes)) ?? .null
        throw supersede(by: EpochRecord(document))
    }

    /// Notes that another trainer has taken over, and says so.
    func supersede(by successor: EpochRecord?) -> StorageError {
        let error = StorageError(
            .superseded,
            "another trainer has taken over \(quoted(backend.root)): \(successor?.holder ?? "its record is unreadable")",
            details: [("path", .string(backend.root))] + (successor?.holderDetails ?? []))
        return state.withLock { state in
            let known = state.superseded ?? error
            state.superseded = known
            return known
        }
    }

    /// The error of a holder that has been superseded, as far as known.
    var superseded: StorageError? { state.withLock { $0.superseded } }

    /// Tells an earlier holder, who looks at this file after every commit and before saying so.
    static func raiseFence(
        of epoch: Int, by successor: EpochRecord, backend: any StorageBackend
    ) async throws(StorageError) {
        if let fence = try await backend.read(RunLayout.fence(epoch), limit: 1 << 20), !fence.bytes.isEmpty { return }
        try await backend.post(RunLayout.fence(epoch), successor.document.compactBytes)
    }

    /// Watches a heartbeat for 3 T of its holder on our own clock; true when it moved.
    static func isAlive(
        _ record: EpochRecord, backend: any StorageBackend, environment: Environment, engine: Engine,
        progress: Progress
    ) async throws(StorageError) -> Bool {
        let period = record.period
        let start = environment.bootMilliseconds()
        let first = try await backend.read(RunLayout.heartbeat(record.number), limit: 4096)?.bytes
        progress.phase = "watching the heartbeat of \(record.holder)"
        while environment.bootMilliseconds() - start < 3 * period {
            try progress.checkCancelled()
            await engine.sleep(milliseconds: min(100, period / 2))
            if try await backend.read(RunLayout.heartbeat(record.number), limit: 4096)?.bytes != first { return true }
            if try await backend.read(RunLayout.closed(record.number), limit: 4096) != nil { return false }
        }
        return false
    }
}
