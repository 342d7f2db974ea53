/// Which requests to a store may run now: one queue over all parts of all files of all reports and restores of a process.
/// Pure: time comes in, and nothing is done here.
///
/// What a job wishes for of requests at a time is for itself, or for all of one owner. Bytes in flight are of the whole process:
/// the least that a job which is open wishes for.
///
/// A window bounds the requests that run. It grows while that makes the transfer faster and is halved when the store asks
/// to slow down or connections break. Of several jobs the oldest gets three turns of four, so that checkpoints are
/// committed in their order, and the newest the fourth, so that it is never left waiting.
///
/// Buckets of an endpoint share all this, so that one which is stuck must not stop the others: a request that pauses between
/// its tries gives its place to others, and a job of which nothing runs gets one beyond the window.
struct TransferScheduler: Sendable {
    struct Limits: Sendable, Equatable {
        /// Requests at a time, at least 1.
        var maximumConcurrency: Int
        /// Bytes in memory. Bodies go from file to socket and back without a copy of ours, so a request counts for
        /// its transport's buffers: `bufferBytes`, or its length if that is less. One request may always run.
        var maximumInflightBytes = 64 << 20

        /// Of one connection, the larger way: what curl receives into and the piece that is written, rounded up.
        static let bufferBytes = 1 << 20

        /// Eight requests for each core, 64 at most.
        static func usual(cores: Int) -> Limits { Limits(maximumConcurrency: min(64, 8 * max(1, cores))) }
    }
    /// What a job wishes for; nil: what is usual.
    struct Terms: Sendable, Equatable {
        /// Requests at a time, of all jobs of the owner together.
        var concurrency: Int?
        /// nil: the job has nothing to do with others.
        var owner: ObjectIdentifier?
        /// As `Limits.maximumInflightBytes`.
        var inflightBytes: Int?
        /// Its requests wait for this, and share it with others that do; nil: as fast as it goes.
        var bytesPerSecond: Int?
    }
    /// One who has requests to make: a report's upload, a restore.
    struct Job: Hashable, Sendable { fileprivate var number: Int }
    /// One request: queued until `start` names it, running until `finish` or a `pause`.
    struct Ticket: Hashable, Sendable { fileprivate var number: Int }
    enum Outcome: Sendable, Equatable {
        /// Its bytes have moved.
        case moved
        /// The store asked to slow down, or the connection stalled or broke.
        case slowedDown
        /// It failed for a reason of its own, or was cancelled.
        case failed
    }

    /// What becomes of a request whose pause is over.
    enum Resumption: Sendable, Equatable {
        /// It had not paused.
        case running
        /// `start` will name it again.
        case queued
        /// Its job has ended.
        case never
    }

    private struct Request: Sendable {
        var ticket: Ticket
        var bytes: Int
        /// It has run before: its bytes were taken from the limit on bytes per second.
        var isPaid = false
    }
    private struct Running: Sendable {
        var job: Job
        var request: Request
        var owner: ObjectIdentifier?
        /// What it counts for among the bytes in flight.
        var cost: Int
    }
    private struct Queue: Sendable {
        var order: ReportSequence
        var terms: Terms
        var requests: [Request] = []
        var first = 0
        var running = 0
        var isEmpty: Bool { first == requests.count }

        /// Before all others.
        mutating func putBack(_ request: Request) {
            if first > 0 {
                first -= 1
                requests[first] = request
            } else {
                requests.insert(request, at: 0)
            }
        }

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
    private var running: [Ticket: Running] = [:]
    private var paused: [Ticket: Running] = [:]
    private(set) var inflightBytes = 0
    /// Requests that run, of each owner that has some.
    private var runningOf: [ObjectIdentifier: Int] = [:]
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
        // Who wishes for less is held to it by himself: the others are not to have less for it.
        limits.maximumConcurrency =
            queues.values.compactMap(\.terms.concurrency).reduce(usual.maximumConcurrency) { max($0, $1) }
        limits.maximumInflightBytes =
            queues.values.compactMap(\.terms.inflightBytes).min() ?? usual.maximumInflightBytes
        window.limit(limits.maximumConcurrency)
    }

