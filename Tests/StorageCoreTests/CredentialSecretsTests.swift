import Synchronization
import Testing

@testable import StorageCore

/// Nothing that is produced on the way to credentials holds a secret, even when a server sends back all that it got (P11).
@Suite struct CredentialSecretsTests {
    private static let secrets = [
        "SECRETKEY", "SECRETTOKEN", "SECRETWEB", "SECRETCONTAINER", "SECRETSSO", "SECRETREFRESH", "SECRETIMDS",
        "SECRETOUTPUT",
        "SECRETROLE",
    ]

    /// An answer whose code and message repeat the whole request, in every form that somebody reads.
    private static func echo(_ request: HTTPRequest, status: Int) -> HTTPResponse {
        var all = request.headers.map { "\($0.name)=\($0.value)" }.joined(separator: ",") + request.url.query
        if case .bytes(let bytes) = request.body { all += String(decoding: bytes, as: UTF8.self) }
        let body =
            request.url.host.hasPrefix("sts")
            ? "<ErrorResponse><Error><Code>\(all)</Code><Message>\(all)</Message></Error></ErrorResponse>"
            : JSONValue.make(["code": .string(all), "message": .string(all), "Code": .string(all)]).compact
        return AuthFixture.reply(body, status: status, ["x-amzn-requestid": all, "x-amzn-errortype": all])
    }

    private static let config = """
        [profile role]
        role_arn = arn:aws:iam::1:role/r
        source_profile = keys
        [profile keys]
        aws_access_key_id = AKIA
        aws_secret_access_key = SECRETKEY
        aws_session_token = SECRETTOKEN
        [profile process]
        credential_process = tool --password SECRETOUTPUT
        [profile sso]
        sso_session = corp
        sso_account_id = 1
        sso_role_name = r
        [sso-session corp]
        sso_start_url = https://s
        sso_region = us-east-1
        [profile broken]
        aws_access_key_id = AKIA
        aws_secret_access_key = SECRETKEY with blanks
        [profile half]
        aws_secret_access_key = SECRETKEY
        """

    private static let ways: [[String: String]] = [
        ["AWS_PROFILE": "role"], ["AWS_PROFILE": "process"], ["AWS_PROFILE": "sso"], ["AWS_PROFILE": "broken"],
        ["AWS_PROFILE": "half"], ["AWS_SECRET_ACCESS_KEY": "SECRETKEY"],
        ["AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "SECRETKEY with blanks"],
        ["AWS_ROLE_ARN": "arn:r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/web"],
        ["AWS_WEB_IDENTITY_TOKEN_FILE": "/web"],
        [
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost/x?SECRETCONTAINER",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "SECRETCONTAINER",
        ],
        [
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://user:SECRETCONTAINER@evil/x",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "SECRETCONTAINER",
        ],
        [:],
    ]

    @Test(arguments: ways, [200, 400, 401, 403, 500])
    func `no text on the way holds a secret (P11)`(variables: [String: String], status: Int) async throws {
        let sso = "/home/u/.aws/sso/cache/\(Hexadecimal.encode(Hashing.sha1(Array("corp".utf8)))).json"
        let fixture = AuthFixture(
            variables.merging(["AWS_REGION": "us-east-1"]) { $1 },
            files: [
                "/home/u/.aws/config": Self.config, "/web": "SECRETWEB",
                sso: """
                {"accessToken": "SECRETSSO", "refreshToken": "SECRETREFRESH", "expiresAt": "2030-01-01T00:00:00Z"}
                """,
            ]
        ) { request throws(StorageError) in
            if request.method == "PUT" { return AuthFixture.reply("SECRETIMDS") }
            return Self.echo(request, status: status)
        }
        fixture.world.withLock {
            $0.program = { arguments throws(StorageError) in Array("{\"Version\": 1, \"x\": \"SECRETOUTPUT\"}".utf8) }
        }
        let context = fixture.context
        let chain = try fixture.chain()
        let refreshing = RefreshingCredentials(chain, context: context)
        var texts: [String] = []
        for _ in 0..<2 {
            do throws(StorageError) {
                let found = try await refreshing.credentials(refreshing: nil, progress: Progress())
                texts.append("\(String(describing: found)) \(String(reflecting: found))")
            } catch {
                texts += [error.message, error.detailsDocument.compact, "\(error)", String(reflecting: error)]
            }
            fixture.advance(seconds: 100)
        }
        texts +=
            fixture.warnings + [
                chain.name, refreshing.name, "\(fixture.requests)", String(reflecting: fixture.requests),
            ]
        if let name = variables["AWS_PROFILE"], name == "role" || name == "keys" {
            let plan = try ProfilePlan(name, in: AWSConfiguration(fixture.files))
            var dumped = ""
            dump(plan, to: &dumped)
            texts += ["\(String(describing: plan))", String(reflecting: plan), dumped]
        }
        for text in texts {
            for secret in Self.secrets { #expect(!text.contains(secret), "\(secret) is in: \(text)") }
        }
    }
}
