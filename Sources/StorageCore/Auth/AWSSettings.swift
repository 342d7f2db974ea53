/// What AWS's environment variables and the chosen profile say about regions, endpoints and checksums. Read once, when a
/// path is opened; credentials are read again whenever they are needed.
struct AWSSettings: Sendable {
    enum ChecksumMode: String, Sendable, CaseIterable {
        /// Whenever the protocol has a place for it.
        case whenSupported = "when_supported"
        /// Only where a request is refused without it.
        case whenRequired = "when_required"
    }
    /// An endpoint and what said so, for error texts.
    struct Endpoint: Sendable, Equatable {
        var url: String
        var source: String
    }

    let profileName: String
    /// Somebody chose the profile, so that it must exist.
    let profileIsChosen: Bool
    let configuration: AWSConfiguration
    /// nil: neither the environment nor the profile says.
    let region: String?
    let usesDualstack: Bool?
    let usesFIPS: Bool?
    let requestChecksums: ChecksumMode
    let responseChecksums: ChecksumMode
    /// A file with the certificates to trust instead of the system's.
    let caBundlePath: String?
    /// `path`, `virtual` or `auto`, of the profile's `s3` section.
    let addressingStyle: String?
    let usesAccelerate: Bool?
    /// Sessions of S3 Express are not to be used.
    let disablesExpressSessions: Bool?
    private let ignoresEndpoints: Bool
    private let environment: Environment

    /// `profile`: chosen by an argument; nil: `AWS_PROFILE`, else `default`. Fails with INVALID_ARGUMENT on a value that
    /// means nothing, on a file that breaks the format, and on a chosen profile that is nowhere.
    init(_ files: AuthFiles, profile chosen: String? = nil) throws(StorageError) {
        let variable = files.environment.variable
        let configuration = try AWSConfiguration(files)
        let name = chosen ?? variable("AWS_PROFILE") ?? variable("AWS_DEFAULT_PROFILE")
        let profile = configuration.profile(name ?? "default")
        if let name, name != "default", profile == nil { throw Self.noProfile(name, configuration) }
        let s3 = ConfigFile.nested(profile?["s3"])

        func flag(_ variableName: String, _ key: String, nested: String? = nil) throws(StorageError) -> Bool? {
            if let value = try files.flag(variableName) { return value }
            guard let text = profile?[key] ?? nested.flatMap({ s3[$0] }) else { return nil }
            return try AuthFiles.flag(text, named: "\(key) of profile \(quoted(name ?? "default"))")
        }
        func mode(_ variableName: String, _ key: String) throws(StorageError) -> ChecksumMode {
            guard let text = variable(variableName) ?? profile?[key] else { return .whenSupported }
            guard let mode = ChecksumMode(rawValue: text.lowercased()) else {
                throw StorageError(
                    .invalidArgument,
                    "\(variableName) (or \(key) of the profile) is \(quoted(text)): use when_supported or when_required",
                    details: [("name", .string(variableName)), ("value", .string(text))])
            }
            return mode
        }
        profileName = name ?? "default"
        profileIsChosen = name != nil
        self.configuration = configuration
        environment = files.environment
        region = try (variable("AWS_REGION") ?? variable("AWS_DEFAULT_REGION") ?? profile?["region"]).map {
            text throws(StorageError) in try AWSRegion.checked(text)
        }
        usesDualstack = try flag(
            "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint", nested: "use_dualstack_endpoint")
        usesFIPS = try flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")
        ignoresEndpoints =
            try flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls") ?? false
        disablesExpressSessions = try flag(
            "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "s3_disable_express_session_auth")
        requestChecksums = try mode("AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation")
        responseChecksums = try mode("AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation")
        caBundlePath = (variable("AWS_CA_BUNDLE") ?? profile?["ca_bundle"]).flatMap { files.expanded($0) }
        addressingStyle = s3["addressing_style"]
        usesAccelerate = try s3["use_accelerate_endpoint"].map { text throws(StorageError) in
            try AuthFiles.flag(text, named: "use_accelerate_endpoint of profile \(quoted(name ?? "default"))")
        }
    }

    /// The endpoint that was configured for a service (`s3`, `sts`, `sso`): the environment wins over the profile, what is
    /// said of the service over what is said of all.
    func endpoint(of service: String) -> Endpoint? {
        guard !ignoresEndpoints else { return nil }
        for name in ["AWS_ENDPOINT_URL_\(service.uppercased())", "AWS_ENDPOINT_URL"] {
            if let url = environment.variable(name) { return Endpoint(url: url, source: name) }
        }
        guard let profile = configuration.profile(profileName) else { return nil }
        if let section = profile["services"],
            let url = configuration.service(service, in: section)["endpoint_url"], !url.isEmpty
        {
            return Endpoint(url: url, source: "endpoint_url of \(service) in [services \(section)]")
        }
        return profile["endpoint_url"].map {
            Endpoint(url: $0, source: "endpoint_url of profile \(quoted(profileName))")
        }
    }

    private static func noProfile(_ name: String, _ configuration: AWSConfiguration) -> StorageError {
        let names = configuration.profileNames
        var text =
            "there is no profile \(quoted(name)) in \(configuration.paths.map { quoted($0) }.joined(separator: " or "))"
        if !names.isEmpty { text += "; there are: " + names.prefix(20).map { quoted($0) }.joined(separator: ", ") }
        if !configuration.problems.isEmpty { text += " (\(configuration.problems.joined(separator: "; ")))" }
        return StorageError(.invalidArgument, text, details: [("name", "profile"), ("value", .string(name))])
    }
}

/// Names of regions, and the host names of AWS's services in them.
enum AWSRegion {
    /// A region becomes part of a host name, so nothing but letters, digits and `-` may pass.
    static func checked(_ text: String) throws(StorageError) -> String {
        let isName =
            !text.isEmpty && text.utf8.count <= 63
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x61...0x7A, 0x41...0x5A, UInt8(ascii: "-"): true
                default: false
                }
            }
        guard isName, text.utf8.first != UInt8(ascii: "-") else {
            throw StorageError(
                .invalidArgument, "\(quoted(text)) is no AWS region: letters, digits and '-', such as us-east-1",
                details: [("name", "region"), ("value", .string(text))])
        }
        return text.lowercased()
    }

    /// The domain of the region's partition.
    static func domain(_ region: String, isDualstack: Bool = false) -> String {
        let partitions: [(prefix: String, domain: String, dualstack: String)] = [
            ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
            ("us-isob-", "sc2s.sgov.gov", "sc2s.sgov.gov"), ("us-isof-", "csp.hci.ic.gov", "csp.hci.ic.gov"),
            ("us-iso-", "c2s.ic.gov", "c2s.ic.gov"), ("eu-isoe-", "cloud.adc-e.uk", "cloud.adc-e.uk"),
            ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
        ]
        let partition = partitions.first { region.hasPrefix($0.prefix) }
        return isDualstack ? partition?.dualstack ?? "api.aws" : partition?.domain ?? "amazonaws.com"
    }
}
