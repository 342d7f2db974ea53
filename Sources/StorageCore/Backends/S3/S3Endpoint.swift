/// Where a bucket is reached, and how the URL of a key is made. Pure.
struct S3Endpoint: Sendable, Equatable {
    /// What AWS's environment and configuration files say; options win over it.
    struct Settings: Sendable, Equatable {
        var region: String?
        var endpointURL: String?
        var usesDualstack = false
        var usesFIPS = false
    }

    var scheme: String
    /// Without the bucket.
    var host: String
    var port: Int?
    /// Of an endpoint behind a path; empty or beginning with `/`.
    var basePath = ""
    let bucket: String
    var isPathStyle: Bool
    /// For the signature; nil: not known yet, `us-east-1` until the store says otherwise.
    var region: String?
    /// Whether the host names follow AWS's scheme, so that another region means another host.
    let isAWS: Bool
    /// S3 Express One Zone: sessions instead of plain credentials, its own service name.
    let isExpress: Bool
    private let usesDualstack: Bool
    private let usesFIPS: Bool
    private let accelerates: Bool

    /// The server, whatever the bucket.
    var server: String { "\(scheme)://\(host):\(port ?? 0)" }

    var signingRegion: String { region ?? "us-east-1" }

    /// Fails with INVALID_ARGUMENT when options contradict each other or the bucket's name.
    init(bucket: String, options: S3Options, settings: Settings) throws(StorageError) {
        self.bucket = bucket
        region = options.region ?? settings.region
        if region == "aws-global" { region = "us-east-1" }
        if let region, !Self.isRegion(region) { throw Self.refusal("region", region, "letters, digits and '-'") }
        usesDualstack = options.dualstack ?? settings.usesDualstack
        usesFIPS = options.fips ?? settings.usesFIPS
        accelerates = options.accelerate
        isExpress = bucket.hasSuffix("--x-s3")
        // What an option says about AWS's host names is meant for AWS; an endpoint of the environment gives way to it.
        let endpoint = options.endpoint ?? (options.accelerate ? nil : settings.endpointURL)
        isAWS = endpoint == nil
        scheme = options.scheme ?? "https"
        host = ""
        port = nil
        isPathStyle = false
        if let endpoint {
            try readEndpoint(endpoint, options)
        } else {
            if isExpress, region == nil {
                throw Self.refusal("region", "", "the bucket's region, which S3 Express needs (region or AWS_REGION)")
            }
            host = awsHost
        }
        isPathStyle = try choosesPathStyle(options.addressing)
    }

    // MARK: - URLs

    /// The URL of a key (of the bucket without one). Keys are encoded once and never normalised; queries are sorted by name.
    func url(key: String?, query: [(String, String)] = []) -> HTTPURL {
        var path = basePath
        if isPathStyle { path += "/" + bucket }
        path += "/"
        if let key { path += PercentEncoding.encode(key, keeping: "/") } else if isPathStyle { path.removeLast() }
        let pairs = query.map { (PercentEncoding.encode($0.0), PercentEncoding.encode($0.1)) }.sorted { $0 < $1 }
        return HTTPURL(
            scheme: scheme, host: isPathStyle ? host : "\(bucket).\(host)", port: port, path: path,
            query: pairs.map { "\($0.0)=\($0.1)" }.joined(separator: "&"))
    }

    /// The same bucket in the region that the store named.
    func moved(to region: String) -> S3Endpoint {
        var moved = self
        moved.region = region
        if isAWS { moved.host = moved.awsHost }
        return moved
    }

    // MARK: - Hosts

