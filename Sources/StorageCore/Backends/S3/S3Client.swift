internal import CStorage
internal import Synchronization

/// Carries out operations on one bucket: addresses and signs each try anew, and tries again what another try may mend.
final class S3Client: Sendable {
    let keys: S3KeySpace
    let options: S3Options
    let memory: S3BucketMemory
    let environment: Environment
    private let home: S3Endpoint
    private let transport: any HTTPTransport
    /// nil: requests without a signature.
    let provider: (any AWSCredentialsProvider)?
    private let policy: RetryPolicy
    private let clock: ClockSkew
    private let session = S3Session()
    private let signingKeys = SigningKeys()
    private let budget: Mutex<RetryBudget>
    private let onTrouble: (@Sendable (StoreTrouble) -> Void)?
    private let contact: S3Contact
    let counters = StoreCounters()

    /// Longer than the usual stall limit, for requests that the store works on in silence.
    private static let slowStall: Int64 = 300_000

    init(
        keys: S3KeySpace, endpoint: S3Endpoint, options: S3Options, policy: RetryPolicy, transport: any HTTPTransport,
        credentials: (any AWSCredentialsProvider)?, memory: S3BucketMemory, contact: S3Contact,
        clock: ClockSkew, environment: Environment, onTrouble: (@Sendable (StoreTrouble) -> Void)? = nil
    ) {
        self.keys = keys
        home = endpoint
        self.options = options
        self.policy = policy
        self.transport = transport
        provider = credentials
        self.memory = memory
        self.contact = contact
        self.clock = clock
        self.environment = environment
        self.onTrouble = onTrouble
        budget = Mutex(RetryBudget(now: environment.bootMilliseconds()))
    }

    /// Where it was opened.
    var server: String { home.server }

    /// Where requests go now, with what the bucket said about its region.
    var endpoint: S3Endpoint { memory.current.region.map { home.moved(to: $0) } ?? home }

    /// Throws what no try mended: errors of network and credentials, damage, cancellation. A refusal by the store is a
    /// value, since some of them are answers.
    func send(_ operation: S3Operation, progress: Progress) async throws(StorageError) -> S3Outcome {
        var attempts = S3Attempts(operation, policy: policy)
        let bytes = Mutex(ByteProgress(now: environment.bootMilliseconds()))
        var redirect: HTTPURL?
        var rejected: AWSCredentials?
        let id = contact.begin()
        defer { contact.ended(id) }
        while true {
            try progress.checkCancelled()
            attempts.begin()
            bytes.withLock { $0.beginTry(at: operation.receipt?.current.length ?? 0) }
            let endpoint = self.endpoint
            let shown = shown(operation, endpoint)
            var used: AWSCredentials?
            var address: HTTPURL?
            var failure: S3Failure
            do throws(StorageError) {
                used = try await credentials(for: operation, rejected: rejected, progress: progress)
                rejected = nil
                var request = try prepare(operation, endpoint, redirect, used)
                request.usesFreshConnection = attempts.needsFreshConnection
                address = request.url
                counters.send(isRepeated: attempts.number > 1)
                let response = try await transport.send(
                    request, timeouts: timeouts(operation), progress: progress
                ) { [environment, counters] count, way in
                    let now = environment.bootMilliseconds()
                    bytes.withLock { $0.move(count, now: now) }
                    counters.move(count, way)
                }
                contact.heard()
                switch S3Verdict.of(response, operation: operation, shown: shown) {
                case .success(let document):
                    budget.withLock { $0.succeeded(now: environment.bootMilliseconds()) }
                    contact.answered(id, shown, tries: attempts.number, environment: environment)
                    return .success(S3Success(response: response, document: document, attempts: attempts.number))
                case .failure(let answered): failure = answered
                }
            } catch {
                try progress.checkCancelled()
                failure = S3Failure(error, shown: shown)
            }
            let now = environment.now() + clock.offset
            let lesson = attempts.lesson(
                from: failure, endpoint: endpoint, now: now, isTemporary: used?.sessionToken != nil)
            if let lesson {
                switch lesson {
                case .region(let region): memory.learn { $0.region = region }
                case .host(let url): redirect = url
                case .clock(let storeTime): clock.learn(storeTime: storeTime, localTime: environment.now())
                case .credentials: rejected = used
                }
                continue
            }
            tell(of: failure)
            let idle = environment.bootMilliseconds() - bytes.withLock { $0.advancedAt }
            let hasAnswered = contact.hasAnswered
            switch attempts.next(
                after: failure, elapsedMilliseconds: idle, random: random(), hasAnswered: hasAnswered)
            {
            case .again: break
            case .wait(let pause):
                contact.failed(
                    id,
                    S3Contact.Failing(
                        shown: shown, error: redacted(failure.error, used), tries: attempts.number, idle: idle,
                        policy: attempts.policy(after: failure, hasAnswered: hasAnswered)),
                    environment: environment)
                let waited = try await rest(pause, progress)
                bytes.withLock { $0.excuse(waited) }
            case .giveUp:
                failure.error.details.append(("attempts", JSONValue(attempts.number)))
                failure.error = redacted(failure.error, used)
                guard failure.status != 0 else {
                    if let address, let cause = failure.connectFailure, !hasAnswered || cause.isCertain {
                        failure.error.message += S3Contact.explanation(
                            cause, url: address, tries: attempts.number, elapsed: idle)
                    }
                    throw failure.error
                }
                if !failure.error.isRetryable {
                    contact.answered(id, shown, tries: attempts.number, environment: environment)
                }
                return .refusal(
                    S3Refusal(
                        status: failure.status, code: failure.code, error: failure.error,
                        followsUncertainty: attempts.isUncertain, isDocument: failure.isDocument,
                        askedPauseMilliseconds: failure.askedPauseMilliseconds))
            }
        }
    }

