import Testing

@testable import StorageCore

@Suite struct S3OptionTests {
    private func options(_ query: [(String, String)] = [], _ members: [JSONMember]? = nil) throws(StorageError)
        -> S3Options
    {
        try S3Options(query: query.map { (key: $0.0, value: $0.1) }, storageOptions: members.map { .object($0) })
    }

    @Test func `every option has a name of its own, and is documented with its default`() throws {
        #expect(Set(S3Option.all.map(\.key)).count == S3Option.all.count)
        let path = Path.parent(Path.parent(Path.parent(#filePath)))
        let text = String(decoding: try OpenFile(path + "/docs/s3.md", 0).readAll(limit: 1 << 20), as: UTF8.self)
        for option in S3Option.all {
            let place = option.place == .anywhere ? "" : " ²"
            #expect(text.contains("| `\(option.key)`\(place) | \(option.fallback) | \(option.doc)"), "\(option.key)")
        }
    }

    @Test func `Ray's keys are all taken`() throws {
        let ray = [
            "region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion",
            "tls_ca_file_path", "tls_ca_dir_path", "tls_verify_certificates",
        ]
        #expect(Set(ray).isSubset(of: S3Option.uriKeys))
    }

    @Test func `values are read from text and from JSON's own types, and storage_options win`() throws {
        let read = try options(
            [("max_concurrency", "8"), ("retry_timeout_s", "2.5"), ("dualstack", "TRUE"), ("region", "a")],
            [JSONMember("region", "b"), JSONMember("fips", true), JSONMember("part_size_bytes", 9_000_000)])
        #expect(read.maximumConcurrency == 8 && read.retryTimeoutMilliseconds == 2500 && read.dualstack == true)
        #expect(read.region == "b" && read.fips == true)
        // A whole number of blocks.
        #expect(read.partBytes == 16 << 20)
    }

    @Test(arguments: [
        ("scheme", JSONValue.string("ftp")), ("checksum", "sha1"), ("max_concurrency", 0), ("max_concurrency", "1e3"),
        ("retry_timeout_s", "soon"), ("retry_timeout_s", -1), ("anonymous", "maybe"), ("region", ""), ("region", 7),
        ("storage_class", "DEEP_ARCHIVE"), ("part_size_bytes", 1), ("sse_customer_key", "short"), ("tagging", "a"),
        ("connect_timeout_s", .number(.nan)), ("acl", "a\r\nb: c"),
    ])
    func `a wrong value is refused with what is allowed`(key: String, value: JSONValue) {
        let error = #expect(throws: StorageError.self) { try options([], [JSONMember(key, value)]) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.detailsDocument["name"]?.stringValue == key)
        #expect(error?.detailsDocument["allowed"] != nil)
    }

    @Test(arguments: [
        [("addressing_style", "path"), ("force_virtual_addressing", "true")],
        [("accelerate", "true"), ("fips", "true")],
        [("accelerate", "true"), ("endpoint_override", "h")], [("sse_kms_key_id", "k")],
        [("bucket_key_enabled", "true")],
        [("server_side_encryption", "AES256"), ("sse_kms_key_id", "k")],
    ])
    func `options that contradict each other, or hang in the air, are refused`(query: [(String, String)]) {
        let error = #expect(throws: StorageError.self) { try options(query) }
        #expect(error?.code == .invalidArgument)
    }

    @Test func `credentials come in pairs, and not with anonymous`() throws {
        let id = JSONMember("access_key_id", "A")
        let secret = JSONMember("secret_access_key", "SECRET")
        let pair = try options([], [id, secret])
        #expect(pair.credentials == AWSCredentials(accessKeyID: "A", secretAccessKey: "SECRET"))
        for members in [
            [id], [secret], [JSONMember("session_token", "SECRET")], [JSONMember("external_id", "SECRET")],
            [id, secret, JSONMember("anonymous", true)],
        ] {
            let error = #expect(throws: StorageError.self) { try options([], members) }
            #expect(error?.message.contains("SECRET") == false)
        }
    }

    @Test func `unknown options are refused with the list, and a document that is no object too`() {
        let error = #expect(throws: StorageError.self) { try options([], [JSONMember("acces_key", "x")]) }
        #expect(error?.detailsDocument["allowed"]?.arrayValue?.count == S3Option.all.count)
        #expect(throws: StorageError.self) { try S3Options(query: [], storageOptions: "x") }
    }
}

@Suite struct S3EndpointTests {
    private func url(
        _ bucket: String, _ query: [(String, String)] = [],
        _ settings: S3Endpoint.Settings = .init(region: "eu-west-1"),
        key: String? = "a/b c"
    ) throws -> String {
        let options = try S3Options(query: query.map { (key: $0.0, value: $0.1) }, storageOptions: nil)
        let url = try S3Endpoint(bucket: bucket, options: options, settings: settings).url(key: key)
        return url.shown
    }

    @Test func `AWS's host names`() throws {
        #expect(try url("bkt") == "https://bkt.s3.eu-west-1.amazonaws.com/a/b%20c")
        #expect(try url("bkt", key: nil) == "https://bkt.s3.eu-west-1.amazonaws.com/")
        #expect(try url("b.k.t") == "https://s3.eu-west-1.amazonaws.com/b.k.t/a/b%20c")
        #expect(try url("bkt", [("addressing_style", "path")], key: nil) == "https://s3.eu-west-1.amazonaws.com/bkt")
        #expect(try url("bkt", [("dualstack", "true")]) == "https://bkt.s3.dualstack.eu-west-1.amazonaws.com/a/b%20c")
        #expect(
            try url("bkt", [("fips", "true"), ("region", "us-gov-west-1")])
                == "https://bkt.s3-fips.us-gov-west-1.amazonaws.com/a/b%20c")
        #expect(try url("bkt", [("region", "cn-north-1")]) == "https://bkt.s3.cn-north-1.amazonaws.com.cn/a/b%20c")
        #expect(try url("bkt", [("accelerate", "true")]) == "https://bkt.s3-accelerate.amazonaws.com/a/b%20c")
        #expect(
            try url("n--euw1-az1--x-s3")
                == "https://n--euw1-az1--x-s3.s3express-euw1-az1.eu-west-1.amazonaws.com/a/b%20c")
        #expect(try url("bkt", [], .init()) == "https://bkt.s3.us-east-1.amazonaws.com/a/b%20c")
    }

    @Test func `endpoints of others`() throws {
        #expect(
            try url("bkt", [("endpoint_override", "localhost:9000"), ("scheme", "http")])
                == "http://localhost:9000/bkt/a/b%20c")
        #expect(try url("bkt", [("endpoint_override", "https://h.test/sub/")]) == "https://h.test/sub/bkt/a/b%20c")
        #expect(
            try url("bkt", [("endpoint_override", "h.test"), ("force_virtual_addressing", "true")])
                == "https://bkt.h.test/a/b%20c")
        #expect(try url("bkt", [], .init(endpointURL: "http://[::1]:9000")) == "http://[::1]:9000/bkt/a/b%20c")
        #expect(
            try url("bkt", [("endpoint_override", "h.test")], .init(endpointURL: "http://x"))
                == "https://h.test/bkt/a/b%20c")
    }

    @Test(arguments: [
        ("bkt", [("endpoint_override", "http://h"), ("scheme", "https")]), ("bkt", [("endpoint_override", "ftp://h")]),
        ("bkt", [("endpoint_override", "h:99999")]), ("bkt", [("region", "eu/west")]),
        ("b.k.t", [("accelerate", "true")]), ("b.k.t", [("addressing_style", "virtual")]),
        ("bkt", [("endpoint_override", "127.0.0.1:9000"), ("addressing_style", "virtual")]),
        ("n--euw1-az1--x-s3", [("addressing_style", "path")]),
    ])
    func `places that cannot be are refused`(bucket: String, query: [(String, String)]) {
        let error = #expect(throws: StorageError.self) { try url(bucket, query) }
        #expect(error?.code == .invalidArgument)
    }

    @Test func `keys are encoded once, byte by byte, and never normalised`() throws {
        let endpoint = try S3Endpoint(bucket: "bkt", options: S3Options(), settings: .init())
        let path = endpoint.url(key: "a/../b//c/./ä\u{1}%2F+?#", query: [("b", "1 2"), ("a", "x/y")])
        #expect(path.path == "/a/../b//c/./%C3%A4%01%252F%2B%3F%23")
        #expect(path.query == "a=x%2Fy&b=1%202")
    }
}

