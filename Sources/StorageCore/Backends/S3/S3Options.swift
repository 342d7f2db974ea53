/// The options of one S3 store, typed and checked against each other.
struct S3Options: Sendable {
    enum Addressing: String, Sendable { case auto, virtual, path }
    enum Checksum: String, Sendable { case auto, crc32c, md5, none }
    enum PayloadSigning: String, Sendable { case auto, always, never }

    // Where the bucket is.
    var region: String?
    var scheme: String?
    var endpoint: String?
    var addressing = Addressing.auto
    var dualstack: Bool?
    var fips: Bool?
    var accelerate = false
    var allowBucketCreation = false
    var expectedBucketOwner: String?
    var requesterPays = false
    // Trust and integrity.
    var certificateFile: String?
    var certificateDirectory: String?
    var verifiesCertificates = true
    var encryption: S3Encryption?
    var payloadSigning = PayloadSigning.auto
    var checksum = Checksum.auto
    // Objects.
    var storageClass: String?
    var acl: String?
    /// As in a query string: encoded.
    var tagging: String?
    // Transfer.
    var partBytes: Int?
    var maximumConcurrency: Int?
    var maximumRetries: Int?
    var retryTimeoutMilliseconds: Int64?
    var timeouts = HTTPTimeouts()
    var bandwidthBytesPerSecond: Int?
    // Who asks.
    var isAnonymous = false
    var profile: String?
    var credentials: AWSCredentials?
    var role: Role?

    /// A role to assume.
    struct Role: Sendable, Equatable {
        var arn: String
        var sessionName: String?
        var externalID: String?
    }

    init() {}

    /// Reads a URI's query and `storage_options`. Fails with INVALID_ARGUMENT, naming key, value and what is allowed.
    init(query: [(key: String, value: String)], storageOptions: JSONValue?) throws(StorageError) {
        let values = S3OptionValues(try S3Option.values(query: query, storageOptions: storageOptions))
        try readPlace(values)
        try readSecurity(values)
        try readTransfer(values)
        try readIdentity(values)
        tagging = try values.text("tagging").map { text throws(StorageError) in try Self.tags(text) }
    }

    private mutating func readPlace(_ values: S3OptionValues) throws(StorageError) {
        region = values.text("region")
        scheme = values.text("scheme")
        endpoint = values.text("endpoint_override")
        addressing = values.text("addressing_style").flatMap { Addressing(rawValue: $0) } ?? .auto
        if values.boolean("force_virtual_addressing") == true {
            if addressing == .path {
                throw Self.contradiction("force_virtual_addressing", "true", "addressing_style", "path")
            }
            addressing = .virtual
        }
        dualstack = values.boolean("dualstack")
        fips = values.boolean("fips")
        accelerate = values.boolean("accelerate") ?? false
        allowBucketCreation = values.boolean("allow_bucket_creation") ?? false
        expectedBucketOwner = values.text("expected_bucket_owner")
        requesterPays = values.text("request_payer") != nil
        if accelerate, fips == true { throw Self.contradiction("accelerate", "true", "fips", "true") }
        if accelerate, endpoint != nil { throw Self.contradiction("accelerate", "true", "endpoint_override", "…") }
        if accelerate, addressing == .path {
            throw Self.contradiction("accelerate", "true", "addressing_style", "path")
        }
    }

    private mutating func readSecurity(_ values: S3OptionValues) throws(StorageError) {
        certificateFile = values.text("tls_ca_file_path")
        certificateDirectory = values.text("tls_ca_dir_path")
        verifiesCertificates = values.boolean("tls_verify_certificates") ?? true
        payloadSigning = values.text("payload_signing").flatMap { PayloadSigning(rawValue: $0) } ?? .auto
        checksum = values.text("checksum").flatMap { Checksum(rawValue: $0) } ?? .auto
        encryption = try S3Encryption(values)
        storageClass = values.text("storage_class")
        acl = values.text("acl")
    }

