/// Encryption at rest that the caller asks the store for.
enum S3Encryption: Sendable, Equatable, CustomStringConvertible {
    /// SSE-S3, SSE-KMS or DSSE-KMS: `algorithm` as the header has it.
    case byStore(algorithm: String, keyID: String?, bucketKey: Bool?)
    /// SSE-C: the key in Base64 and its MD5.
    case byCustomer(key: String, digest: String)

    var description: String {
        switch self {
        case .byStore(let algorithm, _, _): algorithm
        case .byCustomer: "SSE-C"
        }
    }

    init?(_ values: S3OptionValues) throws(StorageError) {
        let algorithm = values.text("server_side_encryption")
        let keyID = values.text("sse_kms_key_id")
        let bucketKey = values.boolean("bucket_key_enabled")
        if let key = values.text("sse_customer_key") {
            if let algorithm {
                throw S3Options.contradiction("sse_customer_key", "…", "server_side_encryption", algorithm)
            }
            guard let bytes = Base64.decode(key), bytes.count == 32 else {
                throw StorageError(
                    .invalidArgument, "sse_customer_key must be 32 bytes in Base64",
                    details: [("name", "sse_customer_key"), ("allowed", "32 bytes in Base64")])
            }
            self = .byCustomer(key: Base64.encode(bytes), digest: Base64.encode(Hashing.md5(bytes)))
            return
        }
        guard let algorithm else {
            if keyID != nil { throw S3Options.needs("sse_kms_key_id", "server_side_encryption=aws:kms") }
            if bucketKey != nil { throw S3Options.needs("bucket_key_enabled", "server_side_encryption=aws:kms") }
            return nil
        }
        if algorithm == "AES256", keyID != nil {
            throw S3Options.contradiction("sse_kms_key_id", "…", "server_side_encryption", algorithm)
        }
        self = .byStore(algorithm: algorithm, keyID: keyID, bucketKey: bucketKey)
    }

    /// Headers of requests that begin an object: PUT and the start of an upload in parts.
    var creationHeaders: [HTTPHeader] {
        switch self {
        case .byStore(let algorithm, let keyID, let bucketKey):
            var headers = [HTTPHeader("x-amz-server-side-encryption", algorithm)]
            if let keyID { headers.append(HTTPHeader("x-amz-server-side-encryption-aws-kms-key-id", keyID)) }
            if let bucketKey {
                headers.append(
                    HTTPHeader("x-amz-server-side-encryption-bucket-key-enabled", bucketKey ? "true" : "false"))
            }
            return headers
        case .byCustomer: return accessHeaders
        }
    }

    /// The same for the same settings. Of a customer's key its MD5 goes in, which tells nothing of 32 random bytes.
    var fingerprint: String {
        let settings: [String]
        switch self {
        case .byStore(let algorithm, let keyID, let bucketKey):
            settings = [algorithm, keyID ?? "", bucketKey.map { $0 ? "true" : "false" } ?? ""]
        case .byCustomer(_, let digest): settings = ["SSE-C", digest]
        }
        return String(SHA256.hex(Array(settings.joined(separator: "\n").utf8)).prefix(16))
    }

    /// Headers of every request about content that exists: parts, reads, HEAD, the end of an upload.
    var accessHeaders: [HTTPHeader] {
        guard case .byCustomer(let key, let digest) = self else { return [] }
        return [
            HTTPHeader("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            HTTPHeader("x-amz-server-side-encryption-customer-key", key),
            HTTPHeader("x-amz-server-side-encryption-customer-key-MD5", digest),
        ]
    }
}
