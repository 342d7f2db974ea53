import Testing

@testable import StorageCore

/// Uploads in parts, listings and deletions against odd answers.
@Suite struct S3MultipartTests {
    private let progress = Progress()
    private let crc = CRC32C.of([1, 2])
    private var parts: [UploadedPart] {
        [UploadedPart(number: 1, etag: "\"a&b\"", size: 2, crc32c: CRC32C.of([1, 2]))]
    }

    private func failure(_ body: () async throws(StorageError) -> Void) async -> StorageError? {
        do throws(StorageError) {
            try await body()
            return nil
        } catch { return error }
    }

    private func complete(_ s3: ScriptedS3, size: Int = 2) async -> StorageError? {
        await failure { () async throws(StorageError) in
            try await s3.store.completeMultipart(
                "k", upload: "U", parts: parts, size: size, crc32c: crc, progress: progress)
        }
    }

    private static let done = "<CompleteMultipartUploadResult><ETag>\"x-1\"</ETag></CompleteMultipartUploadResult>"

    private func attesting(_ crc: UInt32) -> String {
        "<CompleteMultipartUploadResult><ChecksumCRC32C>\(S3Checksum.encode(crc))</ChecksumCRC32C>"
            + "<ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>"
    }

    @Test func `an upload announces its checksum, sends it with each part and with the whole`() async throws {
        let attested = attesting(crc)
        let s3 = try ScriptedS3 { request, number in
            switch number {
            case 0:
                HTTPResponse(
                    200, [:], "<InitiateMultipartUploadResult><UploadId>U/+1</UploadId></InitiateMultipartUploadResult>"
                )
            case 1:
                HTTPResponse(200, ["etag": "\"p\"", "x-amz-checksum-crc32c": request["x-amz-checksum-crc32c"] ?? ""])
            default: HTTPResponse(200, [:], "<?xml version=\"1.0\"?>\n   \n" + attested)
            }
        }
        let begun = try await s3.store.startMultipart("k", progress: progress)
        let upload = begun.upload
        #expect(upload == "U/+1" && begun.announcesChecksums && s3.store.announcesChecksums)
        let part = try await s3.store.putPart(
            "k", upload: upload, number: 1, .bytes([1, 2]), crc32c: crc, progress: progress)
        try await s3.store.completeMultipart(
            "k", upload: upload, parts: [part], size: 2, crc32c: crc, progress: progress)
        let requests = s3.transport.requests
        #expect(
            s3.lines == [
                "POST /bucket/p/k?uploads=", "PUT /bucket/p/k?partNumber=1&uploadId=U%2F%2B1",
                "POST /bucket/p/k?uploadId=U%2F%2B1",
            ])
        #expect(
            requests[0]["x-amz-checksum-algorithm"] == "CRC32C" && requests[0]["x-amz-checksum-type"] == "FULL_OBJECT")
        #expect(requests[1]["x-amz-checksum-crc32c"] == S3Checksum.encode(crc))
        #expect(requests[2]["x-amz-checksum-crc32c"] == S3Checksum.encode(crc))
        #expect(requests[2]["x-amz-checksum-type"] == "FULL_OBJECT" && requests[2]["x-amz-mp-object-size"] == "2")
        #expect(requests[2].text.contains("<ETag>&quot;p&quot;</ETag><ChecksumCRC32C>\(S3Checksum.encode(crc))<"))
    }

    // MARK: - pyarrow's silent losses

    @Test func `P5 parts that are all refused are no success`() async throws {
        let s3 = try ScriptedS3 { _, _ in .error(403, "AccessDenied") }
        let error = await failure { () async throws(StorageError) in
            _ = try await s3.store.putPart(
                "k", upload: "U", number: 1, .bytes([1, 2]), crc32c: crc, progress: progress)
        }
        #expect(error?.code == .permissionDenied && error?.detailsDocument["operation"] == "UploadPart")
    }

    @Test func `P5 a part that was answered 200 with an error, or without ETag, is no part`() async throws {
        let s3 = try ScriptedS3 { _, number in
            number == 0 ? .error(200, "SlowDown") : HTTPResponse(200, ["etag": "\"p\""])
        }
        let part = try await s3.store.putPart(
            "k", upload: "U", number: 1, .bytes([1, 2]), crc32c: crc, progress: progress)
        #expect(part.etag == "\"p\"" && s3.lines.count == 2)
        let silent = try ScriptedS3 { _, _ in HTTPResponse(200) }
        let error = await failure { () async throws(StorageError) in
            _ = try await silent.store.putPart("k", upload: "U", number: 1, .bytes([1]), crc32c: 1, progress: progress)
        }
        #expect(error?.code == .network)
    }

    @Test func `P5 a Complete that was answered 200 with an error is no success`() async throws {
        let attested = attesting(crc)
        let once = try ScriptedS3 { _, number in
            number == 0 ? .error(200, "InternalError") : HTTPResponse(200, [:], attested)
        }
        #expect(await complete(once) == nil)
        #expect(once.lines.count == 2)
        let denied = try ScriptedS3 { _, _ in .error(200, "AccessDenied") }
        #expect(await complete(denied)?.code == .permissionDenied)
    }

    @Test(arguments: ["", "   \n", "<html>gateway</html>", "<CompleteMultipartUploadResult><ETag>", done])
    func `P5 a Complete that says nothing of the content is looked up`(body: String) async throws {
        func script(_ head: HTTPResponse) -> ScriptedTransport.Script {
            { request, _ in request.method == "HEAD" ? head : HTTPResponse(200, [:], body) }
        }
        let there = try ScriptedS3(script: script(HTTPResponse(200, ["content-length": "2"])))
        #expect(await complete(there) == nil)
        let shorter = try ScriptedS3(script: script(HTTPResponse(200, ["content-length": "1"])))
        #expect(await complete(shorter)?.code == .checksum)
        let other = try ScriptedS3(
            script: script(HTTPResponse(200, ["content-length": "2", "x-amz-checksum-crc32c": S3Checksum.encode(7)])))
        #expect(await complete(other)?.code == .checksum)
        let absent = try ScriptedS3(script: script(HTTPResponse(404)))
        #expect(await complete(absent) != nil)
    }

    @Test func `P5 a Complete that attests other content is damage`() async throws {
        let attested = attesting(7)
        func script(_ crc: UInt32?) -> ScriptedTransport.Script {
            { request, _ in
                guard request.method == "HEAD" else { return HTTPResponse(200, [:], attested) }
                let checksum = crc.map { ["x-amz-checksum-crc32c": S3Checksum.encode($0)] } ?? [:]
                return HTTPResponse(200, ["content-length": "2"].merging(checksum) { $1 })
            }
        }
        #expect(await complete(try ScriptedS3(script: script(7)))?.code == .checksum)
        #expect(await complete(try ScriptedS3(script: script(nil)))?.code == .checksum)
        // Only the answer was wrong.
        #expect(await complete(try ScriptedS3(script: script(crc))) == nil)
    }

    @Test func `P5 a part whose answer attests other bytes is sent again a few times`() async throws {
        let (sent, wrong) = (S3Checksum.encode(crc), S3Checksum.encode(7))
        func part(_ s3: ScriptedS3) async -> StorageError? {
            await failure { () async throws(StorageError) in
                _ = try await s3.store.putPart(
                    "k", upload: "U", number: 1, .bytes([1, 2]), crc32c: crc, progress: progress)
            }
        }
        let once = try ScriptedS3 { _, number in
            HTTPResponse(200, ["etag": "\"p\"", "x-amz-checksum-crc32c": number == 0 ? wrong : sent])
        }
        #expect(await part(once) == nil && once.lines.count == 2)
        let always = try ScriptedS3 { _, _ in HTTPResponse(200, ["etag": "\"p\"", "x-amz-checksum-crc32c": wrong]) }
        #expect(await part(always)?.code == .checksum && always.lines.count == 3)
    }

    @Test func `P4 a Complete whose answer was lost is found to have succeeded`() async throws {
        let s3 = try ScriptedS3 { request, number throws(StorageError) in
            if number == 0 { throw .broken }
            return request.method == "HEAD" ? HTTPResponse(200, ["content-length": "2"]) : .error(404, "NoSuchUpload")
        }
        #expect(await complete(s3) == nil)
        let gone = try ScriptedS3 { request, _ in
            request.method == "HEAD" ? HTTPResponse(404) : .error(404, "NoSuchUpload")
        }
        let error = await complete(gone)
        #expect(error?.code == .notFound && error?.detailsDocument["error_code"] == "NoSuchUpload")
    }

    @Test func `P4 a Complete that gets no answer is tried as long as everything else`() async throws {
        let attested = attesting(crc)
        let s3 = try ScriptedS3 { request, number throws(StorageError) in
            if request.method == "HEAD" { return HTTPResponse(404) }
            if number < 7 { throw .broken }
            return HTTPResponse(200, [:], attested)
        }
        #expect(await complete(s3) == nil)
        let done = try ScriptedS3 { request, _ throws(StorageError) in
            if request.method == "HEAD" { return HTTPResponse(200, ["content-length": "2"]) }
            throw .broken
        }
        #expect(await complete(done) == nil && done.lines.count == 4)
    }

    /// As Ceph: the answer to a later try is lost, and from then on every other one fails.
    @Test(arguments: [true, false])
    func `P4 a Complete that succeeded at any try is found at the next look, not when time is up`(answers: Bool)
        async throws
    {
        let tries = Counter()
        let isThere = Flag()
        let s3 = try ScriptedS3(retryTimeout: 3_600_000) { request, _ throws(StorageError) in
            switch request.method {
            case "HEAD": return isThere.isSet ? HTTPResponse(200, ["content-length": "2"]) : HTTPResponse(404)
            case "GET":
                return HTTPResponse(200, [:], "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>")
            default:
                let number = tries.next()
                if number == 6 {
                    isThere.raise()
                    throw .broken
                }
                if answers { return .error(500, "InternalError") }
                throw .broken
            }
        }
        #expect(await complete(s3) == nil)
        #expect(tries.next() == 7)
    }

    @Test func `P7 a Complete that never succeeds ends after retry_timeout_s, or max_retries`() async throws {
        for isLimited in [false, true] {
            let clock = FakeClock(step: 100)
            let option = isLimited ? JSONMember("max_retries", 5) : JSONMember("retry_timeout_s", 20)
            let s3 = try ScriptedS3([option], retryTimeout: 3_600_000, environment: clock.environment) { request, _ in
                switch request.method {
                case "HEAD": HTTPResponse(404)
                case "GET":
                    HTTPResponse(200, [:], "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>")
                default: .error(500, "InternalError")
                }
            }
            let error = await complete(s3)
            #expect(error?.code == .network && error?.detailsDocument["error_code"] == "InternalError")
            let tries = s3.lines.count { $0.hasPrefix("POST") }
            #expect(error?.detailsDocument["attempts"]?.intValue == tries)
            #expect(isLimited ? tries == 6 : (5...200).contains(tries))
        }
    }

    @Test func `P5 a Complete whose checksum is refused is sent a few times, not for an hour`() async throws {
        let s3 = try ScriptedS3(retryTimeout: 3_600_000) { request, _ in
            request.method == "HEAD" ? HTTPResponse(404) : .error(400, "BadDigest")
        }
        let error = await complete(s3)
        #expect(error?.code == .checksum && s3.lines.count { $0.hasPrefix("POST") } == 3)
    }

    @Test func `a conflict at Complete passes`() async throws {
        let attested = attesting(crc)
        let s3 = try ScriptedS3 { _, number in
            number < 2 ? .error(409, "OperationAborted") : HTTPResponse(200, [:], attested)
        }
        #expect(await complete(s3) == nil)
        #expect(s3.lines.count == 3)
    }

    // MARK: - Checksums that a store does not know

    @Test func `a store that ignores checksums is not sent them at Complete, and is looked up`() async throws {
        let s3 = try ScriptedS3 { request, _ in
            switch request.method {
            case "PUT": HTTPResponse(200, ["etag": "\"p\""])
            case "HEAD": HTTPResponse(200, ["content-length": "2"])
            default: HTTPResponse(200, [:], Self.done)
            }
        }
        _ = try await s3.store.putPart("k", upload: "U", number: 1, .bytes([1, 2]), crc32c: crc, progress: progress)
        #expect(await complete(s3) == nil)
        #expect(s3.transport.requests[1]["x-amz-checksum-crc32c"] == nil)
        #expect(!s3.transport.requests[1].text.contains("Checksum"))
    }

    @Test func `a store that refuses checksums at the start is asked without`() async throws {
        let s3 = try ScriptedS3 { request, _ in
            request["x-amz-checksum-algorithm"] != nil
                ? .error(400, "InvalidRequest")
                : HTTPResponse(
                    200, [:], "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
        }
        #expect(s3.store.announcesChecksums)
        let begun = try await s3.store.startMultipart("k", progress: progress)
        #expect(begun == BegunMultipart(upload: "U", announcesChecksums: false))
        #expect(s3.memory.current.checksums == .refused && !s3.store.announcesChecksums)
    }

    @Test func `P5 a refusal of the start that is not S3's is asked for again before checksums are left out`()
        async throws
    {
        for refusals in [1, 2] {
            let s3 = try ScriptedS3 { request, number in
                number < refusals
                    ? HTTPResponse(400, [:], "<html>bad gateway</html>")
                    : HTTPResponse(
                        200, [:],
                        "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
            }
            let upload = try await s3.store.startMultipart("k", progress: progress).upload
            #expect(upload == "U" && s3.memory.current.checksums == (refusals == 1 ? .unknown : .refused))
            let announced = s3.transport.requests.map { $0["x-amz-checksum-algorithm"] != nil }
            #expect(announced == (refusals == 1 ? [true, true] : [true, true, false]))
        }
    }

    @Test func `P5 a refusal of a part that is not S3's does not leave its checksum out`() async throws {
        let s3 = try ScriptedS3 { request, number in
            let crc = request["x-amz-checksum-crc32c"] ?? ""
            return number == 0
                ? HTTPResponse(400, [:], "<html>bad gateway</html>")
                : HTTPResponse(200, ["etag": "\"e\"", "x-amz-checksum-crc32c": crc])
        }
        _ = try await s3.store.putPart("k", upload: "U", number: 1, .bytes([1, 2]), crc32c: crc, progress: progress)
        #expect(s3.transport.requests.map { $0["x-amz-checksum-crc32c"] != nil } == [true, true])
        #expect(s3.memory.current.checksums == .verified)
    }

    // MARK: - Listings and deletions

    private func list(_ body: String, _ more: String = "") -> HTTPResponse {
        HTTPResponse(
            200, [:],
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\(more)\(body)</ListBucketResult>"
        )
    }

    @Test func `encoded keys are decoded, and only when the answer says that they are`() async throws {
        let contents =
            "<Contents><Key>p/a%2Bb+c%25</Key><Size>1</Size><ETag>\"e\"</ETag>"
            + "<LastModified>2023-11-14T22:13:20.500Z</LastModified></Contents>"
        let encoded = list(contents, "<EncodingType>url</EncodingType>")
        let plain = list(contents)
        let s3 = try ScriptedS3 { _, number in number == 0 ? encoded : plain }
        let first = try await s3.store.list("", delimited: false, progress: progress)
        #expect(first.objects == [ObjectSummary(key: "a+b c%", size: 1, version: "\"e\"", modifiedAt: 1_700_000_000.5)])
        let second = try await s3.store.list("", delimited: false, progress: progress)
        #expect(second.objects.map(\.key) == ["a%2Bb+c%25"])
    }

    @Test(arguments: [
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><Contents><Key>p/a</Key>",
        "<ListBucketResult><Contents><Key>p/a</Key></Contents></ListBucketResult>", "", "<Other/>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>p/%zz</Key><Size>1</Size></Contents></ListBucketResult>",
        "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult/>",
    ])
    func `P1 a listing that is cut off or wrong is an error, never a shorter listing`(body: String) async throws {
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(200, [:], body) }
        let error = await failure { () async throws(StorageError) in
            _ = try await s3.store.list("", delimited: false, progress: progress)
        }
        #expect(error?.code == .network)
    }

    @Test(arguments: ["70368744177665", "9223372036854775807", "99999999999999999999", "-1", "", "0x10", "1e3"])
    func `P12 a size that no object has is an error that names key and size`(text: String) async throws {
        let s3 = try ScriptedS3 { request, _ in
            request.method == "HEAD"
                ? HTTPResponse(200, ["content-length": text])
                : HTTPResponse(
                    200, [:],
                    "<ListBucketResult><Contents><Key>p/a</Key><Size>\(text)</Size></Contents></ListBucketResult>")
        }
        let listed = await failure { () async throws(StorageError) in
            _ = try await s3.store.list("", delimited: false, progress: progress)
        }
        let asked = await failure { () async throws(StorageError) in
            _ = try await s3.store.head("a", progress: progress)
        }
        for error in [listed, asked] {
            #expect(error?.code == .network && error?.isRetryable == false)
            #expect(error?.detailsDocument["path"] == "s3://bucket/p/a")
            #expect(error?.detailsDocument["value"] == .string(text))
        }
    }

    @Test func `the largest size that an object may have is one`() async throws {
        let size = 64 << 40
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(200, ["content-length": String(size)]) }
        #expect(try await s3.store.head("a", progress: progress)?.size == size)
    }

    @Test func `pages that turn in a circle end`() async throws {
        let page = list("<IsTruncated>true</IsTruncated><NextContinuationToken>T</NextContinuationToken>")
        let s3 = try ScriptedS3 { _, _ in page }
        let error = await failure { () async throws(StorageError) in
            _ = try await s3.store.list("", delimited: false, progress: progress)
        }
        #expect(error != nil && s3.lines.count == 2)
        #expect(s3.lines[1].contains("continuation-token=T"))
    }

    @Test(
        arguments: [
            ("Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000), ("yesterday", nil), (nil, nil),
        ] as [(String?, Double?)])
    func `the store's time is the date of an answer about what is asked for`(date: String?, expected: Double?)
        async throws
    {
        let page = "<ListBucketResult/>"
        let s3 = try ScriptedS3 { _, _ in HTTPResponse(200, date.map { ["date": $0] } ?? [:], page) }
        #expect(try await s3.store.time("run/.raystorage/", progress: progress) == expected)
        #expect(s3.lines == ["GET /bucket?list-type=2&max-keys=1&prefix=p%2Frun%2F.raystorage%2F"])
    }

    @Test func `parts that are listed twice differently count as not there`() {
        let twice = [1, 2, 2, 3, 3].enumerated().map { index, number in
            UploadedPart(number: number, etag: number == 2 ? "\"\(index)\"" : "\"e\"", size: 1, crc32c: nil)
        }
        #expect(S3Store.unambiguous(twice).map(\.number) == [1, 3])
    }

    @Test func `what could not be deleted for a passing reason is asked for again, anything else is an error`()
        async throws
    {
        let s3 = try ScriptedS3 { _, number in
            number == 0
                ? HTTPResponse(
                    200, [:],
                    "<DeleteResult><Error><Key>p/b</Key><Code>InternalError</Code></Error><Error><Key>p/c</Key>"
                        + "<Code>NoSuchKey</Code></Error></DeleteResult>") : HTTPResponse(200, [:], "<DeleteResult/>")
        }
        try await s3.store.delete(["a", "b", "c<&\n"], progress: progress)
        #expect(s3.lines == ["POST /bucket?delete=", "POST /bucket?delete="])
        #expect(s3.transport.requests[0].text.contains("<Key>p/c&lt;&amp;&#10;</Key>"))
        #expect(s3.transport.requests[0]["Content-MD5"] != nil)
        #expect(s3.transport.requests[1].text.contains("p/b") && !s3.transport.requests[1].text.contains("p/a"))
        let denied = try ScriptedS3 { _, _ in
            HTTPResponse(
                200, [:], "<DeleteResult><Error><Key>p/b</Key><Code>AccessDenied</Code></Error></DeleteResult>")
        }
        let error = await failure { () async throws(StorageError) in
            try await denied.store.delete(["a", "b"], progress: progress)
        }
        #expect(error?.code == .permissionDenied && error?.detailsDocument["path"] == "s3://bucket/p/b")
        let silent = try ScriptedS3 { _, _ in HTTPResponse(200) }
        let nothing = await failure { () async throws(StorageError) in
            try await silent.store.delete(["a", "b"], progress: progress)
        }
        #expect(nothing?.code == .network)
    }

    /// Counts the pauses of a request: it gives its slot back for each.
    private final class Slot: RequestSlot {
        let pauses = Counter()
        func release() { _ = pauses.next() }
        func reclaim() async throws(StorageError) {}
    }

    private func throttled(_ keys: String...) -> HTTPResponse {
        let errors = keys.map { "<Error><Key>p/\($0)</Key><Code>SlowDown</Code></Error>" }.joined()
        return HTTPResponse(200, [:], "<DeleteResult>\(errors)</DeleteResult>")
    }

    @Test func `keys whose deletion is throttled are asked for again after a pause, and the window hears of it`()
        async throws
    {
        let slot = Slot()
        let troubles = Counter()
        let answers = throttled("a", "b")
        let s3 = try ScriptedS3(onTrouble: { if $0 == .throttled { _ = troubles.next() } }) { _, number in
            number < 12 ? answers : HTTPResponse(200, [:], "<DeleteResult/>")
        }
        try await s3.store.delete(["a", "b"], progress: Progress(slot: slot))
        #expect(s3.lines.count == 13)
        #expect(slot.pauses.next() == 12 && troubles.next() == 12)
    }

    @Test func `P7 keys whose deletion is always throttled are an error after retry_timeout_s, or max_retries`()
        async throws
    {
        let answers = throttled("b", "c")
        for isLimited in [false, true] {
            let clock = FakeClock(step: 100)
            let option = isLimited ? JSONMember("max_retries", 2) : JSONMember("retry_timeout_s", 20)
            let s3 = try ScriptedS3([option], retryTimeout: 3_600_000, environment: clock.environment) { _, _ in answers
            }
            let error = await failure { () async throws(StorageError) in
                try await s3.store.delete(["a", "b", "c"], progress: progress)
            }
            #expect(error?.code == .throttled && error?.detailsDocument["path"] == "s3://bucket/p/c")
            #expect(error?.message.hasSuffix(", and of 1 more") == true)
            #expect(isLimited ? s3.lines.count == 3 : (5...200).contains(s3.lines.count))
        }
    }

    @Test func `rounds pause ever longer, until something gets further or the time is over`() {
        var rounds = S3Rounds(policy: RetryPolicy(timeoutMilliseconds: 10_000), id: 1, now: 0)
        let error = StorageError(.throttled, "", isRetryable: true)
        #expect(rounds.pause(after: error, tries: 3, now: 100, random: 1) == 400)
        #expect(rounds.pause(after: error, now: 500, random: 1) == 800)
        #expect(rounds.pause(after: error, asked: 3000, now: 500, random: 1) == 3000)
        rounds.advance(now: 600)
        #expect(rounds.pause(after: error, now: 700, random: 1) == 100)
        rounds.excuse(5000)
        #expect(rounds.pause(after: error, now: 15_500, random: 1) == 100)
        #expect(rounds.pause(after: error, now: 15_600, random: 1) == nil)
        var once = S3Rounds(policy: RetryPolicy(timeoutMilliseconds: 10_000), id: 1, now: 0)
        #expect(once.pause(after: StorageError(.permissionDenied, ""), now: 1, random: 1) == nil)
    }

    @Test func `a store without batches, and keys that XML cannot carry, get single deletions`() async throws {
        let s3 = try ScriptedS3 { request, _ in
            request.method == "POST" ? .error(501, "NotImplemented") : HTTPResponse(204)
        }
        try await s3.store.delete(["a", "b"], progress: progress)
        try await s3.store.delete(["c", "d"], progress: progress)
        #expect(s3.lines.filter { $0.hasPrefix("POST") }.count == 1)
        #expect(Set(s3.lines.filter { $0.hasPrefix("DELETE") }) == Set("abcd".map { "DELETE /bucket/p/\($0)" }))
        let odd = try ScriptedS3 { request, _ in
            request.method == "POST" ? HTTPResponse(200, [:], "<DeleteResult/>") : HTTPResponse(204)
        }
        try await odd.store.delete(["a", "b", "c\u{1}"], progress: progress)
        #expect(odd.lines == ["POST /bucket?delete=", "DELETE /bucket/p/c%01"])
    }
}
