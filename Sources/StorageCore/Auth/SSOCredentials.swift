/// AWS IAM Identity Center: the token that `aws sso login` left in its cache, exchanged for a role's credentials. The cache is
/// only read; a token that has expired is for a person to renew.
struct SSOCredentials: AWSCredentialsProvider {
    var name: String { "SSO of profile \(quoted(profile))" }
    let context: AuthContext
    let settings: AWSSettings
    let profile: String
    let setup: Setup

    struct Setup: Sendable, Equatable {
        /// nil: the legacy form, without an `[sso-session …]`.
        var session: String?
        var startURL: String
        var region: String
        var accountID: String
        var roleName: String
    }

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        let token = try token()
        var exchange = AuthExchange(context, "SSO GetRoleCredentials of \(setup.roleName)")
        exchange.secrets = [token]
        var url = try endpoint()
        while url.path.utf8.last == UInt8(ascii: "/") { url.path.removeLast() }
        url.path += "/federation/credentials"
        url.query =
            "role_name=\(PercentEncoding.encode(setup.roleName))&account_id=\(PercentEncoding.encode(setup.accountID))"
        let made = HTTPRequest("GET", url, headers: [HTTPHeader("x-amz-sso_bearer_token", token)])
        let response = try await exchange.send(progress: progress) { () throws(StorageError) in made }
        let document = try? JSONParser.parse(response.body)
        guard response.status == 200 else {
            throw exchange.refusal(
                response, from: url, code: response["x-amzn-errortype"]?.split(separator: ":").first.map { String($0) },
                message: document?["message"]?.stringValue, advice: response.status == 401 ? advice : "")
        }
        guard let keys = document?["roleCredentials"], let id = keys["accessKeyId"]?.stringValue, !id.isEmpty,
            let secret = keys["secretAccessKey"]?.stringValue, !secret.isEmpty,
            let session = keys["sessionToken"]?.stringValue, !session.isEmpty,
            let expiration = keys["expiration"]?.doubleValue, expiration.isFinite
        else { throw exchange.garbage(url, "whole credentials") }
        let credentials = AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: session, expiresAt: expiration / 1000)
        guard credentials.isSendable else { throw exchange.garbage(url, "keys that fit into a header") }
        return credentials
    }

    private var advice: String { "run: aws sso login --profile \(profile)" }

    private func endpoint() throws(StorageError) -> HTTPURL {
        if let endpoint = settings.endpoint(of: "sso") {
            guard let url = HTTPURL(endpoint.url), url.query.isEmpty else {
                throw StorageError(.invalidArgument, "\(endpoint.source) is not http(s)://host[:port]")
            }
            return url
        }
        let region = try AWSRegion.checked(setup.region)
        let domain = AWSRegion.domain(region, isDualstack: settings.usesDualstack ?? false)
        return HTTPURL(scheme: "https", host: "portal.sso.\(region).\(domain)", path: "/")
    }

    /// Of `~/.aws/sso/cache/<SHA-1 of the session's name, or of the start URL>.json`.
    private func token() throws(StorageError) -> String {
        let key = Hexadecimal.encode(Hashing.sha1(Array((setup.session ?? setup.startURL).utf8)))
        guard let path = context.files.expanded("~/.aws/sso/cache/\(key).json") else {
            throw StorageError(.unauthenticated, "\(name): the home directory is unknown; set HOME")
        }
        guard let bytes = try context.files.readFile(path, 256 * 1024) else {
            throw StorageError(
                .unauthenticated, "\(name): nobody is logged in (there is no \(quoted(path))); \(advice)",
                details: [("path", .string(path))])
        }
        guard let document = try? JSONParser.parse(bytes), let token = document["accessToken"]?.stringValue,
            !token.isEmpty, token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            let expiration = document["expiresAt"]?.stringValue.flatMap({ UTCTime.parse(iso8601: $0) })
        else {
            throw StorageError(
                .unauthenticated, "\(name): \(quoted(path)) holds no token; \(advice)",
                details: [("path", .string(path))])
        }
        guard expiration > context.now else {
            let time = UTCTime(secondsSince1970: expiration).extended
            throw StorageError(
                .unauthenticated, "\(name): the login expired at \(time); \(advice)",
                details: [("path", .string(path)), ("expired_at", .string(time))])
        }
        return token
    }
}
