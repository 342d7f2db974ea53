/// What a person can do about an error of a store, in a sentence. Pure.
enum Diagnosis {
    /// nil: the message says all there is to say.
    static func advice(for error: StorageError) -> String? {
        let details = error.detailsDocument
        if let code = details["error_code"]?.stringValue, let advice = byStoreCode[code] { return advice }
        if let status = details["http_status"]?.intValue, 301...308 ~= status {
            return "The bucket is in another region: set region, or AWS_REGION"
        }
        if error.code == .network, let number = details["curl_code"]?.intValue { return byNetworkCode[number] }
        switch error.code {
        case .unauthenticated:
            return "Check with which credentials this process runs: environment, AWS_PROFILE, role of the machine"
        case .permissionDenied:
            return "Allow the operation to these credentials, for the bucket and the prefix"
        case .throttled: return "The store asks to slow down: lower max_concurrency, or spread runs over prefixes"
        default: return nil
        }
    }

    /// By S3's error codes, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
    private static let byStoreCode: [String: String] = [
        "NoSuchBucket": "Create the bucket, correct its name, or set allow_bucket_creation=true",
        "AccessDenied":
            "These credentials may not do this: allow it in the policy of the user or role, and look for a Deny in that"
            + " of the bucket",
        "InvalidAccessKeyId": "The store does not know this access key: is it of another account or endpoint?",
        "SignatureDoesNotMatch":
            "Either the secret key is wrong, or a proxy changes what is sent, or the endpoint wants another addressing"
            + " style or region",
        "RequestTimeTooSkewed": "The clocks of this machine and of the store differ by more than 15 minutes: set ours",
        "ExpiredToken": "The session has ended: log in again, or let the role be assumed anew",
        "InvalidToken": "The session token does not belong to this access key: set all three, or none",
        "AuthorizationHeaderMalformed": "The region is wrong: set region, or AWS_REGION",
        "PermanentRedirect": "The bucket is in another region: set region, or AWS_REGION",
        "InvalidBucketName": "The store does not take this bucket name",
        "KMS.DisabledException": "The KMS key is disabled",
        "KMS.NotFoundException": "The KMS key does not exist in this region",
        "InvalidStorageClass": "The store does not know this storage_class",
        "NotImplemented": "The store cannot do this",
        "SlowDown": "The store asks to slow down: lower max_concurrency, or spread runs over prefixes",
    ]

    /// By libcurl's numbers, https://curl.se/libcurl/c/libcurl-errors.html.
    private static let byNetworkCode: [Int: String] = [
        5: "The name of the proxy is not known: check https_proxy and no_proxy",
        6: "The name of the endpoint is not known to DNS: check endpoint_override, region and the resolver",
        7: "Nothing listens there, or a firewall refuses it: check endpoint_override, port and scheme",
        28: "No answer in time: a firewall that drops packets, a wrong proxy, or a store that is down",
        35: "TLS could not be agreed on: is the port one for https? Else set scheme=http",
        51: "The certificate is for another name than that of the endpoint",
        56: "The connection was cut: a proxy or load balancer in between?",
        60:
            "The certificate is not signed by an authority that this machine trusts: set tls_ca_file_path to the store's CA",
        77: "The file of certificates cannot be read: check tls_ca_file_path",
    ]
}
