/// Which requests to a store may run now: one queue over all parts of all files of all reports and restores of a process.
/// Pure: time comes in, and nothing is done here.
///
/// Limits are the usual ones, or the least that a job which is open wishes for.
///
/// A window bounds the requests that run. It grows while that makes the transfer faster and is halved when the store asks
/// to slow down or connections break. Of several jobs the oldest gets three turns of four, so that checkpoints are
/// committed in their order, and the newest the fourth, so that it is never left waiting.
struct TransferScheduler: Sendable {
    struct Limits: Sendable, Equatable {
        /// Requests at a time, at least 1.
        var maximumConcurrency: Int
        /// Bytes in memory. Bodies go from file to socket and back without a copy of ours, so a request counts for
        /// its transport's buffers: `bufferBytes`, or its length if that is less. One request may always run.
        var maximumInflightBytes = 64 << 20

        /// Of one connection, the larger way.
        static let bufferBytes = 1 << 20

        /// Eight requests for each core, 64 at most.
        static func usual(cores: Int) -> Limits { Limits(maximumConcurrency: min(64, 8 * max(1, cores))) }
    }
    /// What a job wishes for; nil: what is usual.
    struct Terms: Sendable, Equatable {
        /// Requests at a time.
        var concurrency: Int?
        /// As `Limits.maximumInflightBytes`.
        var inflightBytes: Int?
        /// Its requests wait for this, and share it with others that do; nil: as fast as it goes.
        var bytesPerSecond: Int?
    }
    /// One who has requests to make: a report's upload, a restore.
    struct Job: Hashable, Sendable { fileprivate var number: Int }
    /// One request: queued until `start` names it, running until `finish`.
    struct Ticket: Hashable, Sendable { fileprivate var number: Int }
    enum Outcome: Sendable, Equatable {
        /// Its bytes have moved.
        case moved
        /// The store asked to slow down, or the connection stalled or broke.
        case slowedDown
        /// It failed for a reason of its own, or was cancelled.
        case failed
    }

    private struct Request: Sendable {
        var ticket: Ticket
        var bytes: Int
    }
    private struct Queue: Sendable {
        var order: ReportSequence
        var terms: Terms
        var requests: [Request] = []
        var first = 0
        var isEmpty: Bool { first == requests.count }

        mutating func take() -> Request? {
            guard first < requests.count else { return nil }
            let request = requests[first]
            first += 1
            if first == requests.count || first > 256 {
                requests.removeFirst(first)
                first = 0
            }
            return request
        }
    }

    private let usual: Limits
    private(set) var limits: Limits
    private(set) var window: TransferWindow
    private var bucket: TokenBucket?
    private var queues: [Job: Queue] = [:]
    private var running: [Ticket: Int] = [:]
    private(set) var inflightBytes = 0
    private var serial = 0
    private var turn = 0

    init(limits: Limits, now: Int64) {
        usual = limits
        self.limits = limits
        window = TransferWindow(maximum: limits.maximumConcurrency, now: now)
    }

    var runningCount: Int { running.count }
    var queuedCount: Int { queues.values.reduce(0) { $0 + $1.requests.count - $1.first } }

    /// Comes before all others without an `order`: somebody waits for a restore.
    mutating func open(order: ReportSequence?, terms: Terms = Terms()) -> Job {
        serial += 1
        let job = Job(number: serial)
        queues[job] = Queue(order: order ?? ReportSequence(epoch: 0, index: 0), terms: terms)
        settle()
        return job
    }

    private mutating func settle() {
        limits.maximumConcurrency =
            max(1, queues.values.compactMap(\.terms.concurrency).min() ?? usual.maximumConcurrency)
        limits.maximumInflightBytes =
            queues.values.compactMap(\.terms.inflightBytes).min() ?? usual.maximumInflightBytes
        window.limit(limits.maximumConcurrency)
    }

    /// Ends a job; the requests that will never start. Running ones still `finish`.
    mutating func close(_ job: Job) -> [Ticket] {
        guard let queue = queues.removeValue(forKey: job) else { return [] }
        settle()
        return queue.requests[queue.first...].map(\.ticket)
    }

    /// Queues a request of so many bytes; nil when the job is closed.
    mutating func ask(_ job: Job, bytes: Int) -> Ticket? {
        guard queues[job] != nil else { return nil }
        serial += 1
        let ticket = Ticket(number: serial)
        queues[job]?.requests.append(Request(ticket: ticket, bytes: max(0, bytes)))
        return ticket
    }

    /// The requests that may run from now on.
    mutating func start(now: Int64) -> [Ticket] {
        var started: [Ticket] = []
        refill(now)
        while let job = next(isHeld: bucket?.isEmpty ?? false) {
            guard running.count < window.size else {
                window.isFull = true
                break
            }
            guard let request = queues[job]?.requests[queues[job]?.first ?? 0] else { break }
            let cost = min(request.bytes, Limits.bufferBytes)
            if !running.isEmpty, inflightBytes + cost > limits.maximumInflightBytes { break }
            if queues[job]?.terms.bytesPerSecond != nil { bucket?.take(request.bytes) }
            _ = queues[job]?.take()
            running[request.ticket] = cost
            inflightBytes += cost
            turn &+= 1
            started.append(request.ticket)
        }
        return started
    }

    /// When `start` is worth another call though nothing finishes; nil: never.
    func nextStart(now: Int64) -> Int64? {
        guard running.count < window.size, let bucket,
            queues.values.contains(where: { !$0.isEmpty && $0.terms.bytesPerSecond != nil })
        else { return nil }
        return bucket.refilled(after: now)
    }

    /// What was taken too much has to be earned whoever comes next, so it stays when nobody wishes for a limit.
    private mutating func refill(_ now: Int64) {
        let rate = queues.values.compactMap(\.terms.bytesPerSecond).min()
        if bucket == nil { bucket = rate.map { TokenBucket(bytesPerSecond: $0, now: now) } }
        bucket?.refill(now: now, bytesPerSecond: rate)
    }

    /// A request has ended, after having moved so many bytes. Once for each ticket that was started.
    mutating func finish(_ ticket: Ticket, _ outcome: Outcome, bytes: Int, now: Int64) {
        guard let cost = running.removeValue(forKey: ticket) else { return }
        inflightBytes -= cost
        switch outcome {
        case .moved: window.moved(bytes, now: now)
        case .slowedDown: window.cut(now: now)
        case .failed: break
        }
    }

    /// The store asked to slow down within a request that goes on.
    mutating func slowDown(now: Int64) { window.cut(now: now) }

    /// Whose turn it is. `isHeld`: not theirs who wait for a limit on bytes per second.
    private func next(isHeld: Bool) -> Job? {
        var oldest: (job: Job, order: ReportSequence)?
        var newest: (job: Job, order: ReportSequence)?
        for (job, queue) in queues where !queue.isEmpty && !(isHeld && queue.terms.bytesPerSecond != nil) {
            if let old = oldest, (old.order, old.job.number) <= (queue.order, job.number) {
            } else {
                oldest = (job, queue.order)
            }
            if let new = newest, (new.order, new.job.number) >= (queue.order, job.number) {
            } else {
                newest = (job, queue.order)
            }
        }
        return turn % 4 == 3 ? newest?.job : oldest?.job
    }
}
