import Testing

@testable import StorageCore

/// How profiles lead to credentials: the cases that AWS's own SDKs are tested with, and odder ones.
@Suite struct ProfilePlanTests {
    private func plan(_ config: String, credentials: String = "", _ name: String = "A") throws -> ProfilePlan? {
        try ProfilePlan(name, in: AWSConfiguration(config: config, credentials: credentials))
    }

    private static func keys(_ id: String, _ secret: String, token: String? = nil, _ profile: String)
        -> ProfilePlan.Base
    {
        .keys(AWSCredentials(accessKeyID: id, secretAccessKey: secret, sessionToken: token), profile: profile)
    }

    private static let roleA = STSClient.Role(arn: "arn:aws:iam::123456789:role/RoleA")
    private static let roleB = STSClient.Role(arn: "arn:aws:iam::123456789:role/RoleB")
    private static let a = "[profile A]\nrole_arn = arn:aws:iam::123456789:role/RoleA\n"
    private static let b = "[profile B]\nrole_arn = arn:aws:iam::123456789:role/RoleB\n"
    private static func own(_ id: String, _ secret: String) -> String {
        "aws_access_key_id = \(id)\naws_secret_access_key = \(secret)\n"
    }

    @Test func `a role is assumed with the keys of its source`() throws {
        let found = try plan(Self.a + "source_profile = B\n[profile B]\n" + Self.own("b", "s"))
        #expect(found?.base == Self.keys("b", "s", "B") && found?.roles == [Self.roleA])
    }

    @Test func `own keys give way to the source, but a source's own keys come before its role`() throws {
        let first = try plan(Self.a + Self.own("x", "x") + "source_profile = B\n[profile B]\n" + Self.own("b", "s"))
        #expect(first?.base == Self.keys("b", "s", "B") && first?.roles == [Self.roleA])
        let second = try plan(
            Self.a + Self.own("x", "x") + "source_profile = B\n" + Self.b + Self.own("b", "s")
                + "source_profile = C\n[profile C]\n" + Self.own("x", "x"))
        #expect(second?.base == Self.keys("b", "s", "B") && second?.roles == [Self.roleA])
    }

    @Test func `roles are assumed from the far end of the chain on`() throws {
        let found = try plan(
            Self.a + "source_profile = B\n" + Self.b + "source_profile = C\n[profile C]\n" + Self.own("c", "s"))
        #expect(found?.base == Self.keys("c", "s", "C") && found?.roles == [Self.roleB, Self.roleA])
    }

    @Test func `a profile may be its own source`() throws {
        let found = try plan(Self.a + Self.own("a", "s") + "source_profile = A\n")
        #expect(found?.base == Self.keys("a", "s", "A") && found?.roles == [Self.roleA])
    }

