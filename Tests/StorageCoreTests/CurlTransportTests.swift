import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// The transport against a real server on the loopback.
struct CurlTransportTests {
    private let transport = CurlTransport(tls: TLSOptions())
    private let timeouts = HTTPTimeouts()

    private func send(
        _ request: HTTPRequest, _ timeouts: HTTPTimeouts = HTTPTimeouts(), progress: Progress = Progress(),
        onBytes: HTTPByteTally? = nil
    ) async throws(StorageError) -> HTTPResponse {
        try await transport.send(request, timeouts: timeouts, progress: progress, onBytes: onBytes)
    }

    private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0 % 251) } }

    private func failure(
        _ body: () async throws(StorageError) -> HTTPResponse
    ) async throws -> StorageError {
        do throws(StorageError) {
            let response = try await body()
            throw StorageError(.internal, "answered \(response.status)")
        } catch {
            if error.code == .internal { throw error }
            return error
        }
    }

    @Test(arguments: ["GET", "PUT", "POST", "DELETE", "HEAD"])
    func `a request arrives as it is`(method: String) async throws {
        let server = try LoopbackServer()
        var request = HTTPRequest(method, server.url("/a/../b//c%2Fd%20e", query: "x=%2B&y"))
        request.headers = [HTTPHeader("X-One", "1"), HTTPHeader("X-Empty", ""), HTTPHeader("X-Evil", "a\r\nX-Two: b")]
        if method == "PUT" || method == "POST" { request.body = .bytes(Array("hello".utf8)) }
        let response = try await send(request)
        #expect(response.status == 200)
        if method == "HEAD" { return }
        let seen = try JSONParser.parse(response.body)
        #expect(seen["method"]?.stringValue == method)
        #expect(seen["target"]?.stringValue == "/a/../b//c%2Fd%20e?x=%2B&y")
        #expect(seen["headers"]?["x-one"]?.stringValue == "1")
        #expect(seen["headers"]?["x-empty"]?.stringValue == "")
        #expect(seen["headers"]?["x-evil"]?.stringValue == "aX-Two: b")
        #expect(seen["headers"]?["expect"] == nil)
        #expect(seen["headers"]?["transfer-encoding"] == nil)
        #expect(seen["size"]?.intValue == (method == "PUT" || method == "POST" ? 5 : 0))
        if method == "PUT" { #expect(seen["headers"]?["content-length"]?.stringValue == "5") }
    }

    @Test func `an empty PUT says that it is empty`() async throws {
        let server = try LoopbackServer()
        let response = try await send(HTTPRequest("PUT", server.url("/echo"), body: .bytes([])))
        #expect(try JSONParser.parse(response.body)["headers"]?["content-length"]?.stringValue == "0")
    }

    @Test func `a part of a file is sent, and every byte of it is told of`() async throws {
        let server = try LoopbackServer()
        let fixture = try TreeFixture()
        try fixture.file("data", pattern(5_000_000))
        let file = try OpenFile(fixture.at("data"), O_RDONLY)
        let told = Mutex((up: 0, down: 0))
        let response = try await send(
            HTTPRequest("PUT", server.url("/echo"), body: .file(file, offset: 251, length: 4_000_000)),
            onBytes: { count, way in told.withLock { if way == .up { $0.up += count } else { $0.down += count } } })
        let whole = try await send(HTTPRequest("PUT", server.url("/echo"), body: .bytes(pattern(4_000_000))))
        #expect(
            try JSONParser.parse(response.body)["crc32"]?.intValue == JSONParser.parse(whole.body)["crc32"]?.intValue)
        #expect(told.withLock { $0.up } >= 4_000_000 && told.withLock { $0.down } == response.body.count)
    }

    @Test func `a file that is too short ends the request`() async throws {
        let server = try LoopbackServer()
        let fixture = try TreeFixture()
        try fixture.file("data", pattern(1000))
        let file = try OpenFile(fixture.at("data"), O_RDONLY)
        let error = try await failure { () async throws(StorageError) in
            try await send(HTTPRequest("PUT", server.url("/echo"), body: .file(file, offset: 0, length: 2000)))
        }
        #expect(error.code == .io)
        #expect(error.message.contains("became shorter"))
    }

    @Test(arguments: [0, 1, 8 << 20, (8 << 20) + 1, 20_000_000])
    func `a body goes into a file at its place, with the CRC of each block`(count: Int) async throws {
        let server = try LoopbackServer()
        let fixture = try TreeFixture()
        let file = try OpenFile(fixture.at("out"), O_RDWR | O_CREAT)
        var request = HTTPRequest("GET", server.url("/bytes", query: "\(count)"))
        request.sink = .file(file, offset: 100, length: count)
        let response = try await send(request)
        let expected = pattern(count)
        #expect(response.bodyLength == count)
        #expect(response.body.isEmpty)
        #expect(Array(try file.readAll(limit: 30_000_000).dropFirst(100)) == expected)
        let blocks = stride(from: 0, to: count, by: CRC32C.blockSize).map {
            CRC32C.of(Array(expected[$0..<min($0 + CRC32C.blockSize, count)]))
        }
        #expect(response.blockChecksums == blocks)
    }

    @Test(arguments: [1, 100, CRC32C.blockSize, CRC32C.blockSize + 5])
    func `what a broken body has brought is not asked for again`(cut: Int) async throws {
        let server = try LoopbackServer()
        let fixture = try TreeFixture()
        let file = try OpenFile(fixture.at("out"), O_RDWR | O_CREAT)
        let count = CRC32C.blockSize + 1000
        let receipt = HTTPReceipt()
        func request(_ query: String, from start: Int) -> HTTPRequest {
            var request = HTTPRequest("GET", server.url("/bytes", query: query))
            request.headers = [HTTPHeader("Range", "bytes=\(start)-\(count - 1)")]
            request.sink = .file(file, offset: 0, length: count)
            request.receipt = receipt
            return request
        }
        _ = try await failure { () async throws(StorageError) in
            try await send(request("\(count)&cut=\(cut)", from: 0))
        }
        #expect(receipt.current.length == cut)
        let response = try await send(request("\(count)", from: cut))
        #expect(response.status == 206 && response.bodyStart == cut && response.bodyLength == count)
        let expected = pattern(count)
        #expect(try file.readAll(limit: 30_000_000) == expected)
        let blocks = [expected[..<CRC32C.blockSize], expected[CRC32C.blockSize...]].map { CRC32C.of(Array($0)) }
        #expect(response.blockChecksums == blocks)
    }

    @Test(arguments: [99, 101])
    func `more or fewer bytes than were asked for are an error`(count: Int) async throws {
        let server = try LoopbackServer()
        let fixture = try TreeFixture()
        let file = try OpenFile(fixture.at("out"), O_RDWR | O_CREAT)
        let error = try await failure { () async throws(StorageError) in
            var request = HTTPRequest("GET", server.url("/bytes", query: "\(count)"))
            request.sink = .file(file, offset: 0, length: 100)
            return try await send(request)
        }
        #expect(error.code == .network)
        // The server announced that length, and will again.
        #expect(!error.isRetryable && error.detailsDocument["announced_bytes"]?.intValue == count)
    }

    @Test(arguments: [99, 101])
    func `a page in place of an object may be another one the next time`(count: Int) async throws {
        let server = try LoopbackServer()
        let fixture = try TreeFixture()
        let file = try OpenFile(fixture.at("out"), O_RDWR | O_CREAT)
        let error = try await failure { () async throws(StorageError) in
            var request = HTTPRequest("GET", server.url("/bytes", query: "\(count)&page"))
            request.sink = .file(file, offset: 0, length: 100)
            return try await send(request)
        }
        #expect(error.code == .network && error.isRetryable)
        #expect(error.detailsDocument["announced_bytes"] == nil)
    }

    @Test func `a connection that breaks in the middle is an error, retryable`() async throws {
        let server = try LoopbackServer()
        let error = try await failure { () async throws(StorageError) in
            var request = HTTPRequest("GET", server.url("/bytes", query: "1000&cut=500"))
            request.sink = .memory(limit: 1000)
            return try await send(request)
        }
        #expect(error.code == .network)
        #expect(error.isRetryable)
        #expect(error.message.contains("lost the connection"))
        #expect(error.detailsDocument["curl_code"]?.intValue == 18)
    }

    @Test(arguments: ["/stall", "/silent"])
    func `P7 silence ends a request after the stall limit`(path: String) async throws {
        let server = try LoopbackServer()
        let error = try await failure { () async throws(StorageError) in
            try await send(HTTPRequest("GET", server.url(path, query: "10")), HTTPTimeouts(stall: 300))
        }
        #expect(error.code == .network)
        #expect(error.isRetryable)
        #expect(error.message.contains("moved no byte for 300 ms"))
    }

    @Test(.timeLimit(.minutes(30))) func `P7 a cancel ends a request that nothing else would end`() async throws {
        let server = try LoopbackServer()
        let progress = Progress()
        let error = try await failure { () async throws(StorageError) in
            // The first bytes are there when it cancels: from then on there is silence.
            try await send(
                HTTPRequest("GET", server.url("/stall", query: "10")), HTTPTimeouts(stall: 3_600_000),
                progress: progress, onBytes: { _, _ in progress.cancel() })
        }
        #expect(error.code == .cancelled)
    }

    @Test func `an early refusal of a large body is the answer, not a broken pipe`() async throws {
        let server = try LoopbackServer()
        let response = try await send(
            HTTPRequest("PUT", server.url("/early"), body: .bytes([UInt8](repeating: 7, count: 30_000_000))))
        #expect(response.status == 403)
        #expect(String(decoding: response.body, as: UTF8.self) == "<Error>no</Error>")
    }

    @Test func `bodies of errors and of small answers are bounded`() async throws {
        let server = try LoopbackServer()
        let response = try await send(HTTPRequest("GET", server.url("/status", query: "500")))
        #expect(response.status == 500)
        #expect(response.body.count == HTTPResponseReader.maximumErrorBytes)
        let error = try await failure { () async throws(StorageError) in
            var request = HTTPRequest("GET", server.url("/bytes", query: "1001"))
            request.sink = .memory(limit: 1000)
            return try await send(request)
        }
        #expect(error.message.contains("larger than 1000 bytes"))
    }

    @Test(arguments: ["/headers", "/garbage"])
    func `what is no proper answer is an error`(path: String) async throws {
        let server = try LoopbackServer()
        let error = try await failure { () async throws(StorageError) in
            try await send(HTTPRequest("GET", server.url(path, query: "400000")))
        }
        #expect(error.code == .network)
    }

    @Test func `nobody listens, and no such name`() async throws {
        let server = try LoopbackServer()
        var url = server.url("/")
        url.port = 1
        let refused = try await failure { () async throws(StorageError) in try await send(HTTPRequest("GET", url)) }
        #expect(refused.code == .network)
        #expect(refused.detailsDocument["curl_code"]?.intValue == 7)
        #expect(ConnectFailure(refused) == .refused)
        url.host = "no-such-host.invalid"
        let unknown = try await failure { () async throws(StorageError) in try await send(HTTPRequest("GET", url)) }
        #expect(unknown.detailsDocument["curl_code"]?.intValue == 6)
        #expect(unknown.isRetryable)
    }

    @Test func `connections are kept, unless a fresh one is asked for`() async throws {
        let server = try LoopbackServer()
        let transport = CurlTransport(tls: TLSOptions())
        var numbers: [String?] = []
        for fresh in [false, false, false, true] {
            var request = HTTPRequest("GET", server.url("/echo"))
            request.usesFreshConnection = fresh
            numbers.append(
                try await transport.send(request, timeouts: timeouts, progress: Progress(), onBytes: nil)["x-number"])
        }
        // The loop with the least to do takes it: with nothing else under way always the same one, unless other tests run.
        #expect(Set(numbers.compactMap { $0 }).count < 4)
        #expect(numbers[3] != numbers[2])
    }

    @Test func `a hundred requests side by side`() async throws {
        let server = try LoopbackServer()
        let statuses = Mutex<[Int]>([])
        try await Engine.shared.forEach(Array(0..<100), limit: 16) { number throws(StorageError) in
            let response = try await send(HTTPRequest("PUT", server.url("/echo"), body: .bytes(pattern(number * 1000))))
            statuses.withLock { $0.append(response.status) }
        }
        #expect(statuses.withLock { $0 } == [Int](repeating: 200, count: 100))
    }

    @Test func `P12 connections that the server has ended keep no thread busy, and are not used again`() async throws {
        let server = try LoopbackServer()
        let loop = CurlLoop(number: 9)
        for _ in 0..<3 {
            let result = await withCheckedContinuation { continuation in
                loop.submit(
                    CurlTransfer(
                        HTTPRequest("GET", server.url("/hangup")), timeouts: timeouts, tls: TLSOptions(),
                        proxies: ProxyOptions(), progress: Progress(), onBytes: nil, continuation: continuation))
            }
            #expect(try result.get().body == Array("x".utf8))
            let before = loop.waits
            // As long as a thread that does not wait needs for thousands of turns.
            await Engine.shared.sleep(milliseconds: 200)
            #expect(loop.waits - before < 10)
        }
        loop.requestStop()
        loop.waitForStop(Deadline(timeoutMilliseconds: 600_000))
    }

    @Test func `P12 the threads have our names`() async throws {
        let server = try LoopbackServer()
        _ = try await send(HTTPRequest("GET", server.url("/echo")))
        let names = try System.list("/proc/self/task").compactMap { id in
            (try? OpenFile("/proc/self/task/\(id)/comm", O_RDONLY)).flatMap { try? $0.readAll(limit: 64) }
                .map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(names.contains { $0.hasPrefix("raystorage-nt-") })
    }
}