@Suite struct RetryBudgetTests {
    @Test func `an outage is a trickle once the bucket is empty`() {
        var budget = RetryBudget(capacity: 3, refillPerSecond: 2, now: 0)
        #expect((0..<5).map { _ in budget.take(now: 0) } == [0, 0, 0, 500, 1000])
        #expect(budget.take(now: 10_000) == 0)
    }

    @Test func `a success gives back a half, up to the capacity`() {
        var budget = RetryBudget(capacity: 1, refillPerSecond: 0.001, now: 0)
        for _ in 0..<10 { budget.succeeded(now: 0) }
        #expect(budget.take(now: 0) == 0)
        budget.succeeded(now: 0)
        budget.succeeded(now: 0)
        #expect(budget.take(now: 0) == 0)
        #expect(budget.take(now: 0) > 0)
    }

    @Test func `only bytes beyond those of any try before are progress`() {
        var bytes = ByteProgress(now: 0)
        bytes.move(100, now: 10)
        #expect(bytes.advancedAt == 10)
        bytes.beginTry()
        bytes.move(100, now: 20)
        #expect(bytes.advancedAt == 10)
        bytes.move(1, now: 30)
        #expect(bytes.advancedAt == 30)
        // It had to wait for others.
        bytes.excuse(15)
        #expect(bytes.advancedAt == 45)
    }

    @Test func `a pause that was asked for is kept, within bounds`() {
        let policy = RetryPolicy(timeoutMilliseconds: 1 << 40, attempts: 3)
        let error = StorageError(.throttled, "", isRetryable: true)
        func pause(_ attempt: Int, _ asked: Int64?) -> Int64? {
            policy.pause(after: error, attempt: attempt, elapsedMilliseconds: 0, random: 0.5, asked: asked)
        }
        #expect(pause(1, nil) == 50)
        #expect(pause(1, 2000) == 2000)
        #expect(pause(1, 1 << 50) == 60_000)
        #expect(pause(3, nil) == nil)
    }
}
