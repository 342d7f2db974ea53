import CStorage
import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// Swift keeps `fork` from its users; hosts do not.
func forkProcess() -> Int32 {
    typealias Fork = @convention(c) () -> Int32
    return unsafeBitCast(dlsym(nil, "fork"), to: Fork.self)()
}

private func descriptors() throws -> [Int32] { try System.list("/proc/self/fd").compactMap { Int32($0) } }

/// Whether it is a connection or was one: a socket of the Internet's families.
private func isInternetSocket(_ descriptor: Int32) -> Bool {
    var family: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0 && family == AF_INET
}

/// Runs on the engine, also in a child that has none of its parent's threads.
private func waitFor(_ body: @escaping @Sendable () async -> Bool) -> Bool {
    let monitor = Monitor()
    let result = Mutex<Bool?>(nil)
    Engine.shared.spawn {
        let value = await body()
        monitor.withLock {
            result.withLock { $0 = value }
            monitor.broadcast()
        }
    }
    return monitor.withLock {
        while result.withLock({ $0 == nil }) { monitor.wait() }
        return result.withLock { $0 } ?? false
    }
}

private func succeeds(_ transport: CurlTransport, _ request: HTTPRequest) async -> Bool {
    let response = try? await transport.send(
        request, timeouts: HTTPTimeouts(), progress: Progress(), onBytes: nil)
    return response?.status == 200
}

/// Uploads side by side until told to stop; how many did not succeed.
private final class Uploads: Sendable {
    private let stopped = Flag()
    private let running = Atomic<Int>(0)
    private let failed = Atomic<Int>(0)
    private let begun = Atomic<Int>(0)
    private let monitor = Monitor()

    init(_ count: Int, _ transport: CurlTransport, _ url: HTTPURL) {
        running.store(count, ordering: .relaxed)
        for _ in 0..<count {
            Engine.shared.spawn { [self] in
                let body = [UInt8](repeating: 7, count: 3_000_000)
                while !stopped.isSet {
                    let isGood = await succeeds(transport, HTTPRequest("PUT", url, body: .bytes(body)))
                    if !isGood { failed.add(1, ordering: .relaxed) }
                    monitor.withLock {
                        begun.add(1, ordering: .relaxed)
                        monitor.broadcast()
                    }
                }
                monitor.withLock {
                    running.subtract(1, ordering: .relaxed)
                    monitor.broadcast()
                }
            }
        }
    }

    /// Until so many have been sent.
    func wait(for count: Int) {
        monitor.withLock { while begun.load(ordering: .relaxed) < count { monitor.wait() } }
    }

    func stop() -> Int {
        stopped.raise()
        monitor.withLock { while running.load(ordering: .relaxed) > 0 { monitor.wait() } }
        return failed.load(ordering: .relaxed)
    }
}

/// An address that answers no attempt to connect: the queue of who listens there is full.
private struct BlackHole {
    let port: Int

    init() throws {
        let listener = try System.check("socket", "") { socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        try withUnsafeMutablePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                try System.check("bind", "") { bind(listener, address, length) }
                try System.check("listen", "") { listen(listener, 0) }
                try System.check("getsockname", "") { getsockname(listener, address, &length) }
                for _ in 0..<3 {
                    connect(socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK, 0), address, length)
                }
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
    }
}

