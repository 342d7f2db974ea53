/// What a person can do about an error of a store, in a sentence. Pure.
enum Diagnosis {
    /// nil: the message says all there is to say.
    static func advice(for error: StorageError) -> String? {
        let details = error.detailsDocument
        if let cause = ConnectFailure(error) {
            // Who opened the store may have said it.
            return error.message.contains(cause.advice) ? nil : cause.advice
        }
        if error.code == .network, let number = details["curl_code"]?.intValue { return byNetworkCode[number] }
        // What has no answer of a store behind it says itself what is to be done.
        guard let status = details["http_status"]?.intValue else { return nil }
        let code = details["error_code"]?.stringValue
        // Said in the message.
        if S3ErrorCode.of(status: status, code: code).advice != nil { return nil }
        if let code, let advice = byStoreCode[code] { return advice }
        switch error.code {
        case .unauthenticated:
            return "Check with which credentials this process runs: environment, AWS_PROFILE, role of the machine"
        case .permissionDenied:
            return "Allow the operation to these credentials, for the bucket and the prefix"
        case .throttled: return "The store asks to slow down: lower max_concurrency, or spread runs over prefixes"
        default: return nil
        }
    }

    /// By S3's error codes, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, those of which `S3ErrorCode`
    /// says nothing.
    private static let byStoreCode: [String: String] = [
        "InvalidBucketName": "The store does not take this bucket name",
        "InvalidStorageClass": "The store does not know this storage_class",
        "NotImplemented": "The store cannot do this",
    ]

    /// By libcurl's numbers, https://curl.se/libcurl/c/libcurl-errors.html.
    private static let byNetworkCode: [Int: String] = [
        28: "No answer in time: a proxy that is wrong, or a store that has too much to do",
        56: "The connection was cut: a proxy or load balancer in between?",
        77: "The file of certificates cannot be read: check tls_ca_file_path",
    ]
}
