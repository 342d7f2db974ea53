import Synchronization
import Testing

@testable import StorageCore

/// The endpoints beside a container and beside an instance.
@Suite struct MetadataServiceTests {
    private static let relative = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/52b19262?x=1"]

    @Test func `asks the container's endpoint, past every proxy`() async throws {
        let fixture = AuthFixture(Self.relative) { _ throws(StorageError) in AuthFixture.reply(AuthFixture.container) }
        let found = try await fixture.find()
        #expect(
            found
                == AWSCredentials(
                    accessKeyID: "ASIAECS", secretAccessKey: "ecssecret", sessionToken: "ecstoken",
                    expiresAt: UTCTime.parse(iso8601: "2021-09-21T23:31:30Z")))
        #expect(fixture.asked == ["GET http://169.254.170.2/v2/credentials/52b19262?x=1"])
        #expect(fixture.requests[0].header("accept") == "application/json" && fixture.requests[0].bypassesProxy)
        #expect(fixture.requests[0].header("authorization") == nil)
    }

    @Test func `a full address comes second, with its token read anew each time`() async throws {
        let fixture = AuthFixture(
            [
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": "unused", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/pod/token",
            ], files: ["/pod/token": "first\n"]
        ) { _ throws(StorageError) in AuthFixture.reply(AuthFixture.container) }
        let chain = try fixture.chain()
        _ = try await chain.credentials(refreshing: nil, progress: Progress())
        fixture.world.withLock { $0.files["/pod/token"] = "second" }
        _ = try await chain.credentials(refreshing: nil, progress: Progress())
        #expect(fixture.requests.map { $0.header("authorization") } == ["first", "second"])
        fixture.world.withLock { $0.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = nil }
        _ = try await chain.credentials(refreshing: nil, progress: Progress())
        #expect(fixture.requests.last?.header("authorization") == "unused")
        fixture.world.withLock { $0.variables.merge(Self.relative) { $1 } }
        _ = try await chain.credentials(refreshing: nil, progress: Progress())
        #expect(fixture.asked.last == "GET http://169.254.170.2/v2/credentials/52b19262?x=1")
    }

    @Test(arguments: [
        "http://localhost/x", "http://127.0.0.1:51678/x", "http://127.255.1.2/x", "http://[::1]:9/x",
        "http://169.254.170.2/x",
        "http://169.254.170.23/x", "http://[fd00:ec2::23]/x", "https://anywhere.example/x",
    ])
    func `hosts that nobody can stand in for are asked`(url: String) async throws {
        let fixture = AuthFixture(["AWS_CONTAINER_CREDENTIALS_FULL_URI": url]) { _ throws(StorageError) in
            AuthFixture.reply(AuthFixture.container)
        }
        #expect(try await fixture.find()?.accessKeyID == "ASIAECS")
    }

    @Test(arguments: [
        "http://anywhere.example/x", "http://127.0.0.1.evil.example/x", "http://10.0.0.1/x", "http://169.254.169.254/x",
        "http://[::2]/x", "http://127.0.0.256/x", "http://127.1/x", "http://user@localhost/x", "ftp://localhost/x", "x",
        "http://",
    ])
    func `other hosts get neither keys nor tokens over plain http (P11)`(url: String) async throws {
        let fixture = AuthFixture([
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "SECRET",
        ])
        let error = await fixture.failure()
        #expect(error?.code == .unauthenticated)
        #expect(fixture.requests.isEmpty)
    }

    @Test(arguments: ["a\nb", "a\r\nX-Evil: 1", "é", ""]) func `a token that fits into no header is not sent`(
        token: String
    ) async {
        let fixture = AuthFixture(
            [
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost/x",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/t",
            ], files: ["/t": token])
        #expect(await fixture.failure()?.code == .unauthenticated)
        #expect(fixture.requests.isEmpty)
    }

    @Test func `what the container's endpoint refuses is said without the token (P11)`() async throws {
        let fixture = AuthFixture([
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost/x?q=SECRETQUERY",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "SECRETTOKEN",
        ]) { request throws(StorageError) in
            AuthFixture.reply("{\"code\": \"InvalidToken\", \"message\": \"no: SECRETTOKEN\"}", status: 403)
        }
        let error = try #require(await fixture.failure())
        #expect(error.message.contains("at http://localhost/x answered 403 InvalidToken"))
        #expect(!error.message.contains("SECRET"))
    }

    @Test(arguments: [
        ("{}", "AccessKeyId"), ("[]", "JSON object"), ("{\"AccessKeyId\": \"a\"}", "SecretAccessKey"),
        ("{\"AccessKeyId\": \"a\", \"SecretAccessKey\": \"s\", \"Expiration\": \"soon\"}", "Expiration"),
        ("", "JSON object"),
        ("{\"AccessKeyId\": \"\", \"SecretAccessKey\": \"s\"}", "AccessKeyId"),
    ])
    func `an answer that is not whole is an error`(body: String, words: String) async throws {
        let fixture = AuthFixture(Self.relative) { _ throws(StorageError) in AuthFixture.reply(body) }
        let error = await fixture.failure()
        #expect(error?.message.contains(words) == true && error?.isRetryable == true)
    }

    // MARK: - Instances

    private func instance(
        _ variables: [String: String] = [:],
        _ answer: @escaping AuthFixture.Answer = { request throws(StorageError) in try AuthFixture.instance(request) }
    ) throws -> (fixture: AuthFixture, service: InstanceMetadata) {
        let fixture = AuthFixture(variables, answer: answer)
        return (fixture, InstanceMetadata(context: fixture.context, settings: try fixture.settings()))
    }

    @Test func `takes a token, keeps it, and renews it before its end`() async throws {
        let (fixture, service) = try instance()
        #expect(try await service.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "ASIAIMDS")
        #expect(try await service.region(progress: Progress()) == "eu-north-1")
        let token = "PUT http://169.254.169.254/latest/api/token"
        let directory = "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/"
        let region = "GET http://169.254.169.254/latest/meta-data/placement/region"
        #expect(fixture.asked == [token, directory, directory + "the%20role", region])
        #expect(fixture.requests[0].header("x-aws-ec2-metadata-token-ttl-seconds") == "21600")
        #expect(
            fixture.requests.dropFirst().allSatisfy {
                $0.header("x-aws-ec2-metadata-token") == AuthFixture.instanceToken
            })
        #expect(fixture.requests.allSatisfy { $0.bypassesProxy })
        fixture.advance(seconds: 5 * 3600)
        _ = try await service.region(progress: Progress())
        fixture.advance(seconds: 3600)
        _ = try await service.region(progress: Progress())
        #expect(Array(fixture.asked.dropFirst(4)) == [region, token, region])
    }

    @Test func `a token that is refused is renewed once`() async throws {
        let refusals = Mutex(1)
        let (fixture, service) = try instance { request throws(StorageError) in
            let isRefused =
                request.method == "GET"
                && refusals.withLock {
                    $0 -= 1
                    return $0 >= 0
                }
            return isRefused ? AuthFixture.reply("", status: 401) : try AuthFixture.instance(request)
        }
        #expect(try await service.region(progress: Progress()) == "eu-north-1")
        #expect(fixture.requests.map(\.method) == ["PUT", "GET", "PUT", "GET"])
        refusals.withLock { $0 = 2 }
        let error = await #expect(throws: StorageError.self) { try await service.region(progress: Progress()) }
        #expect(error?.detailsDocument["http_status"]?.intValue == 401)
    }

    @Test func `a service that stumbles is asked again`() async throws {
        let count = Mutex(0)
        let (_, service) = try instance { request throws(StorageError) in
            let number = count.withLock {
                $0 += 1
                return $0
            }
            return number % 2 == 1 ? AuthFixture.reply("", status: 503) : try AuthFixture.instance(request)
        }
        #expect(try await service.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "ASIAIMDS")
    }

    @Test func `version 1 is not asked, whatever happens to the token`() async throws {
        for status in [400, 403, 404, 405] {
            let (fixture, service) = try instance { _ throws(StorageError) in AuthFixture.reply("x", status: status) }
            #expect(try await service.credentials(refreshing: nil, progress: Progress()) == nil)
            #expect(service.absence == "169.254.169.254 answered \(status) instead of giving a token")
            #expect(fixture.requests.map(\.method) == ["PUT"])
        }
        let (fixture, service) = try instance { _ throws(StorageError) in
            AuthFixture.reply("<html>a captive portal</html>")
        }
        #expect(try await service.credentials(refreshing: nil, progress: Progress()) == nil)
        #expect(service.absence?.contains("no token") == true)
        #expect(fixture.requests.count == 1)
    }

    @Test func `an instance without a role says so`() async throws {
        let (_, service) = try instance { request throws(StorageError) in
            request.method == "PUT" ? try AuthFixture.instance(request) : AuthFixture.reply("", status: 404)
        }
        #expect(try await service.credentials(refreshing: nil, progress: Progress()) == nil)
        #expect(service.absence == "the instance has no role: attach an instance profile")
    }

    @Test func `a role that cannot be assumed is an error`() async throws {
        let (_, service) = try instance { request throws(StorageError) in
            request.url.path.hasSuffix("the%20role")
                ? AuthFixture.reply(
                    "{\"Code\": \"AssumeRoleUnauthorizedAccess\", \"Message\": \"EC2 cannot assume the role\"}")
                : try AuthFixture.instance(request)
        }
        let error = await #expect(throws: StorageError.self) {
            try await service.credentials(refreshing: nil, progress: Progress())
        }
        #expect(error?.message.contains("AssumeRoleUnauthorizedAccess") == true)
    }

    @Test(arguments: [
        (
            ["AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338/base/"],
            "http://127.0.0.1:1338/base/latest/api/token"
        ),
        (["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv6"], "http://[fd00:ec2::254]/latest/api/token"),
        (["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv4"], "http://169.254.169.254/latest/api/token"),
    ])
    func `the endpoint can be said`(variables: [String: String], url: String) async throws {
        let (fixture, service) = try instance(variables) { _ throws(StorageError) in throw AuthFixture.nobody }
        _ = try await service.region(progress: Progress())
        #expect(fixture.asked.first == "PUT \(url)")
    }

    @Test(arguments: [
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED",
    ])
    func `a setting that means nothing is refused by name`(variable: String) async throws {
        let (_, service) = try instance([variable: "quux"])
        let error = await #expect(throws: StorageError.self) { try await service.region(progress: Progress()) }
        #expect(error?.code == .invalidArgument && error?.message.contains(variable) == true)
    }
}
