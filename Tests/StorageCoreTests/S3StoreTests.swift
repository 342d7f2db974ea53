import Synchronization
import Testing

@testable import StorageCore

/// Whole objects against odd answers. Each script is what some store, proxy or network has done to somebody.
@Suite struct S3StoreTests {
    private let progress = Progress()

    private func failure(_ body: () async throws(StorageError) -> Void) async -> StorageError? {
        do throws(StorageError) {
            try await body()
            return nil
        } catch { return error }
    }

    // MARK: - Writing

    @Test func `a PUT carries length, checksum and signature, and the store's word is its version`() async throws {
        let s3 = try ScriptedS3 { request, _ in
            HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": request["x-amz-checksum-crc32c"] ?? ""])
        }
        let outcome = try await s3.store.put("a b+c", [1, 2, 3])
        #expect(outcome == .stored(version: "\"e\""))
        let request = try #require(s3.transport.requests.first)
        #expect(request.line == "PUT /bucket/p/a%20b%2Bc")
        #expect(request["x-amz-checksum-crc32c"] == S3Checksum.encode(CRC32C.of([1, 2, 3])))
        #expect(request["Authorization"]?.hasPrefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") == true)
        #expect(request["x-amz-content-sha256"] == SHA256.hex([1, 2, 3]))
        #expect(request["User-Agent"]?.hasPrefix("raystorage/") == true)
        #expect(request["Content-Encoding"] == nil && request["x-amz-trailer"] == nil)
        #expect(s3.store.capabilities.checksCRC32C)
    }

    @Test func `P5 a PUT that was answered 200 with an error is sent again, and fails if that goes on`() async throws {
        let once = try ScriptedS3 { _, number in
            number == 0 ? .error(200, "InternalError") : HTTPResponse(200, ["etag": "\"e\""])
        }
        let outcome = try await once.store.put("k", [1])
        #expect(outcome == .stored(version: "\"e\"") && once.lines.count == 2)
        let never = try ScriptedS3 { _, _ in .error(200, "AccessDenied") }
        let error = await failure { () async throws(StorageError) in try await never.store.put("k", [1]) }
        #expect(error?.code == .permissionDenied && never.lines.count == 1)
    }

    @Test func `P5 a PUT that some other server answered with 200 is not stored`() async throws {
        let proxy = try ScriptedS3 { _, _ in HTTPResponse(200, [:], "<html><body>Please log in<br></html>") }
        let error = await failure { () async throws(StorageError) in try await proxy.store.put("k", [1]) }
        #expect(error?.code == .network && proxy.lines.count == 3)
        // Not even an ETag: what is there is looked at.
        let silent = try ScriptedS3 { request, _ in
            request.method == "HEAD" ? HTTPResponse(404) : HTTPResponse(200)
        }
        let lost = await failure { () async throws(StorageError) in try await silent.store.put("k", [1]) }
        #expect(lost?.code == .network && silent.lines == ["PUT /bucket/p/k", "HEAD /bucket/p/k"])
        let short = try ScriptedS3 { request, _ in
            request.method == "HEAD" ? HTTPResponse(200, ["content-length": "0", "etag": "\"e\""]) : HTTPResponse(200)
        }
        let cut = await failure { () async throws(StorageError) in try await short.store.put("k", [1]) }
        #expect(cut?.code == .checksum)
    }