    // MARK: - One try

    private func prepare(
        _ operation: S3Operation, _ endpoint: S3Endpoint, _ redirect: HTTPURL?, _ credentials: AWSCredentials?
    ) throws(StorageError) -> HTTPRequest {
        var url = endpoint.url(key: operation.key, query: operation.query)
        if let redirect {
            url.host = redirect.host
            url.port = redirect.port
        }
        var request = HTTPRequest(operation.method, url, headers: operation.headers, body: operation.body)
        request.headers += operation.rangeHeaders
        request.sink = operation.sink
        request.range = operation.range
        request.receipt = operation.receipt
        request.sendLimit = options.bandwidthBytesPerSecond
        request.headers.append(HTTPHeader("User-Agent", "raystorage/" + String(cString: cs_version())))
        if let owner = options.expectedBucketOwner {
            request.headers.append(HTTPHeader("x-amz-expected-bucket-owner", owner))
        }
        if options.requesterPays { request.headers.append(HTTPHeader("x-amz-request-payer", "requester")) }
        guard let credentials else { return request }
        let signer = SigV4Signer(
            region: endpoint.signingRegion, service: endpoint.isExpress ? "s3express" : "s3", keys: signingKeys)
        return signer.signed(
            request, credentials: credentials, at: environment.now() + clock.offset, payload: try payload(request))
    }

    private func credentials(
        for operation: S3Operation, rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        guard let provider else { return nil }
        guard home.isExpress, operation.name != Self.createSession else {
            return try await real(provider, rejected, progress)
        }
        return try await session.credentials(rejected: rejected, now: environment.now(), progress: progress) {
            () async throws(StorageError) -> AWSCredentials in
            try await openSession(progress)
        }
    }

    private func real(
        _ provider: any AWSCredentialsProvider, _ rejected: AWSCredentials?, _ progress: Progress
    ) async throws(StorageError) -> AWSCredentials {
        if let found = try await provider.credentials(refreshing: rejected, progress: progress) { return found }
        throw StorageError(
            .unauthenticated,
            "no AWS credentials: looked at \(provider.name); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a"
                + " role of the machine, storage_options, or anonymous=true for a public bucket",
            details: [("provider", .string(provider.name))])
    }

    private func timeouts(_ operation: S3Operation) -> HTTPTimeouts {
        var timeouts = options.timeouts
        if operation.isSlow { timeouts.stall = max(timeouts.stall, Self.slowStall) }
        return timeouts
    }

