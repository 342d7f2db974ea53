internal import Synchronization

/// The metadata service of an EC2 instance, version 2 only: a token first, which it gives to no proxy.
final class InstanceMetadata: AWSCredentialsProvider {
    let name = "instance metadata"
    private let context: AuthContext
    private let settings: AWSSettings
    private let state = Mutex(State())

    private struct State {
        var token: String?
        /// `CLOCK_BOOTTIME` in milliseconds.
        var tokenGoodUntil: Int64 = 0
        var reason: String?
    }
    private static let tokenSeconds = 21_600

    init(context: AuthContext, settings: AWSSettings) {
        self.context = context
        self.settings = settings
    }

    /// Why there are none: it says more than "not set up".
    var absence: String? { state.withLock { $0.reason } }

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        let directory = "/latest/meta-data/iam/security-credentials/"
        guard let roles = try await get(directory, progress) else { return nil }
        guard let role = roles.split(separator: "\n").first?.trimmedLines, !role.isEmpty else {
            return absent("the instance has no role: attach an instance profile")
        }
        // The characters of IAM's names, one more (a blank), and no surprise in a path or an error.
        guard role.utf8.count <= 128, role.utf8.allSatisfy(Self.isOfName) else {
            throw exchange().garbage(try url(directory), "the name of a role")
        }
        guard let text = try await get(directory + PercentEncoding.encode(role), progress) else {
            return absent("the instance's role \(quoted(role)) is gone")
        }
        let exchange = exchange()
        let url = try url(directory)
        guard let document = try? JSONParser.parse(text) else { throw exchange.garbage(url, "a JSON document") }
        if let code = document["Code"]?.stringValue, code != "Success" {
            let shown = exchange.shown(code)
            throw StorageError(
                .unauthenticated,
                "the instance's role \(quoted(role)) cannot be assumed (\(shown)): look at its trust policy",
                details: [("error_code", .string(shown))], isRetryable: true)
        }
        var missing = ""
        guard let credentials = AWSCredentials.read(document, missing: &missing) else {
            throw exchange.garbage(url, missing)
        }
        state.withLock { $0.reason = nil }
        return credentials
    }

    /// The region that the instance runs in; nil when this is no instance.
    func region(progress: Progress) async throws(StorageError) -> String? {
        guard let text = try await get("/latest/meta-data/placement/region", progress)?.trimmedLines, !text.isEmpty
        else { return nil }
        guard let region = try? AWSRegion.checked(text) else {
            throw exchange().garbage(try url("/latest/meta-data/placement/region"), "the name of a region")
        }
        return region
    }

    private static func isOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "+=,.@-_ ".utf8.contains(byte)
        }
    }

    private func absent<Value>(_ reason: String) -> Value? {
        state.withLock { $0.reason = reason }
        return nil
    }

    // MARK: - Requests

    private func exchange() -> AuthExchange {
        var exchange = AuthExchange(context, "the instance metadata service")
        let seconds = number("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout", 1...60) ?? 1
        let milliseconds = Int64(seconds) * 1000
        exchange.timeouts = HTTPTimeouts(connect: milliseconds, stall: milliseconds, total: 2 * milliseconds)
        exchange.secrets = state.withLock { $0.token.map { [$0] } ?? [] }
        exchange.tries = number("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts", 1...20) ?? 3
        return exchange
    }

    private func number(_ variable: String, _ key: String, _ range: ClosedRange<Int>) -> Int? {
        let text = context.variable(variable) ?? settings.configuration.profile(settings.profileName)?[key]
        return text.flatMap { Int($0) }.flatMap { range.contains($0) ? $0 : nil }
    }

    /// The endpoint, with a path below it.
    private func url(_ path: String) throws(StorageError) -> HTTPURL {
        let profile = settings.configuration.profile(settings.profileName)
        let given = context.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") ?? profile?["ec2_metadata_service_endpoint"]
        let mode =
            context.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") ?? profile?["ec2_metadata_service_endpoint_mode"]
            ?? "IPv4"
        let standard: String
        switch mode.lowercased() {
        case "ipv4": standard = "http://169.254.169.254"
        case "ipv6": standard = "http://[fd00:ec2::254]"
        default:
            throw StorageError(
                .invalidArgument, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is \(quoted(mode)): use IPv4 or IPv6")
        }
        guard var url = HTTPURL(given ?? standard), url.query.isEmpty else {
            throw StorageError(.invalidArgument, "AWS_EC2_METADATA_SERVICE_ENDPOINT is not http://host[:port]")
        }
        while url.path.utf8.last == UInt8(ascii: "/") { url.path.removeLast() }
        url.path += path
        return url
    }

    /// nil: not there, or this is no instance; `absence` says which.
    private func get(_ path: String, _ progress: Progress) async throws(StorageError) -> String? {
        if try context.files.flag("AWS_EC2_METADATA_DISABLED") ?? false {
            return absent("switched off by AWS_EC2_METADATA_DISABLED")
        }
        let url = try url(path)
        var isSecondTime = false
        while true {
            guard let token = try await token(progress) else { return nil }
            var exchange = exchange()
            exchange.secrets = [token]
            let response = try await exchange.send(progress: progress) { () throws(StorageError) in
                var request = HTTPRequest("GET", url, headers: [HTTPHeader("x-aws-ec2-metadata-token", token)])
                request.bypassesProxy = true
                return request
            }
            switch response.status {
            case 200:
                guard let text = String(validating: response.body, as: UTF8.self) else {
                    throw exchange.garbage(url, "text")
                }
                return text
            case 401 where !isSecondTime:
                // The token ended before its time.
                state.withLock { $0.token = nil }
                isSecondTime = true
            case 404:
                return absent(
                    path.contains("security-credentials")
                        ? "the instance has no role: attach an instance profile" : "it does not know \(path)")
            default: throw exchange.refusal(response, from: url)
            }
        }
    }

    /// A token that is good for a while; nil when nobody answers as a metadata service would.
    private func token(_ progress: Progress) async throws(StorageError) -> String? {
        let now = context.bootMilliseconds
        if let token = state.withLock({ $0.tokenGoodUntil > now ? $0.token : nil }) { return token }
        let url = try url("/latest/api/token")
        var exchange = exchange()
        // Where there is no such service, packets often vanish: everybody who is not on EC2 waits for this.
        exchange.tries = min(exchange.tries, 2)
        let response: HTTPResponse
        do throws(StorageError) {
            response = try await exchange.send(progress: progress) { () throws(StorageError) in
                var request = HTTPRequest(
                    "PUT", url,
                    headers: [HTTPHeader("x-aws-ec2-metadata-token-ttl-seconds", String(Self.tokenSeconds))])
                request.bypassesProxy = true
                return request
            }
        } catch {
            guard error.code == .network || error.code == .timeout else { throw error }
            return absent(
                "nobody answers at \(url.authority): this is no EC2 instance, or its metadata hop limit keeps containers out "
                    + "(raise it to 2)")
        }
        guard response.status == 200 else {
            return absent("\(url.authority) answered \(response.status) instead of giving a token")
        }
        guard let text = String(validating: response.body, as: UTF8.self)?.trimmedLines, !text.isEmpty,
            text.utf8.count <= 1024, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else { return absent("\(url.authority) answered with something that is no token") }
        let seconds = response["x-aws-ec2-metadata-token-ttl-seconds"].flatMap { Int($0) } ?? Self.tokenSeconds
        // A new one before the old one ends, and never so short that each request needs two.
        let milliseconds = Int64(max(60, min(seconds, Self.tokenSeconds))) * 1000 * 9 / 10
        state.withLock { state in
            state.token = text
            state.tokenGoodUntil = now + milliseconds
        }
        return text
    }
}
