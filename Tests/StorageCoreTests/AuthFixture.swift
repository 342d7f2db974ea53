import Synchronization

@testable import StorageCore

/// A world for the sources of credentials: its own files, variables, clock, programs, and a server that answers as told.
final class AuthFixture: Sendable {
    typealias Answer = @Sendable (HTTPRequest) throws(StorageError) -> HTTPResponse

    struct World: Sendable {
        var variables: [String: String] = [:]
        var files: [String: String] = [:]
        var unreadable: Set<String> = []
        var now = 1_632_246_085.0
        var boot: Int64 = 1_000_000
        var requests: [HTTPRequest] = []
        var programs: [[String]] = []
        var warnings: [String] = []
        var slept: Int64 = 0
        var program: @Sendable ([String]) throws(StorageError) -> [UInt8] = { arguments throws(StorageError) in
            throw .system(2, "posix_spawn", arguments.first ?? "")
        }
    }

    let world = Mutex(World())
    private let transport: Transport

    init(
        _ variables: [String: String] = [:], files: [String: String] = [:],
        answer: @escaping Answer = { _ throws(StorageError) in throw AuthFixture.nobody }
    ) {
        transport = Transport(answer: answer)
        world.withLock {
            $0.variables = variables
            $0.files = files
        }
    }

    /// What a transport says when nothing answers.
    static let nobody = StorageError(
        .network, "connect: no route to host", details: [("operation", "connect")], isRetryable: true)

    static func reply(_ body: String, status: Int = 200, _ headers: [String: String] = [:]) -> HTTPResponse {
        HTTPResponse(
            status: status, headers: headers.map { HTTPHeader($0.key, $0.value) }, body: Array(body.utf8),
            bodyLength: body.utf8.count)
    }

    private struct Transport: HTTPTransport {
        let answer: Answer
        let seen = Seen()
        final class Seen: Sendable { let requests = Mutex<[HTTPRequest]>([]) }

        func send(
            _ request: HTTPRequest, timeouts: HTTPTimeouts, progress: Progress, onBytes: HTTPByteTally?
        ) async throws(StorageError) -> HTTPResponse {
            try progress.checkCancelled()
            seen.requests.withLock { $0.append(request) }
            return try answer(request)
        }
    }

    var requests: [HTTPRequest] { transport.seen.requests.withLock { $0 } }
    /// `METHOD url?query` of each request.
    var asked: [String] {
        requests.map { "\($0.method) \($0.url.shown)" + ($0.url.query.isEmpty ? "" : "?\($0.url.query)") }
    }
    var warnings: [String] { world.withLock { $0.warnings } }

    func advance(seconds: Double) {
        world.withLock {
            $0.now += seconds
            $0.boot += Int64(seconds * 1000)
        }
    }

    var files: AuthFiles {
        var files = AuthFiles(
            environment: Environment(
                now: { self.world.withLock { $0.now } }, bootMilliseconds: { self.world.withLock { $0.boot } },
                randomHex: { String(repeating: "5", count: 2 * $0) },
                variable: { name in self.world.withLock { $0.variables[name] } },
                names: { self.world.withLock { Array($0.variables.keys) } }))
        files.homeDirectory = { "/home/u" }
        files.readFile = { path, limit throws(StorageError) in
            let (text, isUnreadable) = self.world.withLock { ($0.files[path], $0.unreadable.contains(path)) }
            if isUnreadable { throw .system(13, "open", path) }
            return text.map { Array($0.utf8) }
        }
        return files
    }

    var context: AuthContext {
        var context = AuthContext(transport: transport, files: files)
        context.runProgram = { arguments, _, _ async throws(StorageError) in
            let program = self.world.withLock { world in
                world.programs.append(arguments)
                return world.program
            }
            return try program(arguments)
        }
        context.sleep = { milliseconds in
            self.world.withLock {
                $0.slept += milliseconds
                $0.boot += milliseconds
                $0.now += Double(milliseconds) / 1000
            }
        }
        context.warn = { message, _ in self.world.withLock { $0.warnings.append(message) } }
        return context
    }

    func settings(profile: String? = nil) throws(StorageError) -> AWSSettings {
        try AWSSettings(files, profile: profile)
    }

    func chain(profile: String? = nil) throws(StorageError) -> CredentialChain {
        try CredentialChain.standard(context, settings: settings(profile: profile), profileIsArgument: profile != nil)
    }

    func find(profile: String? = nil) async throws(StorageError) -> AWSCredentials? {
        try await chain(profile: profile).credentials(refreshing: nil, progress: Progress())
    }

    /// The error of looking for credentials.
    func failure(profile: String? = nil) async -> StorageError? {
        do throws(StorageError) {
            _ = try await find(profile: profile)
            return nil
        } catch { return error }
    }

    // MARK: - Answers of services

    static func sts(
        _ action: String, id: String = "ASIAROLE", secret: String = "rolesecret", token: String = "roletoken",
        expiration: String = "2021-09-21T18:41:26Z"
    ) -> HTTPResponse {
        reply(
            """
            <\(action)Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
              <\(action)Result>
                <AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>
                <Credentials>
                  <AccessKeyId>\(id)</AccessKeyId>
                  <SecretAccessKey>\(secret)</SecretAccessKey>
                  <SessionToken>\(token)</SessionToken>
                  <Expiration>\(expiration)</Expiration>
                </Credentials>
              </\(action)Result>
              <ResponseMetadata><RequestId>d9d47248</RequestId></ResponseMetadata>
            </\(action)Response>
            """, ["content-type": "text/xml"])
    }

    static let instanceToken = "AQAEAKQRRHnsX8GCPgYTGMShrFJkMhru3n-8Ul5Gzvzj-bpWKYZuiw=="

    /// An instance with a role, as the service answers it.
    static func instance(_ request: HTTPRequest, id: String = "ASIAIMDS") throws(StorageError) -> HTTPResponse {
        switch (request.method, request.url.path) {
        case ("PUT", "/latest/api/token"):
            return reply(instanceToken, ["x-aws-ec2-metadata-token-ttl-seconds": "21600"])
        case ("GET", "/latest/meta-data/iam/security-credentials/"): return reply("the role")
        case ("GET", "/latest/meta-data/iam/security-credentials/the%20role"):
            return reply(
                """
                {"Code": "Success", "LastUpdated": "2021-09-20T21:42:26Z", "Type": "AWS-HMAC", "AccessKeyId": "\(id)",
                 "SecretAccessKey": "imdssecret", "Token": "imdstoken", "Expiration": "2021-09-22T04:16:53Z"}
                """)
        case ("GET", "/latest/meta-data/placement/region"): return reply("eu-north-1")
        default: return reply("", status: 404)
        }
    }

    static let container =
        """
        {"RoleArn": "arn:aws:iam::1:role/t", "AccessKeyId": "ASIAECS", "SecretAccessKey": "ecssecret", "Token": "ecstoken",
         "AccountId": "1", "Expiration" : "2021-09-21T23:31:30Z"}
        """
}

extension HTTPRequest {
    func header(_ name: String) -> String? { headers.last { $0.name.lowercased() == name }?.value }
    /// The fields of a form.
    var form: [String: String] {
        guard case .bytes(let bytes) = body else { return [:] }
        var fields: [String: String] = [:]
        for field in String(decoding: bytes, as: UTF8.self).split(separator: "&") {
            let parts = field.split(separator: "=", maxSplits: 1)
            fields[String(parts[0])] = parts.count > 1 ? PercentEncoding.decode(String(parts[1])) : ""
        }
        return fields
    }
}