    func shown(_ operation: S3Operation, _ endpoint: S3Endpoint) -> S3Shown {
        let path = operation.key.map { "s3://\(keys.bucket)/\($0)" } ?? keys.root
        return S3Shown(
            operation: operation.name, path: path, endpoint: endpoint.url(key: nil).authority,
            isSigned: provider != nil)
    }

    // MARK: - Sessions of S3 Express

    private static let createSession = "CreateSession"

    private func openSession(_ progress: Progress) async throws(StorageError) -> AWSCredentials {
        var operation = S3Operation(Self.createSession, "GET", key: nil, query: [("session", "")]).answering(
            .document("CreateSessionResult"))
        operation.headers.append(HTTPHeader("x-amz-create-session-mode", "ReadWrite"))
        if case .byStore = options.encryption, let encryption = options.encryption {
            operation.headers += encryption.creationHeaders
        }
        let success = try await send(operation, progress: progress).get()
        guard let credentials = S3Session.read(success.document) else {
            throw S3Failure.garbage(success.response, shown: shown(operation, endpoint)).error
        }
        return credentials
    }

    // MARK: - Between tries

    /// Tells whoever bounds the requests.
    func tell(of failure: S3Failure) {
        if failure.remedy == .slowDown {
            counters.throttle()
            onTrouble?(.throttled)
        }
        if failure.status == 0, failure.error.code == .timeout || failure.error.isRetryable { onTrouble?(.timedOut) }
    }

    /// For an operation that goes on in rounds.
    func rounds() -> S3Rounds {
        S3Rounds(policy: policy, id: contact.begin(), now: environment.bootMilliseconds())
    }

    /// There are no more rounds.
    func end(_ rounds: S3Rounds) { contact.ended(rounds.id) }

    /// The pause between two rounds, as between tries; `error`, with the number of tries, when there is to be no further one.
    func pause(
        _ rounds: inout S3Rounds, _ operation: S3Operation, after error: StorageError, tries: Int = 1,
        asked: Int64? = nil, progress: Progress
    ) async throws(StorageError) {
        let now = environment.bootMilliseconds()
        let pause = rounds.pause(after: error, tries: tries, asked: asked, now: now, random: random())
        guard let pause else {
            var error = error
            error.details.removeAll { $0.key == "attempts" }
            error.details.append(("attempts", JSONValue(rounds.tries)))
            throw error
        }
        contact.failed(
            rounds.id,
            S3Contact.Failing(
                shown: shown(operation, endpoint), error: error, tries: rounds.tries, idle: now - rounds.advancedAt,
                policy: rounds.policy),
            environment: environment)
        rounds.excuse(try await rest(pause, progress))
    }

    /// Pauses without the request's slot, for as long as the budget wants at least; the milliseconds that it had to wait for
    /// the slot: to wait for others is not to fail.
    private func rest(_ milliseconds: Int64, _ progress: Progress) async throws(StorageError) -> Int64 {
        let token = budget.withLock { $0.take(now: environment.bootMilliseconds()) }
        progress.slot?.release()
        try await sleep(max(milliseconds, token), progress)
        guard let slot = progress.slot else { return 0 }
        let rested = environment.bootMilliseconds()
        try await slot.reclaim()
        return environment.bootMilliseconds() - rested
    }

    /// Sleeps in slices, so that a cancellation is answered at once.
    private func sleep(_ milliseconds: Int64, _ progress: Progress) async throws(StorageError) {
        var rest = milliseconds
        while rest > 0 {
            try progress.checkCancelled()
            let slice = min(rest, 100)
            await Engine.shared.sleep(milliseconds: slice)
            rest -= slice
        }
    }

    private func random() -> Double {
        Double(UInt32(environment.randomHex(4), radix: 16) ?? 0) / Double(UInt32.max)
    }

    /// What a server says may hold what we sent.
    private func redacted(_ error: StorageError, _ credentials: AWSCredentials?) -> StorageError {
        var secrets = [credentials?.secretAccessKey, credentials?.sessionToken].compactMap { $0 }
        if case .byCustomer(let key, _) = options.encryption { secrets.append(key) }
        // Shorter ones are words, not keys.
        guard secrets.contains(where: { $0.utf8.count >= 8 && error.message.contains($0) }) else { return error }
        var copy = error
        copy.message = "(an answer that repeats a secret, left out)"
        return copy
    }
}