/// What the transport does to the process that it is a guest in; each in a process of its own.
struct NetworkGuestTests {
    @Test func `P12 a child keeps the file that has got the number of a connection that was never made`() async {
        await #expect(processExitsWith: .success) {
            alarm(300)
            let hole = try BlackHole()
            let request = HTTPRequest(
                "GET", HTTPURL(scheme: "http", host: "127.0.0.1", port: hole.port, path: "/", query: ""))
            await #expect(throws: StorageError.self) {
                try await CurlTransport(tls: TLSOptions()).send(
                    request, timeouts: HTTPTimeouts(connect: 200), progress: Progress(), onBytes: nil)
            }
            // All the lowest numbers that are free.
            let files = try (0..<32).map { _ in try OpenFile("/proc/self/exe", O_RDONLY) }
            let child = forkProcess()
            if child == 0 { _exit(files.allSatisfy { fcntl($0.descriptor, F_GETFD) >= 0 } ? 0 : 3) }
            var status: Int32 = 0
            #expect(waitpid(child, &status, 0) == child && status == 0)
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func `P12 a child that is forked during transfers sends its own and leaves ours alone`() async {
        await #expect(processExitsWith: .success) {
            let authority = try TestAuthority()
            let (certificate, key) = try authority.certificate("IP:127.0.0.1")
            let server = try LoopbackServer(certificate: certificate, key: key)
            let transport = CurlTransport(tls: TLSOptions(caFile: authority.ca))
            let url = server.url("/echo", scheme: "https")
            let uploads = Uploads(6, transport, url)
            uploads.wait(for: 6)
            for _ in 0..<20 {
                let child = forkProcess()
                if child == 0 {
                    // One that hangs dies, and is seen.
                    alarm(60)
                    let leftOpen = (try? descriptors())?.contains(where: isInternetSocket) ?? true
                    let isGood = waitFor { await succeeds(transport, HTTPRequest("GET", url)) }
                    _exit(leftOpen ? 3 : isGood ? 0 : 4)
                }
                var status: Int32 = 0
                #expect(waitpid(child, &status, 0) == child)
                #expect(status == 0)
                if status != 0 { break }
            }
            #expect(uploads.stop() == 0)
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func `P12 programs that the host starts inherit no connection`() async {
        await #expect(processExitsWith: .success) {
            let server = try LoopbackServer()
            let uploads = Uploads(2, CurlTransport(tls: TLSOptions()), server.url("/echo"))
            uploads.wait(for: 2)
            let connections = try descriptors().filter(isInternetSocket)
            #expect(!connections.isEmpty)
            #expect(connections.allSatisfy { fcntl($0, F_GETFD, 0) & FD_CLOEXEC != 0 })
            #expect(uploads.stop() == 0)
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func `P12 exit during transfers over TLS ends the process and nothing else`() async {
        for _ in 0..<3 {
            await #expect(processExitsWith: .exitCode(17)) {
                let authority = try TestAuthority()
                let (certificate, key) = try authority.certificate("IP:127.0.0.1")
                let server = try LoopbackServer(certificate: certificate, key: key)
                let transport = CurlTransport(tls: TLSOptions(caFile: authority.ca))
                let uploads = Uploads(6, transport, server.url("/echo", scheme: "https"))
                uploads.wait(for: 6)
                exit(17)
            }
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func `P12 a connection that is closed under a writer raises no SIGPIPE`() async {
        await #expect(processExitsWith: .success) {
            let authority = try TestAuthority()
            let (certificate, key) = try authority.certificate("IP:127.0.0.1")
            let server = try LoopbackServer(certificate: certificate, key: key)
            let transport = CurlTransport(tls: TLSOptions(caFile: authority.ca))
            var action = sigaction()
            for _ in 0..<10 {
                let body = HTTPBody.bytes([UInt8](repeating: 7, count: 20_000_000))
                let request = HTTPRequest("PUT", server.url("/early", scheme: "https"), body: body)
                _ = try? await transport.send(
                    request, timeouts: HTTPTimeouts(), progress: Progress(), onBytes: nil)
                sigaction(SIGPIPE, nil, &action)
                #expect(action.__sigaction_handler.sa_handler == nil)
            }
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func `P12 no thread before the first request, none after the engine's end`() async {
        await #expect(processExitsWith: .success) {
            func networkThreads() throws -> Int {
                try System.list("/proc/self/task").filter { id in
                    let name = try? OpenFile("/proc/self/task/\(id)/comm", O_RDONLY).readAll(limit: 64)
                    return name?.starts(with: "raystorage-nt-".utf8) ?? false
                }.count
            }
            let server = try LoopbackServer()
            let transport = CurlTransport(tls: TLSOptions())
            #expect(try networkThreads() == 0)
            #expect(await succeeds(transport, HTTPRequest("GET", server.url("/echo"))))
            #expect(try networkThreads() == 1)
            let engine = Engine.shared
            engine.stop(Deadline(timeoutMilliseconds: 30_000))
            // A thread says that it ends before the kernel takes it off its list.
            let deadline = Deadline(timeoutMilliseconds: 10_000)
            while try networkThreads() > 0, !deadline.isPast { sched_yield() }
            #expect(try networkThreads() == 0)
            do {
                let request = HTTPRequest("GET", server.url("/echo"))
                _ = try await transport.send(
                    request, timeouts: HTTPTimeouts(), progress: Progress(), onBytes: nil)
                Issue.record("was sent")
            } catch { #expect((error as? StorageError)?.code == .closed) }
        }
    }
}

/// Requests that go through somebody else.
struct ProxyTests {
    private func get(_ url: HTTPURL, _ proxies: ProxyOptions) async throws(StorageError) -> HTTPResponse {
        try await CurlTransport(tls: TLSOptions(), proxies: proxies).send(
            HTTPRequest("GET", url), timeouts: HTTPTimeouts(), progress: Progress(), onBytes: nil)
    }

    @Test func `a proxy is told the whole URL, unless the host is excepted`() async throws {
        let server = try LoopbackServer()
        var proxies = ProxyOptions(http: "http://127.0.0.1:\(server.port)")
        let store = HTTPURL(scheme: "http", host: "store.example", port: nil, path: "/a/../b")
        let seen = try JSONParser.parse(try await get(store, proxies).body)
        #expect(seen["target"]?.stringValue == "http://store.example/a/../b")
        proxies.exceptions = "elsewhere.example,127.0.0.1"
        let direct = try JSONParser.parse(try await get(server.url("/x"), proxies).body)
        #expect(direct["target"]?.stringValue == "/x")
    }

    @Test func `what a proxy says to CONNECT is not the answer`() async throws {
        let server = try LoopbackServer()
        let store = HTTPURL(scheme: "https", host: "store.example", port: nil, path: "/")
        do {
            let response = try await get(store, ProxyOptions(https: "http://127.0.0.1:\(server.port)"))
            Issue.record("was answered with \(response.status)")
        } catch {
            #expect(error.code == .network)
            #expect(error.message.contains("403"))
        }
    }

    @Test func `the variables of curl decide, the small ones first`() throws {
        func options(_ variables: [String: String]) throws -> ProxyOptions {
            try ProxyOptions.from { variables[$0] }
        }
        #expect(try options([:]) == ProxyOptions())
        #expect(
            try options(["http_proxy": "a", "https_proxy": "b", "HTTPS_PROXY": "c", "no_proxy": "d", "NO_PROXY": "e"])
                == ProxyOptions(http: "a", https: "b", exceptions: "d"))
        #expect(try options(["HTTP_PROXY": "evil"]) == ProxyOptions())
        #expect(try options(["ALL_PROXY": "x", "HTTPS_PROXY": "c"]) == ProxyOptions(http: "x", https: "c"))
        #expect(ProxyOptions(http: "a", https: "b").proxy(scheme: "https") == "b")
    }

    @Test(arguments: [
        "proxy", "proxy:3128", "http://proxy:3128/", "HTTPS://proxy", "socks5h://u:p@10.0.0.1:1080",
        "socks://[::1]:1080",
        "u:p%40ss%2Fword@proxy:3128", "http://u@proxy_1.example",
    ])
    func `what curl takes for a proxy is taken`(url: String) throws {
        #expect(try ProxyOptions.from { ["https_proxy": url][$0] }.https == url)
    }

    @Test(arguments: [
        "ftp://user:hunter2@proxy:3128", "http//user:hunter2@proxy", "http://user:hunter2@proxy:port",
        "http://user:hunter2@", "http://user:hunter2@proxy:99999", "http://user:hun/ter2@proxy", "user:hunter2@pro xy",
        "http://user:hun@ter2@proxy", "http://user:hun%0ater2@proxy", "http://user:hunter2 @proxy:3128",
        "user:hunter2#@x",
        "http://user:hunter2@[::1", "://user:hunter2@proxy",
    ])
    func `P11 a malformed proxy is refused at open, by the variable's name alone`(url: String) throws {
        for name in ["https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"] {
            var environment = Environment.system
            environment.variable = { $0 == name ? url : nil }
            let error = try #require(
                throws: StorageError.self,
                performing: {
                    try S3Store.open(
                        bucket: "b", prefix: "", query: [(key: "endpoint_override", value: "http://127.0.0.1:1")],
                        storageOptions: nil, patience: StorePatience(retryMilliseconds: 1000), environment: environment)
                })
            #expect(error.code == .invalidArgument && !error.isRetryable)
            #expect(error.message.contains(name) && error.detailsDocument["name"] == .string(name))
            let said = error.message + "\(error.detailsDocument)"
            #expect(!said.contains("hun") && !said.contains("ter2") && !said.contains("user:h"))
        }
    }

    @Test(arguments: [
        "ftp://user:hunter2@127.0.0.1:1", "http://user:hunter2@127.0.0.1:port", "http://user:hunter2@[::1",
        "http://user:" + String(repeating: "hunter2", count: 60) + "@127.0.0.1:port",
    ])
    func `P11 what curl says of a proxy's URL is not repeated, and is for good`(url: String) async throws {
        let store = HTTPURL(scheme: "http", host: "store.example", port: nil, path: "/")
        do {
            _ = try await get(store, ProxyOptions(http: url))
            Issue.record("was answered")
        } catch {
            #expect(error.code == .network && !error.isRetryable)
            #expect(error.message.contains("proxy"))
            #expect(!(error.message + "\(error.detailsDocument)").contains("hunter"))
        }
    }

    @Test func `P11 a proxy's user is left out of whatever words`() {
        func shown(_ words: String, _ proxy: String) -> String { ProxyURL.withoutUser(words, proxy: proxy) }
        #expect(shown("no route to http://u:pass@p:1", "http://u:pass@p:1") == "no route to http://…@p:1")
        #expect(shown("no route to p", "http://u:pass@p:1") == "no route to p")
        #expect(shown("no route to p", "http://p:1") == "no route to p")
        #expect(shown("no route to p", "") == "no route to p")
        for said in ["login of pa%40ss failed", "login of pa@ss failed"] {
            #expect(shown(said, "http://u:pa%40ss@p:1") == "(words that repeat a password)")
        }
    }
}
