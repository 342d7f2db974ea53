extension S3Store {
    /// Opens a place in a bucket. Nothing is sent yet: what is wrong with the bucket shows at the first request.
    ///
    /// `query` is that of the URI, `storageOptions` a JSON object that wins over it; AWS's environment variables and
    /// configuration files say what neither does. Conditional writes are tried in `probesBelow`, a directory below the prefix.
    /// `patience` holds without `retry_timeout_s`. Fails with
    /// INVALID_ARGUMENT, also for a proxy's URL in the environment that is none. `onTrouble` is told when the store asks to slow down and when connections break.
    static func open(
        bucket: String, prefix: String, probesBelow: String = "", query: [(key: String, value: String)],
        storageOptions: JSONValue?, patience: StorePatience, environment: Environment,
        onTrouble: (@Sendable (StoreTrouble) -> Void)? = nil
    ) throws(StorageError) -> S3Store {
        let options = try S3Options(query: query, storageOptions: storageOptions)
        let files = AuthFiles(environment: environment)
        let settings = try AWSSettings(files, profile: options.profile)
        var tls = TLSOptions.system(environment: environment)
        let bundle = options.certificateFile ?? settings.caBundlePath
        if bundle != nil || options.certificateDirectory != nil {
            tls = TLSOptions(caFile: bundle, caDirectory: options.certificateDirectory)
        }
        // Services of credentials are AWS's own whatever is said of the store's certificate.
        let proxies = try ProxyOptions.system(environment: environment)
        let request = CredentialsRequest(
            context: AuthContext(transport: CurlTransport(tls: tls, proxies: proxies), files: files),
            settings: settings, tls: tls, proxies: proxies, profile: options.profile, given: options.credentials,
            role: options.role.map {
                STSClient.Role(arn: $0.arn, sessionName: $0.sessionName, externalID: $0.externalID)
            })
        tls.verifies = options.verifiesCertificates
        return try open(
            bucket: bucket, prefix: prefix, options: options.following(settings),
            settings: S3Endpoint.Settings(settings),
            probesBelow: probesBelow, patience: patience, transport: CurlTransport(tls: tls, proxies: proxies),
            credentials: options.isAnonymous ? nil : try request.provider(.shared), environment: environment,
            onTrouble: onTrouble)
    }

    /// The same with everything that touches the world given. Without `memory` and `contact` what is found out about
    /// the bucket and its server is shared by the process.
    static func open(
        bucket: String, prefix: String, options: S3Options, settings: S3Endpoint.Settings = .init(),
        probesBelow: String = "", patience: StorePatience, firstPauseMilliseconds: Int64 = 100,
        transport: any HTTPTransport,
        credentials: (any AWSCredentialsProvider)?, environment: Environment, memory: S3BucketMemory? = nil,
        contact: S3Contact? = nil, onTrouble: (@Sendable (StoreTrouble) -> Void)? = nil
    ) throws(StorageError) -> S3Store {
        let endpoint = try S3Endpoint(bucket: bucket, options: options, settings: settings)
        if case .byCustomer? = options.encryption, endpoint.scheme == "http", !endpoint.isLoopback {
            throw StorageError(
                .invalidArgument,
                "sse_customer_key goes along with every request, so it needs https, not \(endpoint.host)",
                details: [("name", "sse_customer_key"), ("allowed", "https")])
        }
        var policy = RetryPolicy(
            timeoutMilliseconds: options.retryTimeoutMilliseconds ?? patience.retryMilliseconds,
            firstAnswerMilliseconds: options.retryTimeoutMilliseconds ?? patience.firstAnswerMilliseconds,
            firstPauseMilliseconds: firstPauseMilliseconds)
        policy.attempts = options.maximumRetries.map { $0 + 1 }
        let client = S3Client(
            keys: S3KeySpace(prefix: prefix, bucket: bucket), endpoint: endpoint, options: options, policy: policy,
            transport: transport, credentials: credentials, memory: memory ?? .shared(endpoint),
            contact: contact ?? .shared(endpoint), clock: ClockSkew(), environment: environment, onTrouble: onTrouble)
        return S3Store(client, probesBelow: probesBelow)
    }
}

extension S3Endpoint.Settings {
    init(_ settings: AWSSettings) {
        region = settings.region
        endpointURL = settings.endpoint(of: "s3")?.url
        usesDualstack = settings.usesDualstack ?? false
        usesFIPS = settings.usesFIPS ?? false
    }
}

extension S3Options {
    /// With what AWS's settings say and no option does.
    func following(_ settings: AWSSettings) -> S3Options {
        var options = self
        if checksum == .auto, settings.requestChecksums == .whenRequired { options.checksum = .none }
        if addressing == .auto, let style = settings.addressingStyle.flatMap({ Addressing(rawValue: $0) }) {
            options.addressing = style
        }
        if settings.usesAccelerate == true, endpoint == nil, fips != true { options.accelerate = true }
        options.fips = fips ?? settings.usesFIPS
        return options
    }
}
