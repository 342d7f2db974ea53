/// `AssumeRole` and `AssumeRoleWithWebIdentity` of AWS's security token service.
struct STSClient: Sendable {
    let context: AuthContext
    let settings: AWSSettings

    /// A role to take.
    struct Role: Sendable, Equatable {
        var arn: String
        /// Named in the logs of AWS; nil: one of ours.
        var sessionName: String?
        var externalID: String?
        /// 900 to 43,200; nil: an hour.
        var durationSeconds: Int?
    }

    func assume(
        _ role: Role, with credentials: AWSCredentials, progress: Progress
    ) async throws(StorageError) -> AWSCredentials {
        var form = parameters("AssumeRole", role)
        if let id = role.externalID { form.append(("ExternalId", id)) }
        let (url, region) = try endpoint()
        let signer = SigV4Signer(region: region, service: "sts")
        return try await ask(
            "STS AssumeRole of \(role.arn)", "AssumeRole", form, url, progress,
            [
                credentials.secretAccessKey, credentials.sessionToken ?? "",
            ]
        ) { request, body in
            signer.signed(request, credentials: credentials, at: context.now, payload: .of(body))
        }
    }

    func assume(
        _ role: Role, webIdentity token: String, progress: Progress
    ) async throws(StorageError) -> AWSCredentials {
        let form = parameters("AssumeRoleWithWebIdentity", role) + [("WebIdentityToken", token)]
        let (url, _) = try endpoint()
        return try await ask(
            "STS AssumeRoleWithWebIdentity of \(role.arn)", "AssumeRoleWithWebIdentity", form, url, progress, [token]
        ) { request, _ in request }
    }

    private func parameters(_ action: String, _ role: Role) -> [(String, String)] {
        let session = role.sessionName ?? "raystorage-\(context.files.environment.randomHex(8))"
        var form = [
            ("Action", action), ("Version", "2011-06-15"), ("RoleArn", role.arn), ("RoleSessionName", session),
        ]
        if let seconds = role.durationSeconds { form.append(("DurationSeconds", String(seconds))) }
        return form
    }

    /// Of the region, as AWS's own tools do by now; without a region the global one.
    func endpoint() throws(StorageError) -> (url: HTTPURL, region: String) {
        if let endpoint = settings.endpoint(of: "sts") {
            guard var url = HTTPURL(endpoint.url), url.query.isEmpty else {
                throw StorageError(.invalidArgument, "\(endpoint.source) is not http(s)://host[:port]")
            }
            if url.path.isEmpty { url.path = "/" }
            return (url, settings.region ?? "us-east-1")
        }
        guard let region = settings.region, region != "aws-global" else {
            return (HTTPURL(scheme: "https", host: "sts.amazonaws.com", path: "/"), "us-east-1")
        }
        let isDualstack = settings.usesDualstack ?? false
        let service = settings.usesFIPS ?? false ? "sts-fips" : "sts"
        let host = "\(service).\(region).\(AWSRegion.domain(region, isDualstack: isDualstack))"
        return (HTTPURL(scheme: "https", host: host, path: "/"), region)
    }

    private func ask(
        _ name: String, _ action: String, _ form: [(String, String)], _ url: HTTPURL, _ progress: Progress,
        _ secrets: [String], _ sign: (HTTPRequest, [UInt8]) -> HTTPRequest
    ) async throws(StorageError) -> AWSCredentials {
        var exchange = AuthExchange(context, name)
        exchange.secrets = secrets
        let text = form.map { "\(PercentEncoding.encode($0.0))=\(PercentEncoding.encode($0.1))" }
        let body = Array(text.joined(separator: "&").utf8)
        var request = HTTPRequest("POST", url, body: .bytes(body))
        request.headers = [HTTPHeader("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]
        let plain = request
        // A provider of identities that does not answer in time is worth another try.
        var response = try await exchange.send(progress: progress) { () throws(StorageError) in sign(plain, body) }
        if response.status == 400, Self.error(response)?.code == "IDPCommunicationError" {
            try await context.pause(500, progress)
            response = try await exchange.send(progress: progress) { () throws(StorageError) in sign(plain, body) }
        }
        guard response.status == 200 else {
            let error = Self.error(response)
            throw exchange.refusal(
                response, from: url, code: error?.code, message: error?.message, advice: Self.advice(error?.code))
        }
        guard let root = try? XMLParser.parse(response.body), root.name == "\(action)Response",
            let keys = root.first("\(action)Result")?.first("Credentials"),
            let id = keys.first("AccessKeyId")?.text, let secret = keys.first("SecretAccessKey")?.text,
            let token = keys.first("SessionToken")?.text,
            let expiration = keys.first("Expiration").flatMap({ UTCTime.parse(iso8601: $0.text) }),
            !id.isEmpty, !secret.isEmpty, !token.isEmpty
        else { throw exchange.garbage(url, "whole credentials") }
        let credentials = AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: token, expiresAt: expiration)
        guard credentials.isSendable else { throw exchange.garbage(url, "keys that fit into a header") }
        return credentials
    }

    private static func error(_ response: HTTPResponse) -> (code: String?, message: String?)? {
        guard let root = try? XMLParser.parse(response.body),
            let error = root.name == "Error" ? root : root.first("Error")
        else { return nil }
        return (error.first("Code")?.text, error.first("Message")?.text)
    }

    private static func advice(_ code: String?) -> String {
        switch code {
        case "AccessDenied": "the role's trust policy must allow the caller to assume it"
        case "ExpiredToken", "ExpiredTokenException": "the credentials that ask for the role have expired"
        case "ExpiredTokenException.WebIdentity", "InvalidIdentityToken":
            "the web identity token is not accepted by the role's identity provider"
        case "RegionDisabledException": "STS is switched off in this region for the account"
        default: ""
        }
    }
}

extension XMLElement {
    fileprivate func first(_ name: String) -> XMLElement? { children.first { $0.name == name } }
}

/// A role for a token in a file, which whoever runs the job replaces from time to time: it is read anew each time.
struct WebIdentityCredentials: AWSCredentialsProvider {
    let name: String
    let context: AuthContext
    let client: STSClient
    let role: STSClient.Role
    let tokenFile: String

    static let maximumToken = 64 * 1024

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        let path = context.files.expanded(tokenFile) ?? tokenFile
        let bytes: [UInt8]?
        do throws(StorageError) { bytes = try context.files.readFile(path, Self.maximumToken) } catch {
            throw StorageError(
                .unauthenticated, "\(name): \(error.message)", details: error.details, isRetryable: error.isRetryable)
        }
        guard let bytes else {
            throw StorageError(
                .unauthenticated, "\(name): there is no token file \(quoted(path))", details: [("path", .string(path))])
        }
        let token = String(decoding: bytes, as: UTF8.self).trimmedLines
        guard !token.isEmpty, token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw StorageError(
                .unauthenticated, "\(name): \(quoted(path)) holds no token", details: [("path", .string(path))],
                isRetryable: true)
        }
        return try await client.assume(role, webIdentity: token, progress: progress)
    }
}

extension StringProtocol {
    /// Without white space, line breaks included, at the ends.
    var trimmedLines: String {
        var bytes = Array(utf8)[...]
        while let first = bytes.first, first == 0x20 || (0x09...0x0D).contains(first) { bytes = bytes.dropFirst() }
        while let last = bytes.last, last == 0x20 || (0x09...0x0D).contains(last) { bytes = bytes.dropLast() }
        return String(decoding: bytes, as: UTF8.self)
    }
}