    /// AWS's host for the region, without the bucket.
    private var awsHost: String {
        let region = signingRegion
        let suffix = Self.partitions.first { region.hasPrefix($0.prefix) }?.suffix ?? "amazonaws.com"
        if accelerates { return usesDualstack ? "s3-accelerate.dualstack.\(suffix)" : "s3-accelerate.\(suffix)" }
        if isExpress, let zone = Self.zone(of: bucket) {
            return "s3express-\(usesFIPS ? "fips-" : "")\(zone).\(usesDualstack ? "dualstack." : "")\(region).\(suffix)"
        }
        return "s3\(usesFIPS ? "-fips" : "").\(usesDualstack ? "dualstack." : "")\(region).\(suffix)"
    }

    /// Regions outside the commercial partition, by how their names begin; longer prefixes first.
    private static let partitions: [(prefix: String, suffix: String)] = [
        ("cn-", "amazonaws.com.cn"), ("us-isob-", "sc2s.sgov.gov"), ("us-isof-", "csp.hci.ic.gov"),
        ("us-iso-", "c2s.ic.gov"), ("eu-isoe-", "cloud.adc-e.uk"), ("eusc-", "amazonaws.eu"),
    ]

    /// `usw2-az1` of `name--usw2-az1--x-s3`.
    private static func zone(of bucket: String) -> String? {
        let bytes = Array(bucket.utf8.dropLast(6))
        for start in bytes.indices.reversed() where start + 1 < bytes.count {
            guard bytes[start] == UInt8(ascii: "-"), bytes[start + 1] == UInt8(ascii: "-") else { continue }
            let zone = bytes[(start + 2)...]
            return zone.isEmpty ? nil : String(decoding: zone, as: UTF8.self)
        }
        return nil
    }

    private mutating func readEndpoint(_ text: String, _ options: S3Options) throws(StorageError) {
        let allowed = "host, host:port, http://host:port or https://host:port"
        let url = text.contains("://") ? text : "\(scheme)://\(text)"
        guard let parsed = HTTPURL(url), parsed.query.isEmpty else {
            // It may hold credentials, so it is not repeated.
            throw Self.refusal("endpoint_override", nil, allowed)
        }
        if let scheme = options.scheme, scheme != parsed.scheme {
            throw S3Options.contradiction("scheme", scheme, "endpoint_override", parsed.shown)
        }
        scheme = parsed.scheme
        host = parsed.host
        port = parsed.port
        basePath = parsed.path
        while basePath.utf8.last == UInt8(ascii: "/") { basePath.removeLast() }
    }

    private func choosesPathStyle(_ style: S3Options.Addressing) throws(StorageError) -> Bool {
        let hasDots = bucket.utf8.contains(UInt8(ascii: "."))
        let isAddress = host.utf8.first == UInt8(ascii: "[") || Self.isIPv4(host)
        if accelerates, hasDots {
            throw Self.refusal("accelerate", "true", "false for a bucket with dots in its name")
        }
        switch style {
        case .path:
            if isExpress, isAWS { throw Self.refusal("addressing_style", "path", "auto or virtual for S3 Express") }
            return true
        case .virtual:
            if isAddress { throw Self.refusal("addressing_style", "virtual", "path for an endpoint without a name") }
            // The certificate's wildcard covers one label.
            if hasDots, scheme == "https", isAWS {
                throw Self.refusal("addressing_style", "virtual", "path for a bucket with dots under TLS")
            }
            return false
        case .auto:
            if isAWS { return hasDots && scheme == "https" }
            return true
        }
    }

    static func isIPv4(_ host: String) -> Bool {
        let parts = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { Decimal.digits($0).map { $0 < 256 } ?? false }
    }

    static func isRegion(_ text: String) -> Bool {
        1...63 ~= text.utf8.count
            && text.utf8.allSatisfy {
                Decimal.isDigit($0) || (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0)
                    || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
            }
    }

    private static func refusal(_ key: String, _ value: String?, _ allowed: String) -> StorageError {
        let shown = value.map { ", not \(quoted($0))" } ?? ""
        return StorageError(
            .invalidArgument, "\(key) must be \(allowed)\(shown)",
            details: [("name", .string(key)), ("allowed", .string(allowed))])
    }
}
