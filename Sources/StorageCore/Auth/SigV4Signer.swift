/// Signs requests with AWS Signature Version 4, in headers. A pure value: the time is a parameter.
///
/// Every attempt is signed anew: what an earlier signature added is replaced.
struct SigV4Signer: Sendable {
    /// What the signature says of the body.
    enum Payload: Sendable, Equatable {
        /// `UNSIGNED-PAYLOAD`: the connection protects it (S3 over HTTPS).
        case unsigned
        /// SHA-256 of the body in lower-case hexadecimal digits.
        case hash(String)

        /// Of no body, or of one that is in memory.
        static func of(_ bytes: [UInt8] = []) -> Payload { .hash(SHA256.hex(bytes)) }

        var text: String {
            switch self {
            case .unsigned: "UNSIGNED-PAYLOAD"
            case .hash(let hex): hex
            }
        }
    }

    /// Where services differ.
    struct Rules: Sendable, Equatable {
        /// The path is signed with `.` and `..` taken out and `//` made one.
        var normalizesPath: Bool
        /// The path, encoded as it is, is encoded once more.
        var encodesPathTwice: Bool
        /// `x-amz-content-sha256` goes along.
        var sendsPayloadHash: Bool
        /// The header that carries a session token.
        var tokenHeader = "x-amz-security-token"

        /// Keys are bytes: nothing is normalised.
        static let s3 = Rules(normalizesPath: false, encodesPathTwice: false, sendsPayloadHash: true)
        /// S3 Express One Zone, with the credentials of a session; `CreateSession` itself goes by the rules of S3.
        static let s3Express = Rules(
            normalizesPath: false, encodesPathTwice: false, sendsPayloadHash: true,
            tokenHeader: "x-amz-s3session-token")
        /// STS and the other services.
        static let other = Rules(normalizesPath: true, encodesPathTwice: true, sendsPayloadHash: false)

        static func of(_ service: String) -> Rules {
            switch service {
            case "s3", "s3-outposts", "s3-object-lambda": .s3
            case "s3express": .s3Express
            default: .other
            }
        }
    }

    /// A signed request, and what a server says that it expected in the error `SignatureDoesNotMatch`.
    struct Signed: Sendable {
        var request: HTTPRequest
        /// With the values of headers that are secret left out: for error texts.
        var canonicalRequest: String
        var stringToSign: String
    }

    /// `us-east-1` …
    var region: String
    /// `s3`, `s3express`, `sts` …
    var service: String
    var rules: Rules
    /// Headers (lower case) that are sent without being signed: proxies and clients change them on the way.
    var unsignedHeaders = Self.changedOnTheWay

    static let changedOnTheWay: Set<String> = [
        "accept", "accept-encoding", "authorization", "connection", "expect", "te", "transfer-encoding", "user-agent",
        "x-amzn-trace-id",
    ]

    /// Without `rules`: those of the service.
    init(region: String, service: String = "s3", rules: Rules? = nil) {
        self.region = region
        self.service = service
        self.rules = rules ?? .of(service)
    }

    /// The request with `Authorization` and what belongs to it. `instant`: seconds since 1970 by the server's clock, as
    /// far as `ClockSkew` knows it.
    func signed(
        _ request: HTTPRequest, credentials: AWSCredentials, at instant: Double, payload: Payload
    ) -> HTTPRequest { sign(request, credentials: credentials, at: instant, payload: payload).request }

    /// The same with what was signed.
    func sign(
        _ request: HTTPRequest, credentials: AWSCredentials, at instant: Double, payload: Payload
    ) -> Signed {
        let time = UTCTime(secondsSince1970: instant)
        var signed = request
        let replaced: Set<String> = [
            "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-s3session-token",
        ]
        signed.headers.removeAll { replaced.contains($0.name.lowercased()) }
        signed.headers.append(HTTPHeader("x-amz-date", time.basic))
        if rules.sendsPayloadHash { signed.headers.append(HTTPHeader("x-amz-content-sha256", payload.text)) }
        if let token = credentials.sessionToken { signed.headers.append(HTTPHeader(rules.tokenHeader, token)) }

        let canonical = CanonicalRequest(signed, payload: payload.text, rules: rules, unsigned: unsignedHeaders)
        let scope = "\(time.basicDate)/\(region)/\(service)/aws4_request"
        let text = "AWS4-HMAC-SHA256\n\(time.basic)\n\(scope)\n\(SHA256.hex(Array(canonical.text.utf8)))"
        let signature = HMAC.sha256(key: signingKey(credentials, time.basicDate), bytes: Array(text.utf8))
        signed.headers.append(
            HTTPHeader(
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
                    + "SignedHeaders=\(canonical.signedHeaders), Signature=\(Hexadecimal.encode(signature))"))
        return Signed(request: signed, canonicalRequest: canonical.shown, stringToSign: text)
    }

    private func signingKey(_ credentials: AWSCredentials, _ date: String) -> [UInt8] {
        var key = Array("AWS4\(credentials.secretAccessKey)".utf8)
        for part in [date, region, service, "aws4_request"] { key = HMAC.sha256(key: key, bytes: Array(part.utf8)) }
        return key
    }
}
