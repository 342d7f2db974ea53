/// What S3's error codes mean to us, and what to do about them. Pure.
struct S3ErrorCode: Sendable {
    /// What may help.
    enum Remedy: Sendable, Equatable {
        /// Nothing that we can do.
        case none
        /// Another try, later.
        case retry
        /// Another try, later, with fewer requests.
        case slowDown
        /// A few more tries: bytes that were damaged on the way arrive whole, those that are damaged here do not.
        case sendAgain
        /// Fresh credentials, once.
        case freshCredentials
        /// The store's clock, once.
        case correctClock
        /// The region that the answer names.
        case otherRegion
    }

    let code: StorageError.Code
    let remedy: Remedy
    /// What a person can do; follows the store's own words.
    let advice: String?

    private init(_ code: StorageError.Code, _ remedy: Remedy = .none, _ advice: String? = nil) {
        self.code = code
        self.remedy = remedy
        self.advice = advice
    }

    /// By the code in the answer's body, else by the status.
    static func of(status: Int, code: String?) -> S3ErrorCode {
        if let code, let known = table[code] { return known }
        if let code, code.hasPrefix("KMS.") {
            return S3ErrorCode(
                .permissionDenied, .none, "The KMS key is disabled, gone or not allowed to these credentials")
        }
        return of(status: status)
    }

