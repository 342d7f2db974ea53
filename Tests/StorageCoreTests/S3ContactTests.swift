import Synchronization
import Testing

@testable import StorageCore

/// Servers that do not answer: for how long they are waited for, and what people are told meanwhile.
@Suite struct S3ContactTests {
    private static func unreachable(_ cause: ConnectFailure) -> StorageError {
        StorageError(
            .network, "GET http://s3.test/bucket cannot connect: nobody there",
            details: [("curl_code", 7), (ConnectFailure.detail, .string(cause.rawValue))], isRetryable: true)
    }

    private func failure(_ body: () async throws(StorageError) -> Void) async -> StorageError? {
        do throws(StorageError) {
            try await body()
            return nil
        } catch { return error }
    }

    private func elapsed(_ clock: FakeClock, _ body: () async -> Void) async -> Int64 {
        let start = clock.environment.bootMilliseconds()
        await body()
        return clock.environment.bootMilliseconds() - start
    }

    // MARK: - How long

    @Test(arguments: [ConnectFailure.unresolved, .refused, .timedOut, .handshake, .closed, .proxyRefused])
    func `an endpoint that never answered is given up after 30 s, with what to do about it`(
        cause: ConnectFailure
    ) async throws {
        let clock = FakeClock(step: 300)
        let s3 = try ScriptedS3(environment: clock.environment) { _, _ throws(StorageError) in
            throw Self.unreachable(cause)
        }
        let span = await elapsed(clock) {
            let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
            #expect(error?.code == .network && error?.message.contains(cause.advice) == true)
            #expect(error?.message.contains("s3.test:80 has never answered, in ") == true)
            #expect(error?.detailsDocument["attempts"]?.intValue == s3.lines.count)
        }
        #expect((30_000...40_000).contains(span))
    }

    @Test func `P7 once an endpoint has answered, outages are ridden out up to retry_timeout_s`() async throws {
        let clock = FakeClock(step: 2000)
        let s3 = try ScriptedS3(retryTimeout: 300_000, environment: clock.environment) {
            _, number throws(StorageError) in
            guard number > 0 else { return .error(404, "NoSuchKey") }
            throw Self.unreachable(.refused)
        }
        #expect(try await s3.store.head("k", progress: Progress()) == nil)
        let span = await elapsed(clock) {
            let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
            #expect(error?.message.contains("never answered") == false)
        }
        #expect(span >= 300_000)
    }

    @Test func `a retry_timeout_s of the store holds for its first answer, too`() async throws {
        let clock = FakeClock(step: 2000)
        let s3 = try ScriptedS3([JSONMember("retry_timeout_s", 200)], environment: clock.environment) {
            _, _ throws(StorageError) in throw Self.unreachable(.refused)
        }
        let span = await elapsed(clock) {
            _ = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        }
        #expect((200_000...240_000).contains(span))
    }

    @Test func `a connection that stands and breaks is no wrong address`() async throws {
        let clock = FakeClock(step: 2000)
        let s3 = try ScriptedS3(retryTimeout: 200_000, environment: clock.environment) { _, _ throws(StorageError) in
            throw .broken
        }
        let span = await elapsed(clock) {
            _ = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        }
        #expect(span >= 200_000)
    }

    @Test func `a port that does not speak TLS is told at once, unless it did before`() async throws {
        let wrong = try ScriptedS3 { _, _ throws(StorageError) in throw Self.unreachable(.notTLS) }
        let error = await failure { () async throws(StorageError) in try await wrong.store.put("k", [1]) }
        #expect(wrong.lines.count == 1 && error?.message.contains("scheme=http") == true)
        let passing = try ScriptedS3 { _, number throws(StorageError) in
            if number == 1 { throw Self.unreachable(.notTLS) }
            return HTTPResponse(200, ["etag": "\"e\""])
        }
        try await passing.store.put("k", [1])
        try await passing.store.put("k", [1])
        #expect(passing.lines.count == 3)
    }

    // MARK: - What is said