/// A CA for tests, and certificates of it.
struct TestAuthority {
    let fixture: TreeFixture
    var ca: String { fixture.at("ca.pem") }

    init() throws {
        fixture = try TreeFixture()
        try Self.run(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout '\(fixture.at("ca.key"))' -out '\(fixture.at("ca.pem"))'"
                + " -days 2 -subj /CN=raystorage-test")
    }

    func certificate(_ names: String, days: Int = 2) throws -> (certificate: String, key: String) {
        let base = fixture.at("leaf")
        try fixture.file("ext", Array("subjectAltName=\(names)\n".utf8))
        try Self.run(
            "openssl req -newkey rsa:2048 -nodes -keyout '\(base).key' -out '\(base).csr' -subj /CN=leaf && openssl x509"
                + " -req -in '\(base).csr' -CA '\(ca)' -CAkey '\(fixture.at("ca.key"))' -CAcreateserial -days \(days)"
                + " -extfile '\(fixture.at("ext"))' -out '\(base).pem'")
        return ("\(base).pem", "\(base).key")
    }

    /// One that was good for a day in 2020.
    func expiredCertificate() throws -> (certificate: String, key: String) {
        let (certificate, key) = try certificate("IP:127.0.0.1")
        let base = fixture.at("leaf")
        try fixture.file("index", [])
        try fixture.file(
            "conf",
            Array(
                """
                [ca]
                default_ca = own
                [own]
                database = \(fixture.at("index"))
                new_certs_dir = \(fixture.path)
                rand_serial = yes
                default_md = sha256
                policy = any
                [any]
                commonName = supplied

                """.utf8))
        try Self.run(
            "openssl ca -batch -config '\(fixture.at("conf"))' -cert '\(ca)' -keyfile '\(fixture.at("ca.key"))'"
                + " -startdate 20200101000000Z -enddate 20200102000000Z -extfile '\(fixture.at("ext"))' -in '\(base).csr'"
                + " -out '\(certificate)'")
        return (certificate, key)
    }

