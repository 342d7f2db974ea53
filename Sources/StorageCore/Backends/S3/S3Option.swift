/// One option of an S3 store: what it is called, what it takes, where it may stand. The one table behind parsing, error
/// texts and `docs/s3.md`.
struct S3Option: Sendable {
    enum Kind: Sendable, Equatable {
        /// Any text that is not empty, on one line.
        case text
        /// Text that is never shown.
        case secret
        case boolean
        case integer(ClosedRange<Int>)
        /// Seconds, whole or decimal.
        case seconds(ClosedRange<Double>)
        case choice([String])
    }
    enum Place: Sendable, Equatable {
        /// Behind the `?` of the URI, or in `storage_options`.
        case anywhere
        /// Not in a URI: those end up in logs, documents and shell histories.
        case storageOptions
    }

    let key: String
    let kind: Kind
    var place = Place.anywhere
    /// What happens without it, for people.
    let fallback: String
    let doc: String

    /// What a value may be, for error texts.
    var allowed: String {
        switch kind {
        case .text: "text"
        case .secret: "a secret, as text"
        case .boolean: "true or false"
        case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .seconds(let range): "seconds from \(range.lowerBound) to \(range.upperBound)"
        case .choice(let values): values.joined(separator: ", ")
        }
    }

    static let all = place + security + objects + transfer + identity

    /// Keys that a URI may carry.
    static var uriKeys: [String] { all.filter { $0.place == .anywhere }.map(\.key) }

    static func named(_ key: String) -> S3Option? { all.first { $0.key.utf8.elementsEqual(key.utf8) } }

    private static let place = [
        S3Option(
            key: "region", kind: .text, fallback: "`AWS_REGION`, the profile, else found out",
            doc: "The bucket's region."),
        S3Option(
            key: "scheme", kind: .choice(["https", "http"]), fallback: "`https`",
            doc: "Plain `http` sends data that anybody on the way can read."),
        S3Option(
            key: "endpoint_override", kind: .text,
            fallback: "`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile, else AWS",
            doc: "`host`, `host:port` or a URL: an S3-compatible store."),
        S3Option(
            key: "addressing_style", kind: .choice(["auto", "virtual", "path"]), fallback: "`auto`",
            doc:
                "`virtual`: the bucket is a part of the host name; `path`: of the path. `auto`: virtual on AWS, path with"
                + " `endpoint_override` and for a bucket with dots under TLS."),
        S3Option(
            key: "force_virtual_addressing", kind: .boolean, fallback: "`false`",
            doc: "pyarrow's name for `addressing_style=virtual`."),
        S3Option(
            key: "dualstack", kind: .boolean, fallback: "the AWS settings", doc: "IPv6 and IPv4 host names of AWS."),
        S3Option(key: "fips", kind: .boolean, fallback: "the AWS settings", doc: "FIPS host names of AWS."),
        S3Option(
            key: "accelerate", kind: .boolean, fallback: "`false`", doc: "Transfer Acceleration; no dots in the bucket."
        ),
        S3Option(
            key: "allow_bucket_creation", kind: .boolean, fallback: "`false`",
            doc: "Create the bucket when a write finds none."),
        S3Option(
            key: "allow_bucket_deletion", kind: .boolean, fallback: "`false`",
            doc: "Taken for Ray's sake; nothing here deletes a bucket."),
        S3Option(
            key: "expected_bucket_owner", kind: .text, fallback: "none",
            doc: "An AWS account id; requests fail when the bucket is another's."),
        S3Option(
            key: "request_payer", kind: .choice(["requester"]), fallback: "none", doc: "Requester pays."),
    ]

