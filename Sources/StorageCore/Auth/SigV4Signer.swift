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
    /// Where keys are kept for the next request; nil: each is derived anew.
    var keys: SigningKeys?

    static let changedOnTheWay: Set<String> = [
        "accept", "accept-encoding", "authorization", "connection", "expect", "te", "transfer-encoding", "user-agent",
        "x-amzn-trace-id",
    ]

    /// What a signature adds.
    private static let added: Set<String> = [
        "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-s3session-token",
    ]

    /// Without `rules`: those of the service.
    init(region: String, service: String = "s3", rules: Rules? = nil, keys: SigningKeys? = nil) {
        self.region = region
        self.service = service
        self.rules = rules ?? .of(service)
        self.keys = keys
    }

    /// The request with `Authorization` and what belongs to it. `instant`: seconds since 1970 by the server's clock, as
    /// far as `ClockSkew` knows it.
    func signed(
        _ request: HTTPRequest, credentials: AWSCredentials, at instant: Double, payload: Payload
    ) -> HTTPRequest { make(request, credentials, instant, payload).request }

    /// The same with what was signed.
    func sign(
        _ request: HTTPRequest, credentials: AWSCredentials, at instant: Double, payload: Payload
    ) -> Signed {
        let (signed, canonical, text) = make(request, credentials, instant, payload)
        return Signed(request: signed, canonicalRequest: canonical.shown, stringToSign: text)
    }

    private func make(
        _ request: HTTPRequest, _ credentials: AWSCredentials, _ instant: Double, _ payload: Payload
    ) -> (request: HTTPRequest, canonical: CanonicalRequest, stringToSign: String) {
        let time = UTCTime(secondsSince1970: instant)
        let date = time.basicDate
        let dateAndTime = time.basic
        var signed = request
        signed.headers.removeAll { Self.added.contains($0.name.lowercased()) }
        signed.headers.append(HTTPHeader("x-amz-date", dateAndTime))
        if rules.sendsPayloadHash { signed.headers.append(HTTPHeader("x-amz-content-sha256", payload.text)) }
        if let token = credentials.sessionToken { signed.headers.append(HTTPHeader(rules.tokenHeader, token)) }

        let canonical = CanonicalRequest(signed, payload: payload.text, rules: rules, unsigned: unsignedHeaders)
        let scope = "\(date)/\(region)/\(service)/aws4_request"
        let text = "AWS4-HMAC-SHA256\n\(dateAndTime)\n\(scope)\n\(SHA256.hex(Array(canonical.text.utf8)))"
        let place = SigningKeys.Place(
            secret: credentials.secretAccessKey, date: date, region: region, service: service)
        let key = keys?.key(place) ?? place.derived()
        let signature = HMAC.sha256(key: key, bytes: Array(text.utf8))
        signed.headers.append(
            HTTPHeader(
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
                    + "SignedHeaders=\(canonical.signedHeaders), Signature=\(Hexadecimal.encode(signature))"))
        return (signed, canonical, text)
    }
}