    private static func run(_ command: String) throws {
        guard system("(\(command)) >/dev/null 2>&1") == 0 else { throw StorageError(.io, command) }
    }
}

/// Who is trusted.
struct TLSTests {
    private func get(_ url: HTTPURL, _ tls: TLSOptions) async throws(StorageError) -> Int {
        let transport = CurlTransport(tls: tls)
        let request = HTTPRequest("GET", url)
        return try await transport.send(request, timeouts: HTTPTimeouts(), progress: Progress(), onBytes: nil).status
    }

    @Test func `a certificate of a trusted authority is taken, of any other refused for good`() async throws {
        let authority = try TestAuthority()
        let (certificate, key) = try authority.certificate("IP:127.0.0.1")
        let server = try LoopbackServer(certificate: certificate, key: key)
        let url = server.url("/echo", scheme: "https")
        #expect(try await get(url, TLSOptions(caFile: authority.ca)) == 200)
        #expect(try await get(url, TLSOptions(verifies: false)) == 200)
        do {
            _ = try await get(url, TLSOptions.system(environment: .system))
            Issue.record("was trusted")
        } catch {
            #expect(error.code == .network)
            #expect(!error.isRetryable)
            #expect(error.detailsDocument["curl_code"]?.intValue == 60)
            #expect(error.message.contains("TLS"))
        }
    }

