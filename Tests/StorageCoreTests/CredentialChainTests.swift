import Synchronization
import Testing

@testable import StorageCore

/// Which source gives the credentials, and what each says when it does not.
@Suite struct CredentialChainTests {
    /// Every source is set up at once.
    private func everything() -> AuthFixture {
        AuthFixture(
            [
                "AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "envsecret", "AWS_SESSION_TOKEN": "envtoken",
                "AWS_ROLE_ARN": "arn:aws:iam::1:role/web", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x", "AWS_REGION": "us-east-1",
            ],
            files: [
                "/token": "webtoken\n",
                "/home/u/.aws/credentials":
                    "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = filesecret\n",
            ]
        ) { request throws(StorageError) in
            switch request.url.host {
            case "sts.us-east-1.amazonaws.com": AuthFixture.sts("AssumeRoleWithWebIdentity", id: "ASIAWEB")
            case "169.254.170.2": AuthFixture.reply(AuthFixture.container)
            case "169.254.169.254": try AuthFixture.instance(request)
            default: throw AuthFixture.nobody
            }
        }
    }

    @Test func `asks in AWS's order`() async throws {
        let fixture = everything()
        #expect(
            try await fixture.find()
                == AWSCredentials(accessKeyID: "AKIAENV", secretAccessKey: "envsecret", sessionToken: "envtoken"))
        fixture.world.withLock { $0.variables["AWS_ACCESS_KEY_ID"] = nil }
        fixture.world.withLock { $0.variables["AWS_SECRET_ACCESS_KEY"] = nil }
        #expect(try await fixture.find()?.accessKeyID == "ASIAWEB")
        fixture.world.withLock { $0.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = nil }
        #expect(try await fixture.find()?.accessKeyID == "AKIAFILE")
        fixture.world.withLock { $0.files["/home/u/.aws/credentials"] = nil }
        #expect(try await fixture.find()?.accessKeyID == "ASIAECS")
        fixture.world.withLock { $0.variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = nil }
        #expect(
            try await fixture.find()
                == AWSCredentials(
                    accessKeyID: "ASIAIMDS", secretAccessKey: "imdssecret", sessionToken: "imdstoken",
                    expiresAt: UTCTime.parse(iso8601: "2021-09-22T04:16:53Z")))
    }

    @Test func `a profile that was named in an argument is the only source`() async throws {
        let fixture = everything()
        #expect(try await fixture.find(profile: "default")?.accessKeyID == "AKIAFILE")
        fixture.world.withLock { $0.files["/home/u/.aws/credentials"] = "[default]\n" }
        let error = await fixture.failure(profile: "default")
        #expect(error?.code == .unauthenticated)
        #expect(error?.message.contains("profile \"default\" has no credentials") == true)
        #expect(fixture.requests.isEmpty)
    }

    @Test func `a source that is set up and fails ends the search`() async throws {
        let fixture = everything()
        fixture.world.withLock { $0.variables["AWS_SECRET_ACCESS_KEY"] = nil }
        let error = await fixture.failure()
        #expect(error?.code == .unauthenticated)
        #expect(error?.message == "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both or neither")
        #expect(fixture.requests.isEmpty)
    }

    @Test func `nothing anywhere: the error says of each source what would set it up`() async throws {
        let fixture = AuthFixture(["AWS_EC2_METADATA_DISABLED": "true"])
        let error = try #require(await fixture.failure())
        #expect(error.code == .unauthenticated && !error.isRetryable)
        for words in [
            "environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
            "web identity of the environment: AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not set",
            "profile \"default\": no such profile with credentials in \"/home/u/.aws/config\" and \"/home/u/.aws/credentials\"",
            "container endpoint: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI are not set",
            "instance metadata: switched off by AWS_EC2_METADATA_DISABLED",
        ] { #expect(error.message.contains(words), "\(words) is not in \(error.message)") }
        #expect(error.detailsDocument["sources"]?.objectValue?.count == 5)
    }

    @Test func `where nobody answers as a metadata service the search ends soon`() async throws {
        let fixture = AuthFixture()
        let error = try #require(await fixture.failure())
        #expect(error.message.contains("nobody answers at 169.254.169.254: this is no EC2 instance"))
        #expect(fixture.asked == Array(repeating: "PUT http://169.254.169.254/latest/api/token", count: 2))
    }

    @Test func `once a source has given, no other is asked`() async throws {
        let fixture = everything()
        fixture.world.withLock { $0.variables = ["AWS_REGION": "us-east-1"] }
        let chain = try fixture.chain()
        #expect(try await chain.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "AKIAFILE")
        #expect(chain.name == "profile \"default\"")
        // Environment variables that appear later do not change whom the run is.
        fixture.world.withLock { $0.variables = ["AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"] }
        fixture.world.withLock {
            $0.files["/home/u/.aws/credentials"] = "[default]\naws_access_key_id = NEW\naws_secret_access_key = s"
        }
        #expect(try await chain.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "NEW")
        fixture.world.withLock { $0.files["/home/u/.aws/credentials"] = nil }
        let error = await #expect(throws: StorageError.self) {
            try await chain.credentials(refreshing: nil, progress: Progress())
        }
        #expect(error?.message.contains("gave credentials before and gives none now") == true)
        #expect(error?.isRetryable == true)
    }

    @Test func `cancelling ends the search`() async throws {
        let progress = Progress()
        let fixture = AuthFixture { _ throws(StorageError) in
            progress.cancel()
            throw AuthFixture.nobody
        }
        let chain = try fixture.chain()
        let error = await #expect(throws: StorageError.self) {
            try await chain.credentials(refreshing: nil, progress: progress)
        }
        #expect(error?.code == .cancelled)
    }

    @Test(arguments: ["two parts", "line\nbreak", "é"]) func `keys that fit into no header are refused, not sent`(
        secret: String
    ) async {
        let fixture = AuthFixture(["AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": secret])
        let error = await fixture.failure()
        #expect(error?.code == .unauthenticated)
        #expect(error?.message.contains(secret) == false)
    }

    // MARK: - Profiles that lead further

    private static let chainOfRoles = """
        [profile train]
        role_arn = arn:aws:iam::1:role/train
        source_profile = gate
        role_session_name = loop
        external_id = partner
        duration_seconds = 43200
        region = eu-central-1
        [profile gate]
        role_arn = arn:aws:iam::2:role/gate
        credential_source = Ec2InstanceMetadata
        """

    @Test func `assumes one role with the credentials of the other`() async throws {
        let fixture = AuthFixture(["AWS_PROFILE": "train"], files: ["/home/u/.aws/config": Self.chainOfRoles]) {
            request throws(StorageError) in
            if request.url.host == "169.254.169.254" { return try AuthFixture.instance(request) }
            let isGate = request.form["RoleArn"]?.hasSuffix("gate") == true
            return AuthFixture.sts(
                "AssumeRole", id: isGate ? "ASIAGATE" : "ASIATRAIN", token: isGate ? "gatetoken" : "traintoken")
        }
        let found = try await fixture.find()
        #expect(found?.accessKeyID == "ASIATRAIN" && found?.sessionToken == "traintoken")
        #expect(found?.expiresAt == UTCTime.parse(iso8601: "2021-09-21T18:41:26Z"))
        let calls = fixture.requests.filter { $0.url.host == "sts.eu-central-1.amazonaws.com" }
        #expect(calls.map { $0.url.shown } == Array(repeating: "https://sts.eu-central-1.amazonaws.com/", count: 2))
        #expect(calls.map { $0.header("x-amz-security-token") } == ["imdstoken", "gatetoken"])
        #expect(calls.last?.header("authorization")?.contains("Credential=ASIAGATE/20210921/eu-central-1/sts/") == true)
        #expect(
            calls.last?.form == [
                "Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": "arn:aws:iam::1:role/train",
                "RoleSessionName": "loop", "ExternalId": "partner", "DurationSeconds": "43200",
            ])
        #expect(calls.first?.form["RoleSessionName"] == "raystorage-5555555555555555")
    }

    @Test func `what STS refuses is said with its words, its request id and what to do`() async throws {
        let fixture = AuthFixture(
            ["AWS_PROFILE": "a", "AWS_REGION": "us-east-1"],
            files: [
                "/home/u/.aws/config":
                    "[profile a]\nrole_arn = arn:r\nsource_profile = b\n[profile b]\naws_access_key_id = K\n"
                    + "aws_secret_access_key = SECRETKEY\naws_session_token = SECRETTOKEN"
            ]
        ) { _ throws(StorageError) in
            AuthFixture.reply(
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>"
                    + "<RequestId>r</RequestId></ErrorResponse>", status: 403, ["x-amzn-requestid": "4711"])
        }
        let error = try #require(await fixture.failure())
        #expect(error.code == .unauthenticated && !error.isRetryable)
        #expect(
            error.message.contains(
                "STS AssumeRole of arn:r at https://sts.us-east-1.amazonaws.com/ answered 403 AccessDenied: not you"))
        #expect(error.message.contains("trust policy"))
        #expect(error.detailsDocument["request_id"]?.stringValue == "4711")
        #expect(fixture.requests.count == 1)
    }

    @Test(arguments: [
        ([:], "", "https://sts.amazonaws.com/", "us-east-1"),
        (["AWS_REGION": "cn-north-1"], "", "https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
        (
            ["AWS_REGION": "us-east-1", "AWS_USE_FIPS_ENDPOINT": "true"], "",
            "https://sts-fips.us-east-1.amazonaws.com/", "us-east-1"
        ),
        (
            ["AWS_REGION": "us-east-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"], "", "https://sts.us-east-1.api.aws/",
            "us-east-1"
        ),
        (
            ["AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9/sts", "AWS_ENDPOINT_URL": "http://no"], "",
            "http://127.0.0.1:9/sts", "us-east-1"
        ),
        (["AWS_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "x-1"], "", "http://minio:9000/", "x-1"),
        ([:], "services = l\n[services l]\nsts =\n endpoint_url = http://l", "http://l/", "us-east-1"),
    ])
    func `STS is asked in the region, or where it was said to be`(
        variables: [String: String], config: String, url: String, region: String
    ) throws {
        let fixture = AuthFixture(variables, files: ["/home/u/.aws/config": "[default]\n" + config])
        let found = try STSClient(context: fixture.context, settings: fixture.settings()).endpoint()
        #expect(found.url.shown == url && found.region == region)
    }

    @Test func `the web identity token is read anew each time`() async throws {
        let fixture = AuthFixture(
            ["AWS_ROLE_ARN": "arn:web", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_SESSION_NAME": "s"],
            files: ["/token": "first"]
        ) { _ throws(StorageError) in AuthFixture.sts("AssumeRoleWithWebIdentity") }
        let chain = try fixture.chain()
        _ = try await chain.credentials(refreshing: nil, progress: Progress())
        fixture.world.withLock { $0.files["/token"] = "second\n" }
        _ = try await chain.credentials(refreshing: nil, progress: Progress())
        #expect(fixture.requests.map { $0.form["WebIdentityToken"] } == ["first", "second"])
        #expect(fixture.requests[0].header("authorization") == nil)
        #expect(
            fixture.requests[0].form == [
                "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": "arn:web",
                "RoleSessionName": "s",
                "WebIdentityToken": "first",
            ])
        fixture.world.withLock { $0.files["/token"] = nil }
        let error = await #expect(throws: StorageError.self) {
            try await chain.credentials(refreshing: nil, progress: Progress())
        }
        #expect(error?.message == "web identity of the environment: there is no token file \"/token\"")
    }

    @Test(arguments: [500, 503, 429]) func `a service that is busy is asked a few times`(status: Int) async throws {
        let count = Mutex(0)
        let fixture = AuthFixture(
            ["AWS_ROLE_ARN": "arn:web", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"], files: ["/token": "t"]
        ) { _ throws(StorageError) in
            let number = count.withLock {
                $0 += 1
                return $0
            }
            return number < 3
                ? AuthFixture.reply("", status: status) : AuthFixture.sts("AssumeRoleWithWebIdentity", id: "ASIAOK")
        }
        #expect(try await fixture.find()?.accessKeyID == "ASIAOK")
        #expect(fixture.requests.map(\.usesFreshConnection) == [false, true, true])
    }

    @Test(arguments: ["", "<x/>", "{}", "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult/>"])
    func `an answer without credentials is an error, not a key`(body: String) async throws {
        let fixture = AuthFixture(
            ["AWS_ROLE_ARN": "arn:web", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"], files: ["/token": "t"]
        ) { _ throws(StorageError) in AuthFixture.reply(body) }
        let error = await fixture.failure()
        #expect(error?.code == .unauthenticated && error?.isRetryable == true)
    }

    // MARK: - SSO

    private static let sso = """
        [profile dev]
        sso_session = corp
        sso_account_id = 012345678901
        sso_role_name = Sample Role
        [sso-session corp]
        sso_start_url = https://corp.example/start
        sso_region = us-east-1
        [profile old]
        sso_start_url = https://corp.example/start
        sso_region = us-east-1
        sso_account_id = 012345678901
        sso_role_name = R
        """
    /// Named after the SHA-1 of `corp` and of the start URL.
    private static let caches = [
        "/home/u/.aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json",
        "/home/u/.aws/sso/cache/f7c9b39d0b4c7a7d82c79307585f77e1c5e74378.json",
    ]

    private func ssoFixture(expires: String = "2021-09-21T18:00:00Z", status: Int = 200) -> AuthFixture {
        let token = "{\"accessToken\": \"ssotoken\", \"expiresAt\": \"\(expires)\", \"refreshToken\": \"ssorefresh\"}"
        let files = Dictionary(uniqueKeysWithValues: Self.caches.map { ($0, token) })
        return AuthFixture(files: files.merging(["/home/u/.aws/config": Self.sso]) { $1 }) { _ throws(StorageError) in
            status == 200
                ? AuthFixture.reply(
                    """
                    {"roleCredentials": {"accessKeyId": "ASIASSO", "secretAccessKey": "ssosecret", "sessionToken": "ssosession",
                     "expiration": 1632250000000}}
                    """)
                : AuthFixture.reply(
                    "{\"message\": \"Session token not found or invalid ssotoken\"}", status: status,
                    ["x-amzn-errortype": "UnauthorizedException:http://x"])
        }
    }

    @Test(arguments: ["dev", "old"]) func `exchanges the token of a login for a role's credentials`(profile: String)
        async throws
    {
        let fixture = ssoFixture()
        let found = try await fixture.find(profile: profile)
        #expect(
            found
                == AWSCredentials(
                    accessKeyID: "ASIASSO", secretAccessKey: "ssosecret", sessionToken: "ssosession",
                    expiresAt: 1_632_250_000))
        let role = profile == "dev" ? "Sample%20Role" : "R"
        #expect(
            fixture.asked == [
                "GET https://portal.sso.us-east-1.amazonaws.com/federation/credentials?role_name=\(role)&account_id=012345678901"
            ])
        #expect(fixture.requests[0].header("x-amz-sso_bearer_token") == "ssotoken")
    }

    @Test func `a login that expired, or never was, says how to log in`() async throws {
        let expired = ssoFixture(expires: "2021-09-21T17:41:25Z")
        let first = await expired.failure(profile: "dev")
        #expect(
            first?.message.contains("the login expired at 2021-09-21T17:41:25Z; run: aws sso login --profile dev")
                == true)
        #expect(expired.requests.isEmpty)
        expired.world.withLock { $0.files = ["/home/u/.aws/config": Self.sso] }
        let second = await expired.failure(profile: "dev")
        #expect(second?.message.contains("nobody is logged in") == true)
        #expect(second?.message.contains("aws sso login --profile dev") == true)
        let refused = await ssoFixture(status: 401).failure(profile: "dev")
        #expect(refused?.message.contains("answered 401 UnauthorizedException") == true)
        #expect(refused?.message.contains("aws sso login --profile dev") == true)
        #expect(refused?.message.contains("ssotoken") == false)
    }

    // MARK: - Programs

    @Test func `a program's document gives the credentials`() async throws {
        let fixture = AuthFixture(
            ["AWS_PROFILE": "p"],
            files: ["/home/u/.aws/config": "[profile p]\ncredential_process = \"/opt/my tool\" --for 'a b' \\# x"])
        fixture.world.withLock {
            $0.program = { _ throws(StorageError) in
                Array(
                    """
                    {"Version": 1, "AccessKeyId": "AKIAPROC", "SecretAccessKey": "procsecret", "SessionToken": "proctoken",
                     "Expiration": "2021-09-21T19:00:00+00:00"}
                    """.utf8)
            }
        }
        let found = try await fixture.find()
        #expect(found?.accessKeyID == "AKIAPROC" && found?.sessionToken == "proctoken")
        #expect(found?.expiresAt == UTCTime.parse(iso8601: "2021-09-21T19:00:00Z"))
        #expect(fixture.world.withLock { $0.programs } == [["/opt/my tool", "--for", "a b", "#", "x"]])
    }

    @Test(arguments: [
        ("not json SECRET", "JSON"), ("[\"SECRET\"]", "JSON"), ("{\"AccessKeyId\": \"SECRET\"}", "Version"),
        ("{\"Version\": 2, \"AccessKeyId\": \"SECRET\", \"SecretAccessKey\": \"SECRET\"}", "Version"),
        ("{\"Version\": 1, \"AccessKeyId\": \"SECRET\"}", "SecretAccessKey"),
        (
            "{\"Version\": 1, \"AccessKeyId\": \"a\", \"SecretAccessKey\": \"SECRET\", \"Expiration\": \"SECRET\"}",
            "Expiration"
        ),
        ("{\"Version\": 1, \"AccessKeyId\": \"a\", \"SecretAccessKey\": \"SECRET\\n\"}", "header"),
    ])
    func `a program that prints something else is an error that does not repeat it (P11)`(output: String, words: String)
        async
    {
        let fixture = AuthFixture(
            ["AWS_PROFILE": "p"], files: ["/home/u/.aws/config": "[profile p]\ncredential_process = tool"])
        fixture.world.withLock { $0.program = { _ throws(StorageError) in Array(output.utf8) } }
        let error = await fixture.failure()
        #expect(error?.code == .unauthenticated)
        #expect(error?.message.contains(words) == true && error?.message.contains("SECRET") == false)
    }
}
