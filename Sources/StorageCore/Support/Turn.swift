internal import Synchronization

/// Lets one task at a time through, in the order of asking; the others are suspended, not blocked.
final class Turn: Sendable {
    private struct Waiter {
        /// nil: waits whatever happens.
        let progress: Progress?
        /// Resumed with true for the turn, with false when cancelled.
        let continuation: CheckedContinuation<Bool, Never>
    }
    private struct State {
        var isTaken = false
        var isWatched = false
        var waiting: [Waiter] = []
    }
    private let state = Mutex(State())

    /// How many are suspended.
    var waitingCount: Int { state.withLock { $0.waiting.count } }

    /// Runs `body` when its turn has come. Cancelling `progress` ends the wait with CANCELLED, however long the turn is held;
    /// what `body` waits for is its own affair. Without `progress`: for those who are cancelled together with the holder.
    ///
    /// A request gives its slot back while it waits: the holder may need that very slot to go on.
    func take<Value>(
        _ progress: Progress? = nil, _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        try progress?.checkCancelled()
        let isFree = state.withLock { state in
            defer { state.isTaken = true }
            return !state.isTaken
        }
        if !isFree {
            progress?.slot?.release()
            guard await join(progress) else { throw StorageError(.cancelled, "cancelled by the caller") }
        }
        defer { end() }
        if !isFree { try await progress?.slot?.reclaim() }
        return try await body()
    }

    private func join(_ progress: Progress?) async -> Bool {
        await withCheckedContinuation { continuation in
            let (isFree, needsWatch) = state.withLock { state -> (Bool, Bool) in
                guard state.isTaken else {
                    state.isTaken = true
                    return (true, false)
                }
                state.waiting.append(Waiter(progress: progress, continuation: continuation))
                if progress == nil || state.isWatched { return (false, false) }
                state.isWatched = true
                return (false, true)
            }
            if isFree { continuation.resume(returning: true) }
            if needsWatch { watch() }
        }
    }

    private func end() {
        let next = state.withLock { state -> Waiter? in
            if state.waiting.isEmpty {
                state.isTaken = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.continuation.resume(returning: true)
    }

    /// Lets those go who were cancelled while they wait.
    private func watch() {
        Engine.shared.spawn { [self] in
            while true {
                let (cancelled, isOver) = state.withLock { state in
                    let cancelled = state.waiting.extract { $0.progress?.isCancelled ?? false }
                    state.isWatched = state.waiting.contains { $0.progress != nil }
                    return (cancelled, !state.isWatched)
                }
                for waiter in cancelled { waiter.continuation.resume(returning: false) }
                if isOver { return }
                await Engine.shared.sleep(milliseconds: 50)
            }
        }
    }
}