    @Test func `what keeps failing is told of once, and that it works again`() async throws {
        let clock = FakeClock(step: 500)
        let s3 = try ScriptedS3(retryTimeout: 3_600_000, environment: clock.environment) { _, number in
            number < 6 ? .error(503, "SlowDown") : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        #expect(s3.warnings.all.count == 2)
        let first = try #require(s3.warnings.all.first)
        #expect(first.contains(#"PutObject "s3://bucket/p/k" at s3.test has got no further for "#), "\(first)")
        #expect(first.contains(" tries); trying until 20") && first.contains("Z (retry_timeout_s=3600). Last error: "))
        #expect(first.contains("SlowDown 503") && !first.contains("never answered"))
        let last = try #require(s3.warnings.all.last)
        #expect(last.contains("s3.test answers again after ") && last.contains("(7 tries)"), "\(last)")
    }

    @Test func `an endpoint that never answered is told of with the time that it gets`() async throws {
        let clock = FakeClock(step: 500)
        let s3 = try ScriptedS3(environment: clock.environment) { _, _ throws(StorageError) in
            throw Self.unreachable(.refused)
        }
        _ = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        let first = try #require(s3.warnings.all.first)
        #expect(first.contains("nothing there has ever answered; trying until 20"))
        #expect(first.contains("Z (30 s for the first answer)"))
    }

    @Test func `what fails for a moment is not worth a word`() async throws {
        let s3 = try ScriptedS3 { _, number in
            number < 3 ? .error(500, "InternalError") : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        #expect(s3.lines.count == 4 && s3.warnings.all.isEmpty)
    }

    @Test func `64 requests that fail side by side do not fill the log`() async throws {
        let clock = FakeClock(step: 50)
        let s3 = try ScriptedS3(environment: clock.environment) { _, number in
            number < 64 * 8 ? .error(503, "SlowDown") : HTTPResponse(200, ["etag": "\"e\""])
        }
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<64 {
                group.addTask { _ = try? await s3.store.put("k\(number)", [1]) }
            }
        }
        #expect(s3.lines.count >= 64 * 9)
        // About 100 s by the clock.
        #expect((2...10).contains(s3.warnings.all.count), "\(s3.warnings.all.count)")
        #expect(s3.warnings.all.last?.contains("answers again") == true)
    }

    @Test func `keys that cannot be deleted are told of, and no answer in between is good news`() async throws {
        let clock = FakeClock(step: 500)
        let s3 = try ScriptedS3(environment: clock.environment) { request, number in
            guard request.method == "POST", number < 8 else { return HTTPResponse(200, [:], "<DeleteResult/>") }
            return HTTPResponse(
                200, [:], "<DeleteResult><Error><Key>p/a</Key><Code>InternalError</Code></Error></DeleteResult>")
        }
        try await s3.store.delete(["a", "b"], progress: Progress())
        #expect(s3.warnings.all.count >= 1 && s3.warnings.all.allSatisfy { $0.contains("DeleteObjects") })
        #expect(s3.warnings.all.allSatisfy { !$0.contains("answers again") })
        try await s3.store.delete(["c", "d"], progress: Progress())
        #expect(s3.warnings.all.last?.contains("answers again") == true)
    }

    @Test func `what an answer repeats of a secret is not told`() async throws {
        let clock = FakeClock(step: 2000)
        let s3 = try ScriptedS3(environment: clock.environment) { _, number in
            guard number < 6 else { return HTTPResponse(200, ["etag": "\"e\""]) }
            return HTTPResponse(503, [:], "<Error><Code>SlowDown</Code><Message>SECRETEXAMPLE</Message></Error>")
        }
        try await s3.store.put("k", [1])
        #expect(s3.warnings.all.count >= 2)
        #expect(s3.warnings.all.allSatisfy { !$0.contains("SECRETEXAMPLE") })
    }

    // MARK: - Counted

    @Test func `requests, retries, throttling and bytes are counted`() async throws {
        let s3 = try ScriptedS3 { request, number in
            if number == 0 { return .error(503, "SlowDown") }
            return number == 1 ? .error(500, "InternalError") : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1, 2, 3])
        try await s3.store.put("l", [1])
        let counters = JSONValue.object(s3.store.counters.members)
        #expect(counters["requests"] == 4 && counters["retries"] == 2 && counters["throttled"] == 1)
        #expect(counters["bytes_sent"] == 10 && counters["bytes_received"] == 0)
    }

    // MARK: - Over the wire

    /// What an endpoint of this machine that is none for S3 ends in; nothing there has answered for 1 s.
    private func open(_ endpoint: String) async throws -> StorageError {
        let warnings = WarningList()
        let store = try S3Store.open(
            bucket: "bucket", prefix: "",
            options: S3Options(query: [("endpoint_override", endpoint)], storageOptions: nil),
            patience: StorePatience(retryMilliseconds: 600_000, firstAnswerMilliseconds: 1000),
            transport: CurlTransport(tls: TLSOptions.system(environment: .system)), credentials: FixedCredentials(),
            environment: .system, contact: S3Contact { text, _ in warnings.add(text) })
        let error = await failure { () async throws(StorageError) in
            _ = try await store.list("", delimited: true, progress: Progress())
        }
        return try #require(error)
    }

    @Test(arguments: [
        ("http://127.0.0.1:1", "127.0.0.1:1", ConnectFailure.refused),
        ("https://no-such-host.invalid", "no-such-host.invalid:443", .unresolved),
    ])
    func `a closed port and a name that does not exist are told as such`(
        endpoint: String, place: String, cause: ConnectFailure
    ) async throws {
        let error = try await open(endpoint)
        #expect(error.code == .network && ConnectFailure(error) == cause)
        #expect(error.message.contains("\(place) has never answered") && error.message.contains(cause.advice))
    }

    @Test func `a certificate that is not trusted is told at once`() async throws {
        let authority = try TestAuthority()
        let (certificate, key) = try authority.certificate("IP:127.0.0.1")
        let server = try LoopbackServer(certificate: certificate, key: key)
        let error = try await open("https://127.0.0.1:\(server.port)")
        #expect(error.message.contains(ConnectFailure.untrusted.advice) && error.detailsDocument["attempts"] == 1)
    }

    @Test(arguments: [
        (6, "Could not resolve host: x", ConnectFailure.unresolved),
        (28, "Resolving timed out after 10000 milliseconds", .unresolved),
        (28, "SSL connection timeout", .timedOut), (28, "Operation timed out after 9 milliseconds", nil),
        (35, "error:0A00010B:SSL routines::wrong version number", .notTLS),
        (35, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x:1", .handshake),
        (52, "Empty reply from server", .closed), (56, "CONNECT tunnel failed, response 403", .proxyRefused),
        (60, "SSL: no alternative certificate subject name matches target host name 'x'", .otherName),
        (60, "SSL certificate problem: self-signed certificate", .untrusted), (18, "transfer closed", nil),
    ])
    func `curl's numbers and words say what was wrong`(code: Int32, said: String, cause: ConnectFailure?) {
        #expect(ConnectFailure(curlCode: code, said: said) == cause)
    }
}