    @Test func `an expired certificate is refused`() async throws {
        let authority = try TestAuthority()
        let (certificate, key) = try authority.expiredCertificate()
        let server = try LoopbackServer(certificate: certificate, key: key)
        do {
            _ = try await get(server.url("/echo", scheme: "https"), TLSOptions(caFile: authority.ca))
            Issue.record("was trusted")
        } catch {
            #expect(error.code == .network)
            #expect(!error.isRetryable)
            #expect(error.message.contains("expired"))
        }
    }

    @Test func `a certificate for another name is refused`() async throws {
        let authority = try TestAuthority()
        let (certificate, key) = try authority.certificate("DNS:elsewhere.example")
        let server = try LoopbackServer(certificate: certificate, key: key)
        do {
            _ = try await get(server.url("/echo", scheme: "https"), TLSOptions(caFile: authority.ca))
            Issue.record("was trusted")
        } catch {
            #expect(error.code == .network)
            #expect(!error.isRetryable)
        }
    }

    @Test(arguments: [
        (["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs"], "/etc/ssl/certs/ca-certificates.crt"),
        (["/etc/pki/tls/certs/ca-bundle.crt"], "/etc/pki/tls/certs/ca-bundle.crt"),
        (["/var/lib/ca-certificates/ca-bundle.pem"], "/var/lib/ca-certificates/ca-bundle.pem"),
        (["/etc/ssl/cert.pem"], "/etc/ssl/cert.pem"),
    ])
    func `the trust store of each distribution is found`(files: [String], expected: String) {
        let found = TLSOptions.trustStore(variable: { _ in nil }, exists: { files.contains($0) })
        #expect(found == TLSOptions(caFile: expected))
    }

    @Test func `OpenSSL's variables win, and a directory serves where there is no file`() {
        let named = TLSOptions.trustStore(
            variable: { ["SSL_CERT_FILE": "/f", "SSL_CERT_DIR": "/d"][$0] }, exists: { _ in true })
        #expect(named == TLSOptions(caFile: "/f", caDirectory: "/d"))
        let directory = TLSOptions.trustStore(variable: { _ in nil }, exists: { $0 == "/etc/ssl/certs" })
        #expect(directory == TLSOptions(caDirectory: "/etc/ssl/certs"))
    }
}