    private static func of(status: Int) -> S3ErrorCode {
        switch status {
        case 301, 302, 307, 308: S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion)
        case 401: S3ErrorCode(.unauthenticated)
        case 403: S3ErrorCode(.permissionDenied)
        case 404: S3ErrorCode(.notFound)
        case 405, 411, 501, 505: S3ErrorCode(.notSupported)
        case 408: S3ErrorCode(.network, .retry)
        case 409: S3ErrorCode(.precondition)
        case 412: S3ErrorCode(.precondition)
        case 413: S3ErrorCode(.invalidArgument)
        case 416: S3ErrorCode(.checksum)
        case 425: S3ErrorCode(.network, .retry)
        case 429, 503: S3ErrorCode(.throttled, .slowDown)
        case 507: S3ErrorCode(.noSpace, .retry)
        case 400..<500: S3ErrorCode(.invalidArgument)
        case 500...: S3ErrorCode(.network, .retry)
        default: S3ErrorCode(.network)
        }
    }

    /// In place of `advice`, where the request had no signature.
    var adviceWithoutCredentials: String? {
        guard code == .permissionDenied || code == .unauthenticated else { return advice }
        return "The request had no signature (anonymous=true), and the store does not allow this to everybody: give"
            + " credentials, or allow it to everybody in the bucket's policy"
    }

    private static let wrongRegion =
        "The bucket is in another region and the answer does not say which: set region, or AWS_REGION, or the endpoint is"
        + " not this store's"
    private static let wrongSignature =
        "The secret key is wrong, or the clock, or the region, or a proxy changes requests; S3-compatible stores may need"
        + " addressing_style=path or another endpoint_override"
    private static let wrongKey =
        "The access key is not known to this store: wrong credentials, or those of another account or endpoint"
    private static let staleToken =
        "The credentials have expired and no newer ones were to be had: log in again"
    private static let wrongClock =
        "This machine's clock differs from the store's by more than it allows (15 minutes): set it"
    private static let lostBytes = "The bytes that arrived are not those that were sent"

    private static let table: [String: S3ErrorCode] = [
        "NoSuchBucket": S3ErrorCode(
            .notFound, .none,
            "The bucket does not exist: create it, correct its name, or give allow_bucket_creation=true"),
        "NoSuchKey": S3ErrorCode(.notFound),
        "NoSuchUpload": S3ErrorCode(.notFound),
        "NoSuchVersion": S3ErrorCode(.notFound),
        "AccessDenied": S3ErrorCode(
            .permissionDenied, .none,
            "These credentials may not do this: allow it in the policy of the user or role, and look for a Deny in that of"
                + " the bucket"),
        "AllAccessDisabled": S3ErrorCode(.permissionDenied),
        "AccountProblem": S3ErrorCode(.permissionDenied),
        "InvalidPayer": S3ErrorCode(.permissionDenied),
        "NotSignedUp": S3ErrorCode(.permissionDenied),
        "InvalidObjectState": S3ErrorCode(
            .precondition, .none, "The object is in an archive class; restore it to a readable one first"),
        "SignatureDoesNotMatch": S3ErrorCode(.unauthenticated, .none, wrongSignature),
        "InvalidAccessKeyId": S3ErrorCode(.unauthenticated, .none, wrongKey),
        "InvalidSecurity": S3ErrorCode(.unauthenticated),
        "CredentialsNotSupported": S3ErrorCode(.unauthenticated),
        "ExpiredToken": S3ErrorCode(.unauthenticated, .freshCredentials, staleToken),
        "ExpiredTokenException": S3ErrorCode(.unauthenticated, .freshCredentials, staleToken),
        "TokenRefreshRequired": S3ErrorCode(.unauthenticated, .freshCredentials, staleToken),
        "InvalidToken": S3ErrorCode(
            .unauthenticated, .freshCredentials,
            "The session token does not belong to this access key: set all three, or none"),
        "RequestTimeTooSkewed": S3ErrorCode(.unauthenticated, .correctClock, wrongClock),
        "RequestExpired": S3ErrorCode(.unauthenticated, .correctClock, wrongClock),
        "SlowDown": S3ErrorCode(.throttled, .slowDown),
        "SlowDownRead": S3ErrorCode(.throttled, .slowDown),
        "SlowDownWrite": S3ErrorCode(.throttled, .slowDown),
        "ServiceUnavailable": S3ErrorCode(.throttled, .slowDown),
        "Busy": S3ErrorCode(.throttled, .slowDown),
        "RequestLimitExceeded": S3ErrorCode(.throttled, .slowDown),
        "RequestThrottled": S3ErrorCode(.throttled, .slowDown),
        "Throttling": S3ErrorCode(.throttled, .slowDown),
        "ThrottlingException": S3ErrorCode(.throttled, .slowDown),
        "TooManyRequests": S3ErrorCode(.throttled, .slowDown),
        "BandwidthLimitExceeded": S3ErrorCode(.throttled, .slowDown),
        "KMS.ThrottlingException": S3ErrorCode(
            .throttled, .slowDown, "The KMS quota is used up; bucket_key_enabled=true helps"),
        "InternalError": S3ErrorCode(.network, .retry),
        "InternalServerError": S3ErrorCode(.network, .retry),
        "RequestTimeout": S3ErrorCode(.network, .retry),
        "RequestTimeoutException": S3ErrorCode(.network, .retry),
        "IncompleteBody": S3ErrorCode(.network, .retry),
        "OperationAborted": S3ErrorCode(.precondition, .retry),
        "ConditionalRequestConflict": S3ErrorCode(.precondition, .retry),
        "PreconditionFailed": S3ErrorCode(.precondition),
        "EntityTooLarge": S3ErrorCode(.invalidArgument, .none, "The store takes smaller objects only"),
        "EntityTooSmall": S3ErrorCode(.invalidArgument, .none, "The store wants larger parts: part_size_bytes"),
        "InvalidPart": S3ErrorCode(.checksum, .none, "The store does not have a part that it had acknowledged"),
        "InvalidPartOrder": S3ErrorCode(.internal),
        "KeyTooLongError": S3ErrorCode(.invalidArgument),
        "InvalidBucketName": S3ErrorCode(.invalidArgument),
        "InvalidURI": S3ErrorCode(.invalidArgument),
        "InvalidStorageClass": S3ErrorCode(.invalidArgument),
        "InvalidTag": S3ErrorCode(.invalidArgument),
        "BadDigest": S3ErrorCode(.checksum, .sendAgain, lostBytes),
        "InvalidDigest": S3ErrorCode(.checksum, .sendAgain, lostBytes),
        "XAmzContentChecksumMismatch": S3ErrorCode(.checksum, .sendAgain, lostBytes),
        "XAmzContentSHA256Mismatch": S3ErrorCode(.checksum, .sendAgain, lostBytes),
        "InvalidRange": S3ErrorCode(.checksum, .none, "The object is shorter than it should be"),
        "NotImplemented": S3ErrorCode(.notSupported),
        "MethodNotAllowed": S3ErrorCode(.notSupported),
        "MissingContentLength": S3ErrorCode(
            .notSupported, .none, "Something between here and the store drops Content-Length"),
        "QuotaExceeded": S3ErrorCode(.noSpace, .retry),
        "InsufficientStorage": S3ErrorCode(.noSpace, .retry),
        "XMinioStorageFull": S3ErrorCode(.noSpace, .retry),
        "InsufficientCapacity": S3ErrorCode(.noSpace, .retry),
        "AuthorizationHeaderMalformed": S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion),
        "PermanentRedirect": S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion),
        "TemporaryRedirect": S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion),
        "Redirect": S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion),
        "IllegalLocationConstraintException": S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion),
        "InvalidRegion": S3ErrorCode(.invalidArgument, .otherRegion, wrongRegion),
    ]
}
