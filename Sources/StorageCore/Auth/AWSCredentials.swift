/// An access key of AWS, or of a store that speaks its protocol. Never described, never logged (P11).
struct AWSCredentials: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    var accessKeyID: String
    var secretAccessKey: String
    var sessionToken: String?
    /// Seconds since 1970; nil: they do not expire.
    var expiresAt: Double?

    var description: String { "AWSCredentials(…)" }
    var debugDescription: String { description }
    var customMirror: Mirror { Mirror(self, children: []) }
}

/// Where credentials come from. Several callers share one request that is on its way.
protocol AWSCredentialsProvider: Sendable {
    /// What it is, for error texts: `environment`, `profile "train"` …
    var name: String { get }

    /// Credentials that are good now; nil: this source is not set up here (the chain asks the next one). Fails with
    /// UNAUTHENTICATED, saying what was tried, when it is set up and does not yield any. `refreshing`: the store called
    /// these ones expired or invalid, whatever their time says.
    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials?
}
