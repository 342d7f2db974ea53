internal import Synchronization

/// Asks one source after the other, in AWS's order, until one yields; from then on only that one, so that a long run does not
/// change whom it is in the middle. A source that is set up and fails ends the search: what comes after it is not what was meant.
final class CredentialChain: AWSCredentialsProvider {
    /// A source, and why it may yield nothing.
    struct Link: Sendable {
        var provider: any AWSCredentialsProvider
        var absence: @Sendable () -> String
    }

    private let links: [Link]
    private let chosen = Mutex<Int?>(nil)

    init(_ links: [Link]) { self.links = links }

    var name: String {
        if let index = chosen.withLock({ $0 }) { return links[index].provider.name }
        return links.map(\.provider.name).joined(separator: ", ")
    }

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        if let index = chosen.withLock({ $0 }) {
            let provider = links[index].provider
            if let found = try await provider.credentials(refreshing: rejected, progress: progress) { return found }
            throw StorageError(
                .unauthenticated,
                "\(provider.name) gave credentials before and gives none now: \(links[index].absence())",
                details: [("provider", .string(provider.name))], isRetryable: true)
        }
        var reasons: [(key: String, value: JSONValue)] = []
        for (index, link) in links.enumerated() {
            if let found = try await link.provider.credentials(refreshing: rejected, progress: progress) {
                chosen.withLock { $0 = index }
                return found
            }
            reasons.append((link.provider.name, .string(link.absence())))
        }
        let lines = reasons.map { "\($0.key): \($0.value.stringValue ?? "")" }.joined(separator: "; ")
        throw StorageError(
            .unauthenticated,
            "no AWS credentials. Asked in this order: \(lines). Give them in one of these ways, or anonymous=true for a "
                + "public bucket",
            details: [("sources", .object(reasons.map { JSONMember($0.key, $0.value) }))])
    }

    /// The chain of AWS's own tools. `profileIsArgument`: somebody named the profile in an argument, so that the environment's
    /// keys are not what was meant.
    static func standard(
        _ context: AuthContext, settings: AWSSettings, profileIsArgument: Bool = false
    ) throws(StorageError) -> CredentialChain {
        let container = ContainerCredentials(context: context)
        let instance = InstanceMetadata(context: context, settings: settings)
        let profile = ProfileCredentials(
            context: context, settings: settings, container: container, instance: instance)
        let paths = settings.configuration.paths.map { quoted($0) }.joined(separator: " and ")
        let profileLink = Link(provider: profile) { "no such profile with credentials in \(paths)" }
        if profileIsArgument { return CredentialChain([profileLink]) }
        return CredentialChain([
            Link(provider: EnvironmentCredentials(context: context)) {
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"
            },
            Link(provider: EnvironmentWebIdentity(context: context, settings: settings)) {
                "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not set"
            },
            profileLink,
            Link(provider: container) {
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI are not set"
            },
            Link(provider: instance) { instance.absence ?? "no answer" },
        ])
    }
}

/// `AWS_ROLE_ARN` and `AWS_WEB_IDENTITY_TOKEN_FILE`, as EKS sets them for a service account.
struct EnvironmentWebIdentity: AWSCredentialsProvider {
    let name = "web identity of the environment"
    let context: AuthContext
    let settings: AWSSettings

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        guard let file = context.variable("AWS_WEB_IDENTITY_TOKEN_FILE") else { return nil }
        guard let arn = context.variable("AWS_ROLE_ARN") else {
            throw StorageError(
                .unauthenticated, "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not: set both or neither")
        }
        let role = STSClient.Role(arn: arn, sessionName: context.variable("AWS_ROLE_SESSION_NAME"))
        let provider = WebIdentityCredentials(
            name: name, context: context, client: STSClient(context: context, settings: settings), role: role,
            tokenFile: file)
        return try await provider.credentials(refreshing: rejected, progress: progress)
    }
}
