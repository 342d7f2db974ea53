/// How a profile leads to credentials: a base, and the roles that are assumed one after the other from it. Pure.
struct ProfilePlan: Sendable, Equatable {
    enum Base: Sendable, Equatable {
        case keys(AWSCredentials, profile: String)
        case webIdentity(STSClient.Role, tokenFile: String, profile: String)
        case sso(SSOCredentials.Setup, profile: String)
        case process(command: String, profile: String)
        case source(NamedSource)
    }
    /// The values of `credential_source`.
    enum NamedSource: String, Sendable, CaseIterable {
        case environment = "Environment"
        case instance = "Ec2InstanceMetadata"
        case container = "EcsContainer"
    }

    var base: Base
    /// In the order in which they are assumed.
    var roles: [STSClient.Role] = []

    /// nil: the profile says nothing about credentials. UNAUTHENTICATED when it does, but not consistently.
    init?(_ name: String, in configuration: AWSConfiguration) throws(StorageError) {
        var current = name
        var seen: [String] = []
        while true {
            guard let profile = configuration.profile(current) else {
                if seen.isEmpty { return nil }
                throw Self.failure(
                    seen.last ?? name, "its source_profile \(quoted(current)) is in none of the files")
            }
            if seen.contains(current) {
                let chain = (seen + [current]).map { quoted($0) }.joined(separator: " -> ")
                throw Self.failure(name, "source_profile leads in a circle: \(chain)")
            }
            let isSource = !seen.isEmpty
            seen.append(current)
            // A profile's own keys are what a role of another profile is assumed with.
            if isSource, let keys = try Self.keys(profile) {
                base = .keys(keys, profile: current)
                return
            }
            guard let role = try Self.role(profile) else {
                guard let found = try Self.base(profile, configuration) else {
                    if !isSource { return nil }
                    throw Self.failure(current, "it is a source_profile and has no credentials")
                }
                base = found
                return
            }
            if let file = profile["web_identity_token_file"] {
                base = .webIdentity(role, tokenFile: file, profile: current)
                return
            }
            roles.insert(role, at: 0)
            switch (profile["source_profile"], profile["credential_source"]) {
            case (nil, nil):
                throw Self.failure(
                    current, "role_arn needs source_profile, credential_source or web_identity_token_file")
            case (_?, _?):
                throw Self.failure(current, "source_profile and credential_source exclude each other")
            case (nil, let text?):
                guard let source = NamedSource(rawValue: text) else {
                    let allowed = NamedSource.allCases.map(\.rawValue).joined(separator: ", ")
                    throw Self.failure(current, "credential_source is \(quoted(text)): use one of \(allowed)")
                }
                base = .source(source)
                return
            case (current?, nil):
                // A profile that is its own source: its role is assumed with its keys.
                guard let keys = try Self.keys(profile) else {
                    throw Self.failure(current, "it is its own source_profile and has no keys")
                }
                base = .keys(keys, profile: current)
                return
            case (let source?, nil): current = source
            }
        }
    }

    private static func failure(_ profile: String, _ reason: String) -> StorageError {
        StorageError(
            .unauthenticated, "profile \(quoted(profile)): \(reason)", details: [("profile", .string(profile))])
    }

    /// What a profile without a role to assume has: AWS's command line looks in this order.
    private static func base(
        _ profile: AWSConfiguration.Profile, _ configuration: AWSConfiguration
    ) throws(StorageError) -> Base? {
        if profile["web_identity_token_file"] != nil {
            throw failure(profile.name, "web_identity_token_file needs role_arn")
        }
        if let setup = try sso(profile, configuration) { return .sso(setup, profile: profile.name) }
        let keys = try keys(profile)
        if let keys, profile.isInCredentialsFile("aws_access_key_id") { return .keys(keys, profile: profile.name) }
        if let command = profile["credential_process"] { return .process(command: command, profile: profile.name) }
        if let keys { return .keys(keys, profile: profile.name) }
        if profile["login_session"] != nil {
            throw failure(
                profile.name,
                "login_session is not read here; use credential_process = aws configure export-credentials --profile NAME"
            )
        }
        return nil
    }

    private static func keys(_ profile: AWSConfiguration.Profile) throws(StorageError) -> AWSCredentials? {
        let (id, secret) = (profile["aws_access_key_id"], profile["aws_secret_access_key"])
        if id == nil, secret == nil { return nil }
        guard let id, let secret else {
            let (has, misses) =
                id == nil
                ? ("aws_secret_access_key", "aws_access_key_id") : ("aws_access_key_id", "aws_secret_access_key")
            throw failure(profile.name, "it has \(has) and no \(misses)")
        }
        let token = profile["aws_session_token"] ?? profile["aws_security_token"]
        var keys = AWSCredentials(accessKeyID: id, secretAccessKey: secret, sessionToken: token)
        // Written by tools that renew the credentials file.
        keys.expiresAt = (profile["aws_expiration"] ?? profile["x_security_token_expires"]).flatMap {
            UTCTime.parse(iso8601: $0)
        }
        guard keys.isSendable else { throw failure(profile.name, "its keys hold characters that no key has") }
        return keys
    }

    private static func role(_ profile: AWSConfiguration.Profile) throws(StorageError) -> STSClient.Role? {
        guard let arn = profile["role_arn"] else { return nil }
        if let device = profile["mfa_serial"] {
            throw failure(
                profile.name,
                "mfa_serial \(quoted(device)) asks for a code that nobody types here; take a session with aws sts or "
                    + "credential_process instead")
        }
        var role = STSClient.Role(
            arn: arn, sessionName: profile["role_session_name"], externalID: profile["external_id"])
        if let text = profile["duration_seconds"] {
            guard let seconds = Int(text), (900...43_200).contains(seconds) else {
                throw failure(profile.name, "duration_seconds is \(quoted(text)): use 900 to 43200")
            }
            role.durationSeconds = seconds
        }
        return role
    }

    private static func sso(
        _ profile: AWSConfiguration.Profile, _ configuration: AWSConfiguration
    ) throws(StorageError) -> SSOCredentials.Setup? {
        guard profile["sso_account_id"] != nil || profile["sso_role_name"] != nil else { return nil }
        let name = profile["sso_session"]
        var session: ConfigFile.Properties = [:]
        if let name {
            guard let found = configuration.ssoSession(name) else {
                throw failure(profile.name, "there is no [sso-session \(name)]")
            }
            session = found
        }
        func value(_ key: String) throws(StorageError) -> String {
            let shared = session[key].flatMap { $0.isEmpty ? nil : $0 }
            if let own = profile[key], let shared, own != shared {
                throw failure(profile.name, "\(key) differs between the profile and its sso-session")
            }
            guard let value = profile[key] ?? shared else { throw failure(profile.name, "SSO needs \(key)") }
            return value
        }
        return SSOCredentials.Setup(
            session: name, startURL: try value("sso_start_url"), region: try value("sso_region"),
            accountID: try value("sso_account_id"), roleName: try value("sso_role_name"))
    }
}

extension ProfilePlan: CustomStringConvertible, CustomReflectable {
    var description: String { "ProfilePlan(…)" }
    var customMirror: Mirror { Mirror(self, children: []) }
}
