/// What the credentials of a store depend on, and where they come from.
struct CredentialsRequest: Sendable {
    var context: AuthContext
    var settings: AWSSettings
    /// Of the context's transport.
    var tls = TLSOptions()
    var proxies = ProxyOptions()
    /// That was named by an argument.
    var profile: String?
    /// Keys that were arguments.
    var given: AWSCredentials?
    /// To be assumed with the credentials found.
    var role: STSClient.Role?

    /// Given keys, else AWS's chain, and a role assumed with those. What has to be asked for is shared with all who ask alike.
    func provider(_ shared: SharedCredentials) throws(StorageError) -> any AWSCredentialsProvider {
        let key = CredentialsKey(self)
        guard let given else {
            let source = try shared.provider(key) { () throws(StorageError) in try chain(key) }
            guard let role else { return source }
            // With the very same source: its successor, which the next one gets, may be somebody else.
            return shared.provider(key?.with(role, source: ObjectIdentifier(source))) { assumed(role, source) }
        }
        let source = GivenCredentials(given: given)
        guard let role else { return source }
        return shared.provider(key?.with(role, keys: given)) { assumed(role, source) }
    }

    private func chain(_ key: CredentialsKey?) throws(StorageError) -> RefreshingCredentials {
        RefreshingCredentials(
            try CredentialChain.standard(context, settings: settings, profileIsArgument: profile != nil),
            context: context,
            isUnchanged: {
                guard let now = try? AWSConfiguration(context.files) else { return false }
                return CredentialsKey(self, now) == key
            })
    }

    private func assumed(_ role: STSClient.Role, _ source: any AWSCredentialsProvider) -> RefreshingCredentials {
        RefreshingCredentials(
            AssumedRoleCredentials(
                source: source, role: role, client: STSClient(context: context, settings: settings)),
            context: context)
    }
}

/// A role that is assumed with the credentials of another source.
struct AssumedRoleCredentials: AWSCredentialsProvider {
    let source: any AWSCredentialsProvider
    let role: STSClient.Role
    let client: STSClient

    var name: String { "role \(role.arn) with \(source.name)" }

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        guard let own = try await source.credentials(refreshing: nil, progress: progress) else { return nil }
        return try await client.assume(role, with: own, progress: progress)
    }
}
