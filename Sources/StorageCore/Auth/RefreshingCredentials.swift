internal import Synchronization

/// Keeps the credentials of a source and renews them ahead of their end, so that a run of weeks never stops for it: one request
/// at a time, shared by all callers, in a task of its own that no caller's cancellation ends. Stores that ask alike share it
/// (`SharedCredentials`).
final class RefreshingCredentials: AWSCredentialsProvider {
    private struct Waiter {
        let progress: Progress
        let continuation: CheckedContinuation<Void, Never>
    }
    private struct State {
        var refresh = RefreshState()
        var waiting: [Waiter] = []
        /// What they are of was another thing at a renewal than when this was made.
        var hasStrayed = false
    }

    private let source: any AWSCredentialsProvider
    private let context: AuthContext
    private let isUnchanged: @Sendable () -> Bool
    private let state = Mutex(State())

    /// `isUnchanged`: whether the source would be made in the same way now; looked at when credentials are renewed, since
    /// sources read the environment and files anew.
    init(
        _ source: any AWSCredentialsProvider, context: AuthContext,
        isUnchanged: @escaping @Sendable () -> Bool = { true }
    ) {
        self.source = source
        self.context = context
        self.isUnchanged = isUnchanged
    }

    /// Whether somebody who comes now gets what a provider of his own would get. Not when the environment or a file was
    /// another one at a renewal; nor after an error that a person has to mend: whoever has just done so is not to wait for
    /// the next try of others.
    var isShareable: Bool {
        state.withLock { !$0.hasStrayed && $0.refresh.lastError?.isRetryable ?? true }
    }

    var name: String { source.name }

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        var hasRenewed = false
        while true {
            try progress.checkCancelled()
            let boot = context.bootMilliseconds
            let step = state.withLock { state -> RefreshState.Step in
                if hasRenewed, let rejected, state.refresh.current == rejected {
                    return .fail(state.refresh.lastError ?? unchanged(rejected))
                }
                return state.refresh.ask(rejected: rejected, boot: boot)
            }
            switch step {
            case .use(let credentials): return credentials
            case .useAndRefresh(let credentials):
                begin(rejected: nil)
                return credentials
            case .refresh:
                begin(rejected: rejected)
                try await join(progress)
                hasRenewed = true
            case .join:
                try await join(progress)
                hasRenewed = true
            case .wait(let milliseconds): try await context.pause(milliseconds, progress)
            case .fail(let error): throw error
            }
        }
    }

    /// The source gives again what the store refused. Temporary ones may be renewed under us, so another try is worth it.
    private func unchanged(_ rejected: AWSCredentials) -> StorageError {
        StorageError(
            .unauthenticated,
            "the credentials of \(source.name) were refused as expired or invalid, and it still gives the same ones: renew "
                + "them there",
            details: [("provider", .string(source.name))], isRetryable: rejected.sessionToken != nil)
    }

    /// Starts the renewal that the state has just been told of.
    private func begin(rejected: AWSCredentials?) {
        Engine.shared.spawn { [self] in
            stray(unless: isUnchanged())
            var result: Result<AWSCredentials, StorageError>
            do throws(StorageError) {
                if let fresh = try await source.credentials(refreshing: rejected, progress: Progress()) {
                    result = .success(fresh)
                } else {
                    result = .failure(StorageError(.unauthenticated, "\(source.name) gives no credentials"))
                }
            } catch { result = .failure(error) }
            stray(unless: isUnchanged())
            finish(result)
        }
    }

    private func stray(unless isUnchanged: Bool) {
        if !isUnchanged { state.withLock { $0.hasStrayed = true } }
    }

    private func finish(_ result: Result<AWSCredentials, StorageError>) {
        let (now, boot, random) = (context.now, context.bootMilliseconds, context.random)
        let (waiting, remaining, hasOld) = state.withLock { state in
            let remaining = state.refresh.remaining(boot: boot)
            state.refresh.finish(result, now: now, boot: boot, random: random)
            defer { state.waiting = [] }
            return (state.waiting, remaining, state.refresh.current != nil)
        }
        for waiter in waiting { waiter.continuation.resume() }
        guard case .failure(let error) = result, hasOld else { return }
        let left = remaining.map { $0 > 0 ? "they are good for another \($0 / 1000) s" : "they have expired" }
        context.warn(
            "could not renew the credentials of \(source.name): \(error.message)" + (left.map { "; \($0)" } ?? ""),
            [("provider", .string(source.name)), ("code", .string(error.code.description))])
    }

    /// Until the renewal on its way is over, or `progress` is cancelled.
    private func join(_ progress: Progress) async throws(StorageError) {
        await withCheckedContinuation { continuation in
            let isFirst = state.withLock { state -> Bool? in
                guard state.refresh.isRefreshing else { return nil }
                state.waiting.append(Waiter(progress: progress, continuation: continuation))
                return state.waiting.count == 1
            }
            guard let isFirst else { return continuation.resume() }
            if isFirst { watch() }
        }
        try progress.checkCancelled()
    }

    /// Lets those go who were cancelled while they wait.
    private func watch() {
        Engine.shared.spawn { [self] in
            while true {
                let (cancelled, isOver) = state.withLock { state in
                    let cancelled = state.waiting.extract { $0.progress.isCancelled }
                    return (cancelled, state.waiting.isEmpty)
                }
                for waiter in cancelled { waiter.continuation.resume() }
                if isOver { return }
                await Engine.shared.sleep(milliseconds: 50)
            }
        }
    }
}
