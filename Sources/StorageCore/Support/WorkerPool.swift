internal import CStorage
internal import Glibc

/// Threads of one purpose and their queue of jobs; started when there is work and all are busy.
final class WorkerPool: @unchecked Sendable {
    // Proof for @unchecked: every variable is read and written with `monitor` locked.
    private let monitor = Monitor()
    private let name: String
    private let width: Int
    private var jobs: [(job: UnownedJob, executor: UnownedTaskExecutor)] = []
    private var firstJob = 0
    private var idle = 0
    /// Whether an idle worker was signalled and has not come yet, and how often one was wanted since.
    private var isWaking = false
    private var unanswered = 0
    private var workers = 0
    /// Workers that have been started and have not ended.
    private var live = 0
    private var stopping = false

    /// At most `width` threads called `<name>-<n>`.
    init(name: String, width: Int) {
        self.name = name
        self.width = width
    }

    func enqueue(_ job: UnownedJob, on executor: UnownedTaskExecutor) {
        let wakes = monitor.withLock {
            jobs.append((job, executor))
            // A worker that was woken counts as idle until it runs: compare with what waits, not with zero.
            if idle < jobs.count - firstJob, workers < width, !stopping { startWorker() }
            return wakesOne()
        }
        // Not with the lock, which is the first thing that it takes.
        if wakes { monitor.signal() }
    }

    /// With the monitor locked: whether to signal a worker for what waits. One at a time: a worker that takes a job wakes the
    /// next one, if there is more to do, and often it has done all before another could come.
    private func wakesOne() -> Bool {
        guard firstJob < jobs.count, idle > 0 else { return false }
        unanswered = isWaking ? unanswered + 1 : 0
        isWaking = true
        // glibc before 2.41 loses a signal once in a blue moon (its bug 25847); then the next ones must not wait for it.
        return unanswered % 8 == 0
    }

    /// Sees to it that there is a thread at all; false when the system has none to give.
    func prepare() -> Bool {
        monitor.withLock {
            if workers == 0, !stopping { startWorker() }
            return workers > 0
        }
    }

    /// With the monitor locked. The kernel keeps 15 bytes of a name.
    private func startWorker() {
        let isStarted = NamedThread.start("\(name)-\(String(workers, radix: 36))") { [self] in
            work()
        } atEnd: { [self] in
            monitor.withLock {
                live -= 1
                monitor.broadcast()
            }
        }
        guard isStarted else { return }
        workers += 1
        live += 1
    }

    private func work() {
        while let (job, executor) = next() { job.runSynchronously(on: executor) }
    }

    private func next() -> (job: UnownedJob, executor: UnownedTaskExecutor)? {
        var wakes = false
        let next: (job: UnownedJob, executor: UnownedTaskExecutor)? = monitor.withLock {
            while firstJob == jobs.count {
                if stopping { return nil }
                idle += 1
                monitor.wait()
                idle -= 1
                isWaking = false
            }
            let next = jobs[firstJob]
            firstJob += 1
            if firstJob == jobs.count || firstJob > 1024 {
                jobs.removeFirst(firstJob)
                firstJob = 0
            }
            wakes = wakesOne()
            return next
        }
        if wakes { monitor.signal() }
        return next
    }

    /// Ends the threads once the queue is empty, and waits for that until the deadline.
    func stop(_ deadline: Deadline) {
        monitor.withLock {
            stopping = true
            monitor.broadcast()
            while live > 0, !deadline.isPast { _ = deadline.wait(on: monitor) }
        }
    }
}

/// Threads that are ours: named, and deaf to signals, which belong to the host.
enum NamedThread {
    private final class ThreadStart {
        let name: String
        let body: @Sendable () -> Void
        let atEnd: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void, atEnd: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
            self.atEnd = atEnd
        }
    }

    /// False when the system has no more threads to give. `atEnd` tells those who wait for the end of `body`: they may fork
    /// then, so that nothing of the thread is left that holds a lock.
    static func start(
        _ name: String, _ body: @escaping @Sendable () -> Void, atEnd: @escaping @Sendable () -> Void = {}
    ) -> Bool {
        let start = Unmanaged.passRetained(ThreadStart(name: name, body: body, atEnd: atEnd))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                cs_fork_enter()
                defer { cs_fork_leave() }
                guard let argument else { return nil }
                let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
                cs_block_signals()
                cs_set_thread_name(start.name)
                start.body()
                cs_guest_end_thread()
                start.atEnd()
                return nil
            }, start.toOpaque())
        guard result == 0 else {
            start.release()
            return false
        }
        // Nobody joins: `stop` counts instead, because a join cannot be bounded.
        pthread_detach(thread)
        return true
    }
}
