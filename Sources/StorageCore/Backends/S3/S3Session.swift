internal import Synchronization

/// Credentials of S3 Express: a token for one bucket, good for five minutes, asked for with the real ones.
final class S3Session: Sendable {
    private struct State {
        var credentials: AWSCredentials?
        var refreshAt = 0.0
    }
    private let state = Mutex(State())
    /// Held while one is asked for.
    let turn = Turn()

    /// The session's credentials; `create` asks the store for new ones. One request at a time;
    /// cancelling `progress` ends the wait for another caller's.
    func credentials(
        rejected: AWSCredentials?, now: Double, progress: Progress,
        create: () async throws(StorageError) -> AWSCredentials
    ) async throws(StorageError) -> AWSCredentials {
        if let good = good(rejected, now) { return good }
        return try await turn.take(progress) { () async throws(StorageError) -> AWSCredentials in
            if let good = good(rejected, now) { return good }
            let fresh = try await create()
            // At 80 % of its life, by its own word or S3's usual five minutes.
            let told = fresh.expiresAt.map { $0 - now } ?? 0
            // None, or expired when it comes: our clock is wrong.
            let life = told > 0 ? told : 300
            state.withLock { $0 = State(credentials: fresh, refreshAt: now + 0.8 * life) }
            return fresh
        }
    }

    private func good(_ rejected: AWSCredentials?, _ now: Double) -> AWSCredentials? {
        state.withLock { state in
            guard let credentials = state.credentials, credentials != rejected, now < state.refreshAt else {
                return nil
            }
            return credentials
        }
    }

    /// Reads `CreateSessionResult`; nil when it is not one.
    static func read(_ document: S3Document) -> AWSCredentials? {
        guard
            let element = document.named("CreateSessionResult")?.children.first(where: { $0.name == "Credentials" }),
            let id = element.child("AccessKeyId"), let secret = element.child("SecretAccessKey"),
            let token = element.child("SessionToken")
        else { return nil }
        return AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: token,
            expiresAt: element.child("Expiration").flatMap(InstantText.seconds))
    }
}