    private static let security = [
        S3Option(
            key: "tls_ca_file_path", kind: .text, fallback: "the system's trust store",
            doc: "A PEM file of certificate authorities."),
        S3Option(
            key: "tls_ca_dir_path", kind: .text, fallback: "the system's trust store",
            doc: "A directory of certificate authorities, hashed as OpenSSL does."),
        S3Option(
            key: "tls_verify_certificates", kind: .boolean, fallback: "`true`",
            doc: "`false` trusts everybody: for tests only."),
        S3Option(
            key: "server_side_encryption", kind: .choice(["AES256", "aws:kms", "aws:kms:dsse"]),
            fallback: "the bucket's", doc: "Encryption by the store (SSE-S3, SSE-KMS, DSSE-KMS)."),
        S3Option(
            key: "sse_kms_key_id", kind: .text, fallback: "the account's key",
            doc: "The KMS key; needs `server_side_encryption=aws:kms` or `aws:kms:dsse`."),
        S3Option(
            key: "bucket_key_enabled", kind: .boolean, fallback: "the bucket's",
            doc: "S3 Bucket Keys: fewer calls to KMS."),
        S3Option(
            key: "sse_customer_key", kind: .secret, place: .storageOptions, fallback: "none",
            doc: "SSE-C: 32 bytes in Base64. The store keeps no copy: lost key, lost checkpoints."),
        S3Option(
            key: "payload_signing", kind: .choice(["auto", "always", "never"]), fallback: "`auto`",
            doc: "Whether the signature covers the body's SHA-256. `auto`: over plain http only, since TLS protects it."
        ),
        S3Option(
            key: "checksum", kind: .choice(["auto", "crc32c", "md5", "none"]), fallback: "`auto`",
            doc: "What the store compares with the bytes that arrive. `auto`: CRC-32C where the store knows it, else"
                + " Content-MD5 on small objects."),
    ]

    private static let objects = [
        S3Option(
            key: "storage_class",
            kind: .choice([
                "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR",
                "EXPRESS_ONEZONE", "OUTPOSTS", "SNOW",
            ]), fallback: "the bucket's",
            doc:
                "Of objects of 128 KiB and more. Archive classes are not allowed: what is in them cannot be resumed from."
        ),
        S3Option(
            key: "acl",
            kind: .choice([
                "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read",
                "bucket-owner-read", "bucket-owner-full-control",
            ]), fallback: "the bucket's", doc: "A canned ACL."),
        S3Option(
            key: "tagging", kind: .text, fallback: "none",
            doc: "Tags of every object: `team=vision&model=vit`, at most 10."),
    ]

    private static let transfer = [
        S3Option(
            key: "part_size_bytes", kind: .integer((5 << 20)...(5 << 30)), fallback: "by size, 32 MiB or more",
            doc: "Size of the parts of large files; rounded up to a multiple of 8 MiB."),
        S3Option(
            key: "max_concurrency", kind: .integer(1...1024), fallback: "adapts itself",
            doc:
                "Requests on their way at a time, of what was opened with it; others at the endpoint are not held to it."
        ),
        S3Option(
            key: "max_retries", kind: .integer(0...1_000_000), fallback: "no limit but the time",
            doc: "Tries of one request after the first one."),
        S3Option(
            key: "retry_timeout_s", kind: .seconds(0...31_536_000), fallback: "the run's (3600)",
            doc: "A request fails when nothing has moved for so long."),
        S3Option(
            key: "connect_timeout_s", kind: .seconds(0.001...3600), fallback: "10", doc: "Of one try, TLS included."),
        S3Option(
            key: "stall_timeout_s", kind: .seconds(0.001...3600), fallback: "30", doc: "Of one try, without a byte."),
        S3Option(
            key: "bandwidth_limit_bytes_per_s", kind: .integer(65_536...(1 << 50)), fallback: "none",
            doc: "Of uploads, over all connections of the process."),
    ]

    private static let identity = [
        S3Option(
            key: "anonymous", kind: .boolean, fallback: "`false`", doc: "Requests without a signature: public buckets."),
        S3Option(
            key: "profile", kind: .text, fallback: "`AWS_PROFILE`, else `default`",
            doc: "A profile of the AWS configuration files."),
        S3Option(
            key: "access_key_id", kind: .text, place: .storageOptions, fallback: "the AWS credential chain",
            doc: "An access key; needs `secret_access_key`."),
        S3Option(
            key: "secret_access_key", kind: .secret, place: .storageOptions, fallback: "the AWS credential chain",
            doc: "Its secret."),
        S3Option(
            key: "session_token", kind: .secret, place: .storageOptions, fallback: "none",
            doc: "The token of temporary credentials."),
        S3Option(
            key: "role_arn", kind: .text, place: .storageOptions, fallback: "none",
            doc: "A role to assume with the credentials found."),
        S3Option(
            key: "role_session_name", kind: .text, place: .storageOptions, fallback: "made up",
            doc: "What the session is called in the account's logs."),
        S3Option(
            key: "external_id", kind: .secret, place: .storageOptions, fallback: "none",
            doc: "What the role's trust policy asks for."),
    ]
}
