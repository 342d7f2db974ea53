internal import Synchronization

/// How the server of a store answers, as far as the process knows: whether it ever has, and what people were told of that.
final class S3Contact: Sendable {
    private struct State {
        var hasAnswered = false
        var notice = RetryNotice()
        var nextID = 0
    }
    private let state = Mutex(State())
    private let warn: @Sendable (String, [(String, JSONValue)]) -> Void

    init(warn: @escaping @Sendable (String, [(String, JSONValue)]) -> Void = { Log.shared.write(.warning, $0, $1) }) {
        self.warn = warn
    }

    /// Any answer, of whatever status, has come from there.
    var hasAnswered: Bool { state.withLock { $0.hasAnswered } }
    func heard() { state.withLock { $0.hasAnswered = true } }

    /// Tells operations apart.
    func begin() -> Int {
        state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
    }

    /// An operation that is tried again.
    struct Failing {
        var shown: S3Shown
        var error: StorageError
        var tries: Int
        /// No byte of it has got any further for so long, in milliseconds.
        var idle: Int64
        /// What it goes by from now on.
        var policy: RetryPolicy
    }

    func failed(_ id: Int, _ failing: Failing, environment: Environment) {
        let now = environment.bootMilliseconds()
        let (count, hasAnswered) = state.withLock { state in
            (state.notice.failed(id, idle: failing.idle, now: now), state.hasAnswered)
        }
        guard let count else { return }
        let shown = failing.shown
        let end = environment.now() + Double(failing.policy.timeoutMilliseconds - failing.idle) / 1000
        let limit = failing.policy.timeoutMilliseconds
        var text = "\(shown.operation) \(quoted(shown.path)) at \(shown.endpoint) has got no further for"
        text += " \(Self.seconds(failing.idle)) (\(Self.tries(failing.tries)))"
        if count > 1 { text += ", nor have \(count - 1) others" }
        if !hasAnswered { text += "; nothing there has ever answered" }
        text += "; trying until \(UTCTime(secondsSince1970: end).extended)"
        text += hasAnswered ? " (retry_timeout_s=\(limit / 1000))" : " (\(Self.seconds(limit)) for the first answer)"
        if let attempts = failing.policy.attempts { text += " or for \(Self.tries(attempts))" }
        // It begins with what was said already.
        let (message, known) = (failing.error.message, "\(shown.operation) \(quoted(shown.path)): ")
        let said = message.hasPrefix(known) ? String(message.dropFirst(known.count)) : message
        warn(
            text + ". Last error: \(said)",
            [
                ("operation", .string(shown.operation)), ("path", .string(shown.path)),
                ("endpoint", .string(shown.endpoint)), ("attempts", JSONValue(failing.tries)),
                ("error", .string(failing.error.code.description)), ("details", failing.error.detailsDocument),
            ])
    }

    func ended(_ id: Int) { state.withLock { $0.notice.ended(id) } }

    /// An operation has had the answer that it needs.
    func answered(_ id: Int, _ shown: S3Shown, tries: Int, environment: Environment) {
        let now = environment.bootMilliseconds()
        guard let span = state.withLock({ $0.notice.answered(id, now: now) }) else { return }
        warn(
            "\(shown.endpoint) answers again after \(Self.seconds(span)): \(shown.operation) \(quoted(shown.path)) went"
                + " through (\(Self.tries(tries)))",
            [
                ("operation", .string(shown.operation)), ("path", .string(shown.path)),
                ("endpoint", .string(shown.endpoint)), ("attempts", JSONValue(tries)),
            ])
    }

    /// What to add to an error that says that nothing answered: who, for how long, and what to do about it.
    static func explanation(
        _ cause: ConnectFailure, url: HTTPURL, tries count: Int, elapsed: Int64
    ) -> String {
        guard !cause.isCertain else { return ". \(cause.advice)" }
        let port = url.port ?? (url.scheme == "https" ? 443 : 80)
        return
            "; \(url.host):\(port) has never answered, in \(tries(count)) over \(seconds(elapsed)). \(cause.advice). A"
            + " longer retry_timeout_s in storage_options or the URI waits for a store that is away"
    }

    private static func seconds(_ milliseconds: Int64) -> String { "\((milliseconds + 500) / 1000) s" }
    private static func tries(_ count: Int) -> String { count == 1 ? "1 try" : "\(count) tries" }

    // MARK: - Of the process

    /// That of a server in this process; a forked child begins anew.
    static func shared(_ endpoint: S3Endpoint) -> S3Contact {
        let url = endpoint.url(key: nil)
        return Engine.shared.only(S3Contact.self, of: "\(url.scheme)://\(url.authority)") { S3Contact() }
    }
}
