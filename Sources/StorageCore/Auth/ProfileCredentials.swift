/// A profile of AWS's files, with the chain of roles that it may name. The files are read anew each time: tools renew them.
struct ProfileCredentials: AWSCredentialsProvider {
    var name: String { "profile \(quoted(settings.profileName))" }
    let context: AuthContext
    let settings: AWSSettings
    let container: ContainerCredentials
    let instance: InstanceMetadata

    init(
        context: AuthContext, settings: AWSSettings, container: ContainerCredentials, instance: InstanceMetadata
    ) {
        self.context = context
        self.settings = settings
        self.container = container
        self.instance = instance
    }

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        let configuration: AWSConfiguration
        do throws(StorageError) { configuration = try AWSConfiguration(context.files) } catch {
            throw StorageError(.unauthenticated, error.message, details: error.details, isRetryable: true)
        }
        guard let plan = try ProfilePlan(settings.profileName, in: configuration) else {
            guard settings.profileIsChosen else { return nil }
            let paths = configuration.paths.map { quoted($0) }.joined(separator: " or ")
            let problems = configuration.problems.joined(separator: "; ")
            throw StorageError(
                .unauthenticated,
                "\(name) has no credentials in \(paths)" + (problems.isEmpty ? "" : " (\(problems))"),
                details: [("profile", .string(settings.profileName))])
        }
        var credentials = try await base(plan.base, rejected, progress)
        let client = STSClient(context: context, settings: settings)
        for role in plan.roles {
            credentials = try await client.assume(role, with: credentials, progress: progress)
        }
        return credentials
    }

    private func base(
        _ base: ProfilePlan.Base, _ rejected: AWSCredentials?, _ progress: Progress
    ) async throws(StorageError) -> AWSCredentials {
        let provider: any AWSCredentialsProvider
        switch base {
        case .keys(let keys, _): return keys
        case .webIdentity(let role, let file, let profile):
            provider = WebIdentityCredentials(
                name: "web identity of profile \(quoted(profile))", context: context,
                client: STSClient(context: context, settings: settings), role: role, tokenFile: file)
        case .sso(let setup, let profile):
            provider = SSOCredentials(context: context, settings: settings, profile: profile, setup: setup)
        case .process(let command, let profile):
            provider = ProcessCredentials(context: context, profile: profile, command: command)
        case .source(.environment): provider = EnvironmentCredentials(context: context)
        case .source(.container): provider = container
        case .source(.instance): provider = instance
        }
        if let found = try await provider.credentials(refreshing: rejected, progress: progress) { return found }
        let absence = (provider as? InstanceMetadata)?.absence.map { ": \($0)" } ?? ""
        throw StorageError(
            .unauthenticated, "\(name): credential_source \(provider.name) gives nothing\(absence)",
            details: [("profile", .string(settings.profileName))])
    }
}