    private mutating func readTransfer(_ values: S3OptionValues) throws(StorageError) {
        // CRCs are kept per block, so a part is a whole number of blocks.
        partBytes = values.integer("part_size_bytes").map {
            ($0 + CRC32C.blockSize - 1) / CRC32C.blockSize * CRC32C.blockSize
        }
        maximumConcurrency = values.integer("max_concurrency")
        maximumRetries = values.integer("max_retries")
        retryTimeoutMilliseconds = values.milliseconds("retry_timeout_s")
        timeouts.connect = values.milliseconds("connect_timeout_s") ?? timeouts.connect
        timeouts.stall = values.milliseconds("stall_timeout_s") ?? timeouts.stall
        bandwidthBytesPerSecond = values.integer("bandwidth_limit_bytes_per_s")
    }

    private mutating func readIdentity(_ values: S3OptionValues) throws(StorageError) {
        isAnonymous = values.boolean("anonymous") ?? false
        profile = values.text("profile")
        switch (values.text("access_key_id"), values.text("secret_access_key")) {
        case (let id?, let secret?):
            credentials = AWSCredentials(
                accessKeyID: id, secretAccessKey: secret, sessionToken: values.text("session_token"), expiresAt: nil)
        case (nil, nil):
            if values.text("session_token") != nil { throw Self.needs("session_token", "access_key_id") }
        case (_?, nil): throw Self.needs("access_key_id", "secret_access_key")
        case (nil, _?): throw Self.needs("secret_access_key", "access_key_id")
        }
        if let arn = values.text("role_arn") {
            role = Role(
                arn: arn, sessionName: values.text("role_session_name"), externalID: values.text("external_id"))
        } else if values.text("external_id") != nil || values.text("role_session_name") != nil {
            throw Self.needs(values.text("external_id") != nil ? "external_id" : "role_session_name", "role_arn")
        }
        guard isAnonymous else { return }
        if credentials != nil { throw Self.contradiction("anonymous", "true", "access_key_id", "…") }
        if role != nil { throw Self.contradiction("anonymous", "true", "role_arn", "…") }
    }

    /// `a=b&c=d`, encoded or not, as the `x-amz-tagging` header wants it.
    private static func tags(_ text: String) throws(StorageError) -> String {
        let wrong = StorageError(
            .invalidArgument, "tagging must be tags such as team=vision&model=vit, at most 10, not \(quoted(text))",
            details: [("name", "tagging"), ("value", .string(text)), ("allowed", "key=value&key=value, at most 10")])
        let pairs = text.utf8.split(separator: UInt8(ascii: "&"), omittingEmptySubsequences: false)
        guard pairs.count <= 10 else { throw wrong }
        var encoded: [String] = []
        for pair in pairs {
            let sides = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
                .map { PercentEncoding.decode(String(decoding: $0, as: UTF8.self)) }
            guard sides.count == 2, let key = sides[0], let value = sides[1], !key.isEmpty else { throw wrong }
            encoded.append(PercentEncoding.encode(key) + "=" + PercentEncoding.encode(value))
        }
        return encoded.joined(separator: "&")
    }

    static func contradiction(_ first: String, _ value: String, _ second: String, _ other: String) -> StorageError {
        StorageError(
            .invalidArgument, "\(first)=\(value) and \(second)=\(other) contradict each other; leave one out",
            details: [("name", .string(first)), ("allowed", .string("one of \(first), \(second)"))])
    }

    static func needs(_ key: String, _ other: String) -> StorageError {
        StorageError(
            .invalidArgument, "\(key) needs \(other)",
            details: [("name", .string(key)), ("allowed", .string("\(key) together with \(other)"))])
    }
}

/// Typed access to checked values.
struct S3OptionValues {
    private let values: [String: S3OptionValue]

    init(_ values: [String: S3OptionValue]) { self.values = values }

    func text(_ key: String) -> String? {
        if case .text(let value)? = values[key] { value } else { nil }
    }

    func boolean(_ key: String) -> Bool? {
        if case .boolean(let value)? = values[key] { value } else { nil }
    }

    func integer(_ key: String) -> Int? {
        if case .integer(let value)? = values[key] { value } else { nil }
    }

    func milliseconds(_ key: String) -> Int64? {
        if case .seconds(let value)? = values[key] { Int64(value * 1000) } else { nil }
    }
}