    /// Requests at a time of that job by itself.
    func concurrency(_ job: Job) -> Int {
        max(1, queues[job]?.terms.concurrency ?? usual.maximumConcurrency)
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
            var job = job
            if running.count >= window.size {
                window.isFull = true
                // Whoever has none running gets one beyond the window, within the limits: what has shrunk it may be the trouble
                // of another bucket, and what fills it may be stuck there.
                guard running.count < limits.maximumConcurrency,
                    let idle = next(isHeld: bucket?.isEmpty ?? false, isIdle: true)
                else { break }
                job = idle
            }
            guard let request = queues[job]?.requests[queues[job]?.first ?? 0] else { break }
            let cost = min(request.bytes, Limits.bufferBytes)
            if !running.isEmpty, inflightBytes + cost > limits.maximumInflightBytes { break }
            if !request.isPaid, queues[job]?.terms.bytesPerSecond != nil { bucket?.take(request.bytes) }
            _ = queues[job]?.take()
            queues[job]?.running += 1
            let owner = queues[job]?.terms.owner
            if let owner { runningOf[owner, default: 0] += 1 }
            running[request.ticket] = Running(job: job, request: request, owner: owner, cost: cost)
            inflightBytes += cost
            turn &+= 1
            started.append(request.ticket)
        }
        return started
    }

    /// A running request waits for something else than its bytes: until `resume` others run in its place.
    mutating func pause(_ ticket: Ticket) { if let request = stop(ticket) { paused[ticket] = request } }

    /// Queues a paused request again, before the others of its job.
    mutating func resume(_ ticket: Ticket) -> Resumption {
        if running[ticket] != nil { return .running }
        guard var again = paused.removeValue(forKey: ticket), queues[again.job] != nil else { return .never }
        again.request.isPaid = true
        queues[again.job]?.putBack(again.request)
        return .queued
    }

    private mutating func stop(_ ticket: Ticket) -> Running? {
        guard let request = running.removeValue(forKey: ticket) else { return nil }
        inflightBytes -= request.cost
        queues[request.job]?.running -= 1
        if let owner = request.owner {
            let left = (runningOf[owner] ?? 0) - 1
            runningOf[owner] = left > 0 ? left : nil
        }
        return request
    }

    /// When `start` is worth another call though nothing finishes; nil: never.
    func nextStart(now: Int64) -> Int64? {
        guard let bucket, bucket.isEmpty,
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

    /// A request has ended, after having moved so many bytes. Once for each ticket that was started; one that has paused has
    /// nothing to say.
    mutating func finish(_ ticket: Ticket, _ outcome: Outcome, bytes: Int, now: Int64) {
        paused[ticket] = nil
        guard stop(ticket) != nil else { return }
        switch outcome {
        case .moved: window.moved(bytes, now: now)
        case .slowedDown: window.cut(now: now)
        case .failed: break
        }
    }

    /// The store asked to slow down within a request that goes on.
    mutating func slowDown(now: Int64) { window.cut(now: now) }

    /// Whose turn it is, of those who have not as many running as they wish for. `isHeld`: not theirs who wait for a limit on
    /// bytes per second; `isIdle`: only theirs of whom nothing runs.
    private func next(isHeld: Bool, isIdle: Bool = false) -> Job? {
        var oldest: (job: Job, order: ReportSequence)?
        var newest: (job: Job, order: ReportSequence)?
        for (job, queue) in queues where !queue.isEmpty {
            if isHeld, queue.terms.bytesPerSecond != nil { continue }
            if isIdle, queue.running > 0 { continue }
            if let limit = queue.terms.concurrency {
                let count = queue.terms.owner.map { runningOf[$0] ?? 0 } ?? queue.running
                if count >= max(1, limit) { continue }
            }
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