    @Test func `P5 a checksum that comes back wrong is damage: sent again a few times`() async throws {
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": "AAAAAA=="]) }
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .checksum && s3.lines.count == 3)
        #expect(error?.detailsDocument["path"] == "s3://bucket/p/k" && error?.detailsDocument["attempts"] == 3)
        let once = try ScriptedS3 { request, number in
            let sent = request["x-amz-checksum-crc32c"] ?? ""
            return HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": number == 0 ? "AAAAAA==" : sent])
        }
        let outcome = try await once.store.put("k", [1])
        #expect(outcome == .stored(version: "\"e\"") && once.lines.count == 2)
    }

    @Test func `bytes that are damaged on the way are sent again a few times`() async throws {
        let s3 = try ScriptedS3 { _, _ in .error(400, "BadDigest") }
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .checksum && s3.lines.count == 3)
        #expect(error?.detailsDocument["attempts"] == 3)
    }

    @Test func `a store that ignores CRC-32C gets Content-MD5 from the second small object on`() async throws {
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(200, ["etag": "\"e\""]) }
        try await s3.store.put("k", [1])
        try await s3.store.put("k", [1])
        #expect(s3.transport.requests.map { $0["Content-MD5"] } == [nil, "VaVACK0bpYmqIQ0mKcHfQQ=="])
        #expect(!s3.store.capabilities.checksCRC32C)
    }

    @Test func `a store that refuses the checksum's header is not sent it again`() async throws {
        let s3 = try ScriptedS3 { request, _ in
            request["x-amz-checksum-crc32c"] == nil
                ? HTTPResponse(200, ["etag": "\"e\""]) : .error(501, "NotImplemented")
        }
        try await s3.store.put("k", [1])
        try await s3.store.put("k", [1])
        #expect(s3.lines.count == 3)
        #expect(s3.transport.requests.dropFirst().allSatisfy { $0["Content-MD5"] != nil })
    }

    @Test func `a refusal that the checksum has nothing to do with is not blamed on it`() async throws {
        let s3 = try ScriptedS3 { _, _ in .error(400, "InvalidArgument") }
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .invalidArgument && s3.memory.current.checksums == .unknown)
    }

    @Test func `P5 one refusal that is not S3's does not end the sending of checksums, a second one in a row does`()
        async throws
    {
        for isOnce in [true, false] {
            let s3 = try ScriptedS3 { request, number in
                let crc = request["x-amz-checksum-crc32c"]
                if let crc, isOnce, number > 0 {
                    return HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": crc])
                }
                return crc == nil
                    ? HTTPResponse(200, ["etag": "\"e\""]) : HTTPResponse(400, [:], "<html>bad gateway</html>")
            }
            try await s3.store.put("k", [1])
            #expect(s3.memory.current.checksums == .unknown)
            try await s3.store.put("k", [1])
            #expect(s3.memory.current.checksums == (isOnce ? .verified : .refused))
            #expect(s3.lines.count == (isOnce ? 3 : 4))
        }
    }

    @Test func `P5 refusals side by side that are not S3's count as one`() {
        let memory = S3BucketMemory()
        let refusal = S3Refusal(
            status: 400, code: "", error: StorageError(.invalidArgument, ""), followsUncertainty: false,
            isDocument: false)
        let before = S3Integrity(choice: .auto, support: .unknown)
        for _ in 0..<5 { memory.learn(from: refusal, of: before) }
        #expect(memory.current.checksums == .unknown)
        let after = S3Integrity(
            choice: .auto, support: .unknown, doubtfulRefusals: memory.current.doubtfulRefusals)
        memory.learn(from: refusal, of: after)
        #expect(memory.current.checksums == .refused)
    }

    @Test func `P5 a refusal is not blamed on the checksum while the request without it has not succeeded`()
        async throws
    {
        let s3 = try ScriptedS3 { request, number throws(StorageError) in
            if request["x-amz-checksum-crc32c"] != nil { return .error(400, "InvalidRequest") }
            throw StorageError(.network, "no route", isRetryable: false)
        }
        // Others see no verdict meanwhile, and the error is that of the network.
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .network && error?.message.contains("no route") == true)
        #expect(s3.memory.current.checksums == .unknown)
        // A condition that does not hold says nothing of the checksum.
        let lost = try ScriptedS3 { request, _ in
            if request.method == "HEAD" { return HTTPResponse(200, ["content-length": "9", "etag": "\"o\""]) }
            return request["x-amz-checksum-crc32c"] != nil
                ? .error(400, "InvalidRequest") : .error(412, "PreconditionFailed")
        }
        #expect(try await lost.store.put("k", [1], .ifAbsent) == .refused)
        #expect(lost.memory.current.checksums == .unknown)
    }

    @Test func `P5 while a write is tried without its checksum others go on to send theirs`() async throws {
        let memory = Mutex<S3BucketMemory?>(nil)
        let seen = Mutex<[S3BucketMemory.ChecksumSupport?]>([])
        let s3 = try ScriptedS3 { request, _ in
            if request["x-amz-checksum-crc32c"] != nil { return .error(400, "InvalidRequest") }
            seen.withLock { $0.append(memory.withLock { $0?.current.checksums }) }
            return HTTPResponse(200, ["etag": "\"e\""])
        }
        memory.withLock { $0 = s3.memory }
        try await s3.store.put("k", [1])
        #expect(seen.withLock { $0 } == [.unknown] && s3.memory.current.checksums == .refused)
    }

    @Test(arguments: ["put", "start", "part"])
    func `P7 a write that is cancelled, or throttled, on its second try says so`(operation: String) async throws {
        let progress = Progress()
        for isCancelled in [true, false] {
            let s3 = try ScriptedS3([JSONMember("max_retries", 1)]) { request, _ in
                let isFirst = ["x-amz-checksum-crc32c", "x-amz-checksum-algorithm"].contains { request[$0] != nil }
                if isFirst { return .error(400, "InvalidRequest") }
                if isCancelled { progress.cancel() }
                return .error(503, "SlowDown")
            }
            let progress = isCancelled ? progress : Progress()
            let error = await failure { () async throws(StorageError) in
                switch operation {
                case "put":
                    _ = try await s3.store.put(
                        "k", .bytes([1]), crc32c: CRC32C.of([1]), condition: .always, progress: progress)
                case "start": _ = try await s3.store.startMultipart("k", progress: progress)
                default:
                    _ = try await s3.store.putPart(
                        "k", upload: "U", number: 1, .bytes([1]), crc32c: CRC32C.of([1]), progress: progress)
                }
            }
            #expect(error?.code == (isCancelled ? .cancelled : .throttled))
            #expect(s3.memory.current.checksums == .unknown)
        }
    }

    @Test func `checksum=crc32c means it, and checksum=none sends none`() async throws {
        let strict = try ScriptedS3([JSONMember("checksum", "crc32c")]) { _, _ in HTTPResponse(200, ["etag": "\"e\""]) }
        let error = await failure { () async throws(StorageError) in try await strict.store.put("k", [1]) }
        #expect(error?.code == .notSupported)
        let none = try ScriptedS3([JSONMember("checksum", "none")]) { _, _ in HTTPResponse(200, ["etag": "\"e\""]) }
        try await none.store.put("k", [1])
        #expect(none.transport.requests[0]["x-amz-checksum-crc32c"] == nil)
        #expect(none.transport.requests[0]["Content-MD5"] == nil)
    }

    // MARK: - Conditions and lost answers

    @Test(arguments: [WriteCondition.ifAbsent, .ifVersion("\"old\"")])
    func `P4 a conditional write whose answer was lost is found to be stored`(condition: WriteCondition) async throws {
        let s3 = try ScriptedS3 { request, number throws(StorageError) in
            switch (request.method, number) {
            case ("PUT", 0): throw .broken
            case ("PUT", _): .error(412, "PreconditionFailed")
            case ("HEAD", _): HTTPResponse(200, ["content-length": "2", "etag": "\"ours\""])
            default: HTTPResponse(200, ["etag": "\"ours\""], "hi")
            }
        }
        let outcome = try await s3.store.put("k", Array("hi".utf8), condition)
        #expect(outcome == .stored(version: "\"ours\""))
        let others = try await s3.store.put("k", Array("ho".utf8), condition)
        #expect(others == .refused)
    }

    @Test func `a race of conditional writes is tried again`() async throws {
        let s3 = try ScriptedS3 { _, number in
            number < 2 ? .error(409, "ConditionalRequestConflict") : HTTPResponse(200, ["etag": "\"e\""])
        }
        let outcome = try await s3.store.put("k", [1], .ifAbsent)
        #expect(outcome == .stored(version: "\"e\"") && s3.lines.count == 3)
        #expect(s3.transport.requests.allSatisfy { $0["If-None-Match"] == "*" })
    }

    @Test func `a store that ignores conditions is found out once, and never written to conditionally`() async throws {
        let s3 = try ScriptedS3(conditions: nil) { request, number in
            request.method == "DELETE" ? HTTPResponse(204) : HTTPResponse(200, ["etag": "\"\(number)\""])
        }
        let known = try await s3.store.probe(progress: progress)
        #expect(!known.createsConditionally && !known.replacesConditionally)
        let count = s3.lines.count
        #expect(
            s3.lines.allSatisfy { $0.contains("/bucket/p/.raystorage-probe/") }
                && s3.lines.last?.hasPrefix("DELETE") == true)
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1], .ifAbsent) }
        #expect(error?.code == .notSupported && s3.lines.count == count)
    }

    @Test(arguments: [(501, "NotImplemented"), (400, "InvalidArgument")])
    func `a store that refuses conditions is found out`(status: Int, code: String) async throws {
        let s3 = try ScriptedS3(conditions: nil) { request, _ in
            if request.method == "DELETE" { return HTTPResponse(204) }
            let isConditional = request["If-None-Match"] != nil || request["If-Match"] != nil
            return isConditional ? .error(status, code) : HTTPResponse(200, ["etag": "\"e\""])
        }
        let known = try await s3.store.probe(progress: progress)
        #expect(!known.createsConditionally && !known.replacesConditionally)
    }

    @Test func `AWS itself is not probed`() async throws {
        let s3 = try ScriptedS3(endpoint: nil, conditions: nil) { _, _ in HTTPResponse(500) }
        let known = try await s3.store.probe(progress: progress)
        #expect(known.createsConditionally && known.replacesConditionally && s3.lines.isEmpty)
    }

    // MARK: - Retries

    @Test(arguments: [
        (500, "InternalError"), (502, ""), (503, "SlowDown"), (503, ""), (504, ""), (429, "TooManyRequests"), (408, ""),
        (400, "RequestTimeout"), (409, "OperationAborted"), (400, "IncompleteBody"),
    ])
    func `what passes is tried again, each try signed anew`(status: Int, code: String) async throws {
        let s3 = try ScriptedS3 { _, number in
            if number < 3 { return code.isEmpty ? HTTPResponse(status) : .error(status, code) }
            return HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        #expect(s3.lines.count == 4)
        #expect(s3.transport.requests.allSatisfy { $0.headers.filter { $0.name == "Authorization" }.count == 1 })
    }

    @Test(arguments: [
        (403, "AccessDenied", StorageError.Code.permissionDenied),
        (403, "SignatureDoesNotMatch", .unauthenticated), (403, "InvalidAccessKeyId", .unauthenticated),
        (404, "NoSuchBucket", .notFound), (400, "EntityTooLarge", .invalidArgument),
        (400, "KMS.DisabledException", .permissionDenied), (405, "MethodNotAllowed", .notSupported),
        (411, "MissingContentLength", .notSupported), (418, "Teapot", .invalidArgument),
    ])
    func `what does not pass ends at once, and says all there is to say`(
        status: Int, code: String, kind: StorageError.Code
    ) async throws {
        let s3 = try ScriptedS3 { _, _ in .error(status, code) }
        s3.memory.learn { $0.checksums = .verified }
        let error = try #require(await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) })
        #expect(error.code == kind && s3.lines.count == 1 && !error.isRetryable)
        let details = error.detailsDocument
        #expect(details["operation"] == "PutObject" && details["path"] == "s3://bucket/p/k")
        #expect(details["http_status"]?.intValue == status && details["error_code"]?.stringValue == code)
        #expect(details["request_id"] == "REQ1" && details["host_id"] == "HOST1")
        #expect(details["endpoint"] == "s3.test" && details["attempts"] == 1)
        #expect(!error.message.contains("SECRET"))
    }

    @Test func `a broken connection is tried again on a fresh one, and is trouble`() async throws {
        let troubles = Mutex<[StoreTrouble]>([])
        let s3 = try ScriptedS3(onTrouble: { trouble in troubles.withLock { $0.append(trouble) } }) {
            _, number throws(StorageError) in
            if number == 0 { throw .broken }
            if number == 1 { return .error(503, "SlowDown") }
            return HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        #expect(s3.transport.requests.map(\.usesFreshConnection) == [false, true, true])
        #expect(troubles.withLock { $0 } == [.timedOut, .throttled])
    }

    @Test func `P7 an outage ends when nothing has moved for retry_timeout_s`() async throws {
        let clock = FakeClock(step: 100)
        let s3 = try ScriptedS3([JSONMember("retry_timeout_s", 5)], environment: clock.environment) {
            _, _ throws(StorageError) in throw .broken
        }
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .network && error?.detailsDocument["curl_code"] == 56)
        #expect(error?.detailsDocument["attempts"]?.intValue == s3.lines.count)
        #expect((5...60).contains(s3.lines.count))
    }

    @Test func `max_retries is what it says`() async throws {
        let s3 = try ScriptedS3([JSONMember("max_retries", 2)]) { _, _ in HTTPResponse(500) }
        _ = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(s3.lines.count == 3)
    }

    @Test func `an error that cannot mend is not tried again`() async throws {
        let s3 = try ScriptedS3 { _, _ throws(StorageError) in throw StorageError(.network, "certificate") }
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .network && s3.lines.count == 1)
    }

    @Test func `P11 an answer that repeats a secret is not repeated`() async throws {
        let s3 = try ScriptedS3 { _, _ in
            HTTPResponse(403, [:], "<Error><Code>Weird</Code><Message>key SECRETEXAMPLE is bad</Message></Error>")
        }
        let error = try #require(await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) })
        #expect(!error.message.contains("SECRETEXAMPLE"))
    }

    // MARK: - Credentials, clock, region

    private final class Renewing: AWSCredentialsProvider {
        let name = "renewing"
        private let serial = Mutex(1)
        func credentials(
            refreshing rejected: AWSCredentials?, progress: Progress
        ) async throws(StorageError) -> AWSCredentials? {
            let number = serial.withLock { serial in
                if rejected != nil { serial += 1 }
                return serial
            }
            return AWSCredentials(accessKeyID: "AK\(number)", secretAccessKey: "S", sessionToken: "T\(number)")
        }
    }

    @Test(arguments: ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
    func `expired credentials are renewed once`(code: String) async throws {
        let s3 = try ScriptedS3(credentials: Renewing()) { request, _ in
            request["x-amz-security-token"] == "T1" ? .error(400, code) : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        #expect(s3.transport.requests.map { $0["x-amz-security-token"] } == ["T1", "T2"])
        let never = try ScriptedS3(credentials: Renewing()) { _, _ in .error(400, code) }
        let error = await failure { () async throws(StorageError) in try await never.store.put("k", [1]) }
        #expect(error?.code == .unauthenticated && never.lines.count == 2)
    }

    @Test func `a HEAD, which cannot say why, is tried with fresh credentials`() async throws {
        let s3 = try ScriptedS3(credentials: Renewing()) { request, _ in
            request["x-amz-security-token"] == "T1" ? HTTPResponse(400) : HTTPResponse(200, ["content-length": "7"])
        }
        let size = try await s3.store.head("k", progress: progress)?.size
        #expect(size == 7)
    }

    @Test func `a clock that is wrong is corrected by the store's`() async throws {
        var environment = Environment.system
        environment.now = { 1_700_000_000 }
        let s3 = try ScriptedS3(environment: environment) { _, number in
            number == 0
                ? .error(403, "RequestTimeTooSkewed", ["date": "Tue, 14 Nov 2023 23:13:20 GMT"])
                : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        try await s3.store.put("k", [1])
        #expect(
            s3.transport.requests.map { $0["x-amz-date"] } == [
                "20231114T221320Z", "20231114T231320Z", "20231114T231320Z",
            ])
    }

    @Test(arguments: [
        HTTPResponse.error(301, "PermanentRedirect", ["x-amz-bucket-region": "eu-west-1"]),
        .error(400, "AuthorizationHeaderMalformed", more: "<Region>eu-west-1</Region>"),
        .error(307, "TemporaryRedirect", ["x-amz-bucket-region": "eu-west-1"]),
    ])
    func `a bucket in another region is found and remembered`(answer: HTTPResponse) async throws {
        let s3 = try ScriptedS3(endpoint: nil) { request, _ in
            request.url.host == "bucket.s3.eu-west-1.amazonaws.com" ? HTTPResponse(200, ["etag": "\"e\""]) : answer
        }
        try await s3.store.put("k", [1])
        try await s3.store.put("k", [1])
        let hosts = s3.transport.requests.map(\.url.host)
        #expect(
            hosts == ["bucket.s3.us-east-1.amazonaws.com"]
                + Array(repeating: "bucket.s3.eu-west-1.amazonaws.com", count: 2))
        #expect(s3.transport.requests[1]["Authorization"]?.contains("/eu-west-1/s3/") == true)
        // TLS protects the body.
        #expect(s3.transport.requests[1]["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD")
    }

    @Test func `a HEAD learns the region from the header`() async throws {
        let s3 = try ScriptedS3(endpoint: nil) { request, _ in
            request.url.host.contains("eu-west-1")
                ? HTTPResponse(404) : HTTPResponse(400, ["x-amz-bucket-region": "eu-west-1"])
        }
        let nothing = try await s3.store.head("k", progress: progress)
        #expect(nothing == nil && s3.lines.count == 2)
    }

    @Test func `regions that send us in a circle end in an error`() async throws {
        let s3 = try ScriptedS3(endpoint: nil) { request, _ in
            let other = request.url.host.contains("eu-west-1") ? "eu-west-2" : "eu-west-1"
            return .error(301, "PermanentRedirect", ["x-amz-bucket-region": other])
        }
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .invalidArgument && s3.lines.count <= 5)
    }

    @Test func `a redirect goes to the host that it names, but never from https to http`() async throws {
        let s3 = try ScriptedS3(endpoint: "https://s3.test") { request, _ in
            request.url.host == "s3.test"
                ? .error(307, "TemporaryRedirect", ["location": "https://node7.test:9000/bucket/p/k"])
                : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        #expect(s3.transport.requests.map(\.url.authority) == ["s3.test", "node7.test:9000"])
        let down = try ScriptedS3(endpoint: "https://s3.test") { _, _ in
            .error(307, "TemporaryRedirect", ["location": "http://node7.test/bucket/p/k"])
        }
        let error = await failure { () async throws(StorageError) in try await down.store.put("k", [1]) }
        #expect(error != nil && down.lines.count == 1)
    }

    // MARK: - Reading

    @Test func `P5 content that is not that of its checksum is damage, unless a second look is good`() async throws {
        let good = S3Checksum.encode(CRC32C.of(Array("hello".utf8)))
        let s3 = try ScriptedS3 { _, number in
            HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": good], number == 0 ? "hellO" : "hello")
        }
        let bytes = try await s3.store.bytes("k")
        #expect(bytes == Array("hello".utf8))
        let bad = try ScriptedS3 { _, _ in
            HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": good], "hellO")
        }
        let error = await failure { () async throws(StorageError) in _ = try await bad.store.bytes("k") }
        #expect(error?.code == .checksum && bad.lines.count == 3)
        let composite = try ScriptedS3 { _, _ in
            HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": "AAAAAA==-2"], "hellO")
        }
        let unknown = try await composite.store.bytes("k")
        #expect(unknown == Array("hellO".utf8))
    }

    /// Taken for a record it would be a damaged one, and a job that goes on from another checkpoint.
    @Test(arguments: ["<Error><Code>InternalError</Code></Error>", "<html>log in</html>", ""])
    func `P5 an error or a page that comes with 200 is no object`(body: String) async throws {
        let s3 = try ScriptedS3 { _, number in
            number == 0 ? HTTPResponse(200, [:], body) : HTTPResponse(200, ["etag": "\"e\""], "hello")
        }
        #expect(try await s3.store.bytes("k") == Array("hello".utf8))
        let bad = try ScriptedS3 { _, _ in HTTPResponse(200, [:], body) }
        let error = await failure { () async throws(StorageError) in _ = try await bad.store.bytes("k") }
        #expect(error?.code == .network && error?.detailsDocument["operation"] == "GetObject")
    }

    @Test func `P1 another server's 404 does not mean that there is no object`() async throws {
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(404, [:], "<html>nginx</html>") }
        let error = await failure { () async throws(StorageError) in _ = try await s3.store.bytes("k") }
        #expect(error?.code == .notFound)
        let bucket = try ScriptedS3 { _, _ in .error(404, "NoSuchBucket") }
        let missing = await failure { () async throws(StorageError) in _ = try await bucket.store.bytes("k") }
        #expect(missing?.code == .notFound)
        let absent = try ScriptedS3 { _, _ in .error(404, "NoSuchKey") }
        let nothing = try await absent.store.bytes("k")
        #expect(nothing == nil)
    }

    private func range(
        _ s3: ScriptedS3, _ range: Range<Int>, _ version: String? = nil
    ) async throws -> (bytes: String, blocks: [UInt32]) {
        let file = try scratchFile()
        let blocks = try await s3.store.get(
            "k", range: range, version: version, into: file, shift: -range.lowerBound, progress: progress)
        return (String(decoding: try file.readAll(limit: 100), as: UTF8.self), blocks)
    }

    @Test func `P4 of a range that broke off only what is missing is asked for, of the same version`() async throws {
        let s3 = try ScriptedS3 { request, number in
            switch number {
            case 0: HTTPResponse(206, ["content-range": "bytes 2-7/9", "etag": "\"a\"", "x-broken": "yes"], "cd")
            case 1: .error(503, "SlowDown")
            case 2: HTTPResponse(206, ["content-range": "bytes 4-7/9", "etag": "\"a\"", "x-broken": "yes"], "e")
            default: HTTPResponse(206, ["content-range": "bytes 5-7/9", "etag": "\"a\""], "fgh")
            }
        }
        let got = try await range(s3, 2..<8)
        #expect(got.bytes == "cdefgh" && got.blocks == [CRC32C.of(Array("cdefgh".utf8))])
        let requests = s3.transport.requests
        #expect(requests.map { $0["Range"] } == ["bytes=2-7", "bytes=4-7", "bytes=4-7", "bytes=5-7"])
        #expect(requests.map { $0["If-Match"] } == [nil, "\"a\"", "\"a\"", "\"a\""])
    }

    @Test func `P5 an object that is replaced between two tries gives no mixture`() async throws {
        func script() -> ScriptedTransport.Script {
            { request, number in
                switch number {
                case 0: HTTPResponse(206, ["content-range": "bytes 0-3/4", "etag": "\"a\"", "x-broken": "yes"], "ol")
                case 1: .error(412, "PreconditionFailed")
                default: HTTPResponse(206, ["content-range": "bytes 0-3/4", "etag": "\"b\""], "next")
                }
            }
        }
        let any = try ScriptedS3(script: script())
        #expect(try await range(any, 0..<4).bytes == "next")
        #expect(any.transport.requests.map { $0["If-Match"] } == [nil, "\"a\"", nil])
        let one = try ScriptedS3(script: script())
        let error = await failure { () async throws(StorageError) in
            do { _ = try await range(one, 0..<4, "\"a\"") } catch let error as StorageError { throw error } catch {}
        }
        #expect(error?.code == .precondition)
        // From the beginning, to a try that asked for the rest.
        let whole = try ScriptedS3 { request, number in
            number == 0
                ? HTTPResponse(206, ["content-range": "bytes 0-3/4", "x-broken": "yes"], "ol")
                : HTTPResponse(200, [:], "ol")
        }
        let wrong = await failure { () async throws(StorageError) in
            do { _ = try await range(whole, 0..<4) } catch let error as StorageError { throw error } catch {}
        }
        #expect(wrong != nil)
    }

    @Test func `P5 what broke off and was no part of the range is not kept as its beginning`() async throws {
        let page = try ScriptedS3 { _, number in
            number == 0
                ? HTTPResponse(200, ["x-broken": "yes"], "<h")
                : HTTPResponse(206, ["content-range": "bytes 2-7/9"], "cdefgh")
        }
        #expect(try await range(page, 2..<8).bytes == "cdefgh")
        #expect(page.transport.requests.map { $0["Range"] } == ["bytes=2-7", "bytes=2-7"])
        // Nor what is of another range, or of nobody knows which.
        for said in ["bytes 0-5/9", "bytes 2-6/9", "bytes 2-7", "bytes 2-7/7", "bytes 9-2/9", ""] {
            let other = try ScriptedS3 { _, number in
                switch number {
                case 0: HTTPResponse(206, ["content-range": "bytes 2-7/9", "x-broken": "yes"], "c")
                case 1: HTTPResponse(206, ["content-range": said, "x-broken": "yes"], "xyz")
                default: HTTPResponse(206, ["content-range": "bytes 3-7/9"], "defgh")
                }
            }
            #expect(try await range(other, 2..<8).bytes == "cdefgh", "\(said)")
            #expect(other.transport.requests.map { $0["Range"] } == ["bytes=2-7", "bytes=3-7", "bytes=3-7"])
        }
    }

    @Test func `P5 an object of another size than is known is damage, though the range is there`() async throws {
        let file = try scratchFile()
        for (answer, size, isGood) in [
            (HTTPResponse(206, ["content-range": "bytes 0-2/3"], "abc"), 3, true),
            (HTTPResponse(206, ["content-range": "bytes 0-2/*"], "abc"), 3, true),
            (HTTPResponse(200, [:], "abc"), 3, true),
            (HTTPResponse(206, ["content-range": "bytes 0-2/9"], "abc"), 3, false),
            (HTTPResponse(206, ["content-range": "bytes 0-2/9"], "abc"), 12, false),
            (HTTPResponse(200, [:], "abc"), 9, false),
        ] {
            let s3 = try ScriptedS3 { _, _ in answer }
            let error = await failure { () async throws(StorageError) in
                _ = try await s3.store.get(
                    "k", range: 0..<3, of: size, version: nil, into: file, shift: 0, progress: progress)
            }
            #expect(isGood ? error == nil : error?.code == .checksum, "\(answer) \(size)")
        }
    }

    @Test func `P7 an object that is replaced all the time is an error, not a loop`() async throws {
        let s3 = try ScriptedS3 { request, _ in
            request["If-Match"] == nil
                ? HTTPResponse(206, ["content-range": "bytes 0-3/4", "etag": "\"a\"", "x-broken": "yes"], "ol")
                : .error(412, "PreconditionFailed")
        }
        let error = await failure { () async throws(StorageError) in
            do { _ = try await range(s3, 0..<4) } catch let error as StorageError { throw error } catch {}
        }
        #expect(error?.code == .precondition && s3.transport.requests.count == 8)
    }

    @Test func `a server that ignores the range, or gives another one, is an error`() async throws {
        let file = try scratchFile()
        for response in [
            HTTPResponse(200, [:], "abc"), HTTPResponse(206, ["content-range": "bytes 0-2/9"], "abc"),
            HTTPResponse(206, [:], "abc"),
        ] {
            let s3 = try ScriptedS3 { _, _ in response }
            let error = await failure { () async throws(StorageError) in
                _ = try await s3.store.get("k", range: 2..<5, version: nil, into: file, shift: 0, progress: progress)
            }
            #expect(error != nil)
        }
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(206, ["content-range": "bytes 2-4/9"], "abc") }
        let good = try await s3.store.get("k", range: 2..<5, version: "\"v\"", into: file, shift: 0, progress: progress)
        #expect(good == [CRC32C.of(Array("abc".utf8))])
        #expect(s3.transport.requests[0]["Range"] == "bytes=2-4" && s3.transport.requests[0]["If-Match"] == "\"v\"")
    }

    // MARK: - Options on the wire

    @Test func `encryption, tags, owner and payer go along where they belong`() async throws {
        let key = Base64.encode([UInt8](repeating: 7, count: 32))
        let s3 = try ScriptedS3(
            [
                JSONMember("sse_customer_key", .string(key)), JSONMember("tagging", "team=a b&x=1"),
                JSONMember("acl", "private"), JSONMember("storage_class", "STANDARD_IA"),
                JSONMember("expected_bucket_owner", "123456789012"), JSONMember("request_payer", "requester"),
            ], endpoint: "https://s3.test"
        ) { request, _ in
            request.method == "HEAD"
                ? HTTPResponse(200, ["content-length": "1"])
                : HTTPResponse(200, ["etag": "\"e\""], request.method == "GET" ? "x" : "")
        }
        try await s3.store.put("k", [1])
        _ = try await s3.store.put("large", [UInt8](repeating: 1, count: 200_000))
        _ = try await s3.store.bytes("k")
        _ = try await s3.store.head("k", progress: progress)
        let requests = s3.transport.requests
        #expect(requests.allSatisfy { $0["x-amz-server-side-encryption-customer-key"] == key })
        #expect(requests.allSatisfy { $0["x-amz-expected-bucket-owner"] == "123456789012" })
        #expect(requests.allSatisfy { $0["x-amz-request-payer"] == "requester" })
        #expect(requests.map { $0["x-amz-tagging"] } == ["team=a%20b&x=1", "team=a%20b&x=1", nil, nil])
        #expect(requests.map { $0["x-amz-storage-class"] } == [nil, "STANDARD_IA", nil, nil])
    }

    @Test func `a customer's key does not go over plain http`() async throws {
        let key = JSONMember("sse_customer_key", .string(Base64.encode([UInt8](repeating: 7, count: 32))))
        #expect(throws: StorageError.self) { try ScriptedS3([key]) { _, _ in HTTPResponse(200) } }
        _ = try ScriptedS3([key], endpoint: "http://127.0.0.1:9000") { _, _ in HTTPResponse(200) }
    }

    @Test func `a missing bucket is made when that is allowed, and only then`() async throws {
        let made = Flag()
        let script: ScriptedTransport.Script = { request, _ in
            if request.line == "PUT /bucket" {
                made.raise()
                return HTTPResponse(200)
            }
            return made.isSet ? HTTPResponse(200, ["etag": "\"e\""]) : .error(404, "NoSuchBucket")
        }
        let s3 = try ScriptedS3(script: script)
        let error = await failure { () async throws(StorageError) in try await s3.store.put("k", [1]) }
        #expect(error?.code == .notFound && error?.detailsDocument["error_code"] == "NoSuchBucket")
        let allowed = try ScriptedS3([JSONMember("allow_bucket_creation", true)], script: script)
        try await allowed.store.put("k", [1])
        #expect(allowed.lines == ["PUT /bucket/p/k", "PUT /bucket", "PUT /bucket/p/k"])
    }

    @Test func `nobody's requests carry no signature`() async throws {
        let transport = ScriptedTransport { _, _ in HTTPResponse(200, ["etag": "\"e\""], "x") }
        let store = try S3Store.open(
            bucket: "bucket", prefix: "", options: S3Options(), patience: StorePatience(retryMilliseconds: 1),
            transport: transport,
            credentials: nil, environment: .system, memory: S3BucketMemory())
        _ = try await store.bytes("k")
        #expect(transport.requests[0]["Authorization"] == nil && transport.requests[0].line == "GET /k")
    }

    @Test func `S3 Express opens a session and signs with it, until it is refused`() async throws {
        let s3 = try ScriptedS3(
            [JSONMember("region", "us-west-2")], bucket: "b--usw2-az1--x-s3", endpoint: nil
        ) { request, number in
            if request.url.query == "session=" {
                return HTTPResponse(
                    200, [:],
                    "<CreateSessionResult><Credentials><AccessKeyId>SAK</AccessKeyId><SecretAccessKey>x</SecretAccessKey>"
                        + "<SessionToken>TOK\(number)</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
                        + "</Credentials></CreateSessionResult>")
            }
            return number == 3 ? .error(400, "ExpiredToken") : HTTPResponse(200, ["etag": "\"e\""])
        }
        try await s3.store.put("k", [1])
        try await s3.store.put("k", [1])
        try await s3.store.put("k", [1])
        let requests = s3.transport.requests
        #expect(requests.allSatisfy { $0.url.host == "b--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com" })
        #expect(
            requests.map { $0["x-amz-s3session-token"] } == [nil, "TOK0", "TOK0", "TOK0", nil, "TOK4"])
        #expect(requests[1]["Authorization"]?.contains("Credential=SAK/") == true)
        #expect(requests[1]["Authorization"]?.contains("/s3express/") == true)
        #expect(requests[1]["x-amz-security-token"] == nil)
    }

    @Test func `a session that has expired when it comes is used for a while: our clock may be fast`() async throws {
        let session = S3Session()
        func ask(_ now: Double, _ id: String) async throws -> String {
            try await session.credentials(rejected: nil, now: now, progress: progress) {
                () async throws(StorageError) -> AWSCredentials in
                // By the store's clock it is 1000 now, by ours an hour later.
                AWSCredentials(accessKeyID: id, secretAccessKey: "x", sessionToken: "T", expiresAt: 1300)
            }.accessKeyID
        }
        #expect(try await ask(4600, "first") == "first")
        #expect(try await ask(4600, "again") == "first")
        #expect(try await ask(4600 + 239, "again") == "first")
        // At 80 % of the five minutes that sessions last.
        #expect(try await ask(4600 + 241, "second") == "second")
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 who waits for another's session can be cancelled`() async throws {
        let session = S3Session()
        let impatient = Progress()
        let isAsking = Flag()
        let isGone = Flag()
        @Sendable func ask(_ progress: Progress) async throws(StorageError) -> String {
            try await session.credentials(rejected: nil, now: 0, progress: progress) {
                () async throws(StorageError) -> AWSCredentials in
                isAsking.raise()
                while !isGone.isSet { await Engine.shared.sleep(milliseconds: 1) }
                return AWSCredentials(accessKeyID: "S", secretAccessKey: "x", sessionToken: "T", expiresAt: 300)
            }.accessKeyID
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) {
                let id = try await ask(Progress())
                #expect(id == "S")
            }
            while !isAsking.isSet { await Engine.shared.sleep(milliseconds: 1) }
            group.addTask(executorPreference: Engine.shared) {
                let error = await failure { () async throws(StorageError) in _ = try await ask(impatient) }
                #expect(error?.code == .cancelled)
                isGone.raise()
            }
            while session.turn.waitingCount == 0 { await Engine.shared.sleep(milliseconds: 1) }
            impatient.cancel()
            try await group.waitForAll()
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 who waits for another's trial of conditions can be cancelled`() async throws {
        let impatient = Progress()
        let isAsking = Flag()
        let isGone = Flag()
        let s3 = try ScriptedS3(retryTimeout: 3_600_000, conditions: nil) { request, number in
            isAsking.raise()
            if !isGone.isSet { return .error(503, "SlowDown") }
            return request.method == "DELETE" ? HTTPResponse(204) : HTTPResponse(200, ["etag": "\"\(number)\""])
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) { _ = try await s3.store.probe(progress: progress) }
            while !isAsking.isSet { await Engine.shared.sleep(milliseconds: 1) }
            group.addTask(executorPreference: Engine.shared) {
                let error = await failure { () async throws(StorageError) in
                    _ = try await s3.store.probe(progress: impatient)
                }
                #expect(error?.code == .cancelled)
                isGone.raise()
            }
            while s3.memory.probing.waitingCount == 0 { await Engine.shared.sleep(milliseconds: 1) }
            impatient.cancel()
            try await group.waitForAll()
        }
        #expect(s3.memory.current.createsConditionally == false)
    }
}
