internal import CStorage
internal import Glibc
internal import Synchronization

/// Requests over libcurl, HTTP/1.1 with connections that are kept; in threads of our own (`raystorage-nt-0` …).
struct CurlTransport: HTTPTransport {
    let tls: TLSOptions
    let proxies: ProxyOptions
    private let loops: CurlLoops

    /// On the loops of an engine, which all transports of a process share.
    init(tls: TLSOptions, proxies: ProxyOptions = ProxyOptions(), engine: Engine = .shared) {
        self.tls = tls
        self.proxies = proxies
        loops = engine.only(CurlLoops.self) { CurlLoops() }
    }

    /// Those of this process: a forked child has none of its parent's threads.
    private var living: CurlLoops {
        loops.processID == getpid() ? loops : Engine.shared.only(CurlLoops.self) { CurlLoops() }
    }

    func send(
        _ request: HTTPRequest, timeouts: HTTPTimeouts, progress: Progress, onBytes: HTTPByteTally?
    ) async throws(StorageError) -> HTTPResponse {
        try progress.checkCancelled()
        let result = await withCheckedContinuation { continuation in
            let transfer = CurlTransfer(
                request, timeouts: timeouts, tls: tls, proxies: proxies, progress: progress, onBytes: onBytes,
                continuation: continuation)
            living.submit(transfer)
        }
        return try result.get()
    }
}

/// The loops of a process: as many as cores can feed, each with its own connections.
final class CurlLoops: EnginePart {
    private let loops: [CurlLoop]
    /// Where their threads are.
    let processID = getpid()

    init() {
        let cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        loops = (0..<max(1, min(4, cores))).map { CurlLoop(number: $0) }
    }

    /// To the loop with the least to do.
    func submit(_ transfer: CurlTransfer) {
        guard let loop = loops.min(by: { $0.load < $1.load }) else { return }
        loop.submit(transfer)
    }

    func stop(_ deadline: Deadline) {
        for loop in loops { loop.requestStop() }
        for loop in loops { loop.waitForStop(deadline) }
    }
}

/// One thread with one multi handle: only it touches its transfers.
final class CurlLoop: @unchecked Sendable {
    // Proof for @unchecked: the variables are only touched with `monitor` locked; `active` only by the loop's thread.
    private let monitor = Monitor()
    private let number: Int
    private var multi: UnsafeMutableRawPointer?
    private var waiting: [CurlTransfer] = []
    /// Whether it waits, or is about to, for something to happen.
    private var isIdle = false
    private var waitCount = 0
    private var isRunning = false
    private var isStopping = false
    private var count = 0
    private var active: [CurlTransfer] = []

    /// Connections that are kept for the next request.
    private static let idleConnections = 128
    /// How soon a cancel or a stall is noticed.
    private static let tick: Int32 = 50
    private static let leastBetweenChecks: Int64 = 20_000_000
    private static let idleTick: Int32 = 60_000

    init(number: Int) { self.number = number }

    /// Requests under way.
    var load: Int { monitor.withLock { count } }

    /// How often it has waited for something to happen.
    var waits: Int { monitor.withLock { waitCount } }

    func submit(_ transfer: CurlTransfer) {
        let isTaken = monitor.withLock {
            guard !isStopping, start() else { return false }
            count += 1
            waiting.append(transfer)
            wake()
            return true
        }
        if !isTaken { transfer.refuse(isStopping: monitor.withLock { isStopping }) }
    }

    /// With the monitor locked: awake, it looks before it waits again.
    private func wake() {
        guard isIdle, let multi else { return }
        isIdle = false
        cs_curl_multi_wakeup(multi)
    }

    /// With the monitor locked: makes handle and thread when they are first needed.
    private func start() -> Bool {
        if isRunning { return true }
        if multi == nil { multi = cs_curl_multi_new(Self.idleConnections) }
        guard let multi else { return false }
        isRunning = NamedThread.start("raystorage-nt-\(number)") { [self, box = SendablePointer(multi)] in
            run(box.pointer)
        } atEnd: { [self] in
            monitor.withLock {
                isRunning = false
                monitor.broadcast()
            }
        }
        return isRunning
    }

    private struct SendablePointer: @unchecked Sendable {
        // Proof for @unchecked: handed from the one that makes it to the one thread that uses it.
        let pointer: UnsafeMutableRawPointer
        init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }
    }

    private func run(_ multi: UnsafeMutableRawPointer) {
        var checkedAt: Int64 = 0
        while let fresh = takeWaiting() {
            for transfer in fresh {
                if transfer.begin(on: multi) { active.append(transfer) } else { finished() }
            }
            cs_curl_multi_wait(multi, timeout())
            monitor.withLock { isIdle = false }
            cs_curl_multi_act(multi)
            var context: UnsafeMutableRawPointer?
            var code: Int32 = 0
            while cs_curl_multi_next(multi, &context, &code) == 1 {
                guard let place = active.firstIndex(where: { $0.isSame(as: context) }) else { continue }
                end(place, multi) { $0.finish(code) }
            }
            let now = cs_monotonic_ns()
            var place = now - checkedAt < Self.leastBetweenChecks ? active.count : 0
            if place == 0 { checkedAt = now }
            while place < active.count {
                if let error = active[place].problem(now) {
                    end(place, multi) { $0.fail(error) }
                } else {
                    place += 1
                }
            }
        }
        for place in active.indices.reversed() { end(place, multi) { $0.refuse(isStopping: true) } }
        // First out of the reach of those who would wake it.
        monitor.withLock { self.multi = nil }
        cs_curl_multi_free(multi)
    }

    /// nil: it is time to stop, and nothing is under way.
    private func takeWaiting() -> [CurlTransfer]? {
        monitor.withLock {
            if isStopping, waiting.isEmpty { return nil }
            defer { waiting = [] }
            return waiting
        }
    }

    /// How long it may wait, in milliseconds.
    private func timeout() -> Int32 {
        monitor.withLock {
            waitCount += 1
            isIdle = waiting.isEmpty && !isStopping
            return !isIdle ? 0 : active.isEmpty ? Self.idleTick : Self.tick
        }
    }

    private func end(_ place: Int, _ multi: UnsafeMutableRawPointer, _ tell: (CurlTransfer) -> Void) {
        let transfer = active[place]
        active[place] = active[active.count - 1]
        active.removeLast()
        transfer.leave(multi)
        tell(transfer)
        finished()
    }

    private func finished() { monitor.withLock { count -= 1 } }

    func requestStop() {
        monitor.withLock {
            isStopping = true
            wake()
        }
    }

    func waitForStop(_ deadline: Deadline) {
        monitor.withLock {
            while isRunning, !deadline.isPast { _ = deadline.wait(on: monitor) }
        }
    }
}