    @Test func `reads the particulars of a role`() throws {
        let found = try plan(
            Self.a
                + "source_profile = B\nrole_session_name = n\nexternal_id = e\nduration_seconds = 3600\n[profile B]\n"
                + Self.own("b", "s"))
        #expect(
            found?.roles == [
                STSClient.Role(arn: Self.roleA.arn, sessionName: "n", externalID: "e", durationSeconds: 3600)
            ])
    }

    @Test(arguments: ProfilePlan.NamedSource.allCases) func `a role may name its source`(
        source: ProfilePlan.NamedSource
    ) throws {
        let found = try plan(Self.a + "credential_source = \(source.rawValue)\n")
        #expect(found?.base == .source(source) && found?.roles == [Self.roleA])
    }

    @Test func `web identity stands alone and as a source`() throws {
        let file = "web_identity_token_file = /t\nrole_session_name = n\n"
        let alone = try plan(Self.a + file)
        let role = STSClient.Role(arn: Self.roleA.arn, sessionName: "n")
        #expect(alone?.base == .webIdentity(role, tokenFile: "/t", profile: "A") && alone?.roles == [])
        let source = try plan(Self.a + "source_profile = B\n" + Self.b + file)
        let other = STSClient.Role(arn: Self.roleB.arn, sessionName: "n")
        #expect(source?.base == .webIdentity(other, tokenFile: "/t", profile: "B") && source?.roles == [Self.roleA])
    }

    @Test func `keys of the credentials file come before a program, and that before keys of the configuration file`()
        throws
    {
        let process = "credential_process = /bin/p x\n"
        let first = try plan(
            "[profile A]\n" + process, credentials: "[A]\n" + Self.own("k", "s") + "aws_session_token = t")
        #expect(first?.base == Self.keys("k", "s", token: "t", "A"))
        let second = try plan("[profile A]\n" + process + Self.own("k", "s"))
        #expect(second?.base == .process(command: "/bin/p x", profile: "A"))
    }

    @Test func `reads SSO with and without a session`() throws {
        let particulars = "sso_account_id = 012345678901\nsso_role_name = R\n"
        let legacy = try plan("[profile A]\n" + particulars + "sso_start_url = https://s\nsso_region = us-east-1\n")
        var setup = SSOCredentials.Setup(
            session: nil, startURL: "https://s", region: "us-east-1", accountID: "012345678901", roleName: "R")
        #expect(legacy?.base == .sso(setup, profile: "A"))
        let session = "[sso-session corp]\nsso_start_url = https://s\nsso_region = us-east-1\n"
        setup.session = "corp"
        #expect(
            try plan("[profile A]\nsso_session = corp\n" + particulars + session)?.base == .sso(setup, profile: "A"))
        // A session without account and role is for other tools.
        #expect(try plan("[profile A]\nsso_session = corp\n" + session) == nil)
    }

    @Test func `a profile that says nothing of credentials is no plan`() throws {
        #expect(try plan("[profile A]\nregion = x\n") == nil)
        #expect(try plan("") == nil)
    }

    @Test(arguments: [
        (a, ["\"A\"", "source_profile", "credential_source"]),
        (
            a + "source_profile = B\ncredential_source = Environment\n[profile B]\n" + own("b", "s"),
            ["\"A\"", "exclude"]
        ),
        (a + "credential_source = Moon\n", ["\"A\"", "\"Moon\"", "Ec2InstanceMetadata"]),
        (a + "source_profile = B\n", ["\"A\"", "\"B\"", "none of the files"]),
        (a + "source_profile = B\n[profile B]\naws_access_key_id = b\n", ["\"B\"", "aws_secret_access_key"]),
        (a + "source_profile = B\n[profile B]\naws_secret_access_key = SECRET\n", ["\"B\"", "aws_access_key_id"]),
        (a + "source_profile = B\n[profile B]\n", ["\"B\"", "no credentials"]),
        (a + "source_profile = A\n", ["\"A\"", "no keys"]),
        (a + "source_profile = B\n" + b + "source_profile = A\n", ["circle", "\"A\" -> \"B\" -> \"A\""]),
        (a + own("x", "x") + "source_profile = B\n" + b + "source_profile = A\n", ["circle"]),
        ("[profile A]\nweb_identity_token_file = /t\n", ["\"A\"", "role_arn"]),
        (a + "source_profile = B\nmfa_serial = arn:mfa\n[profile B]\n" + own("b", "s"), ["\"arn:mfa\"", "code"]),
        (a + "source_profile = B\nduration_seconds = 60\n[profile B]\n" + own("b", "s"), ["\"60\"", "900"]),
        (
            a + "source_profile = B\nduration_seconds = 99999999999999999999\n[profile B]\n" + own("b", "s"),
            ["duration_seconds", "43200"]
        ),
        ("[profile A]\nlogin_session = x\n", ["login_session", "credential_process"]),
        ("[profile A]\nsso_account_id = 1\nsso_role_name = R\n", ["SSO needs sso_start_url"]),
        ("[profile A]\nsso_session = x\nsso_account_id = 1\nsso_role_name = R\n", ["[sso-session x]"]),
        (
            "[profile A]\nsso_session = x\nsso_account_id = 1\nsso_role_name = R\nsso_region = a\n[sso-session x]\n"
                + "sso_region = b\nsso_start_url = u\n", ["sso_region differs"]
        ),
        ("[profile A]\n" + own("a", "SECRET with blanks"), ["characters"]),
    ])
    func `says what is wrong with a profile, without its secrets (P11)`(config: String, words: [String]) {
        let error = #expect(throws: StorageError.self) { try plan(config) }
        #expect(error?.code == .unauthenticated)
        for word in words {
            #expect(error?.message.contains(word) == true, "\(word) is not in \(error?.message ?? "")")
        }
        #expect(error?.message.contains("SECRET") == false)
    }

    @Test func `a long chain is no loop`() throws {
        var config = ""
        for index in 0..<500 { config += "[profile p\(index)]\nrole_arn = r\(index)\nsource_profile = p\(index + 1)\n" }
        config += "[profile p500]\n" + Self.own("k", "s")
        #expect(try plan(config, "p0")?.roles.map(\.arn) == (0..<500).reversed().map { "r\($0)" })
    }
}
