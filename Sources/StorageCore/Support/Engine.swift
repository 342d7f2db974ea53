internal import CStorage
internal import Glibc
internal import Synchronization

/// Something of the process that has threads of its own, which end with the engine's.
protocol EnginePart: AnyObject, Sendable {
    /// Ends its threads once they have nothing to do, and waits for that until the deadline.
    func stop(_ deadline: Deadline)
}

/// The library's own threads: an executor for tasks and a timer, made when first needed, one per process id.
///
/// Swift's global executor does not survive `fork()`, and a guest in somebody's process must be able to say which
/// threads are its own: `raystorage-io-<n>` for the work, `raystorage-hb-0` for heartbeats, which must not wait behind a
/// long system call, `raystorage-lg-0` for the metrics log, and `raystorage-tick`.
public final class Engine: TaskExecutor, @unchecked Sendable {
    // Proof for @unchecked: `timers`, `hasTimer` and `stopping` are read and written with `timerMonitor` locked.
    private let timerMonitor = Monitor()
    private var timers: [(instant: Int64, continuation: CheckedContinuation<Void, Never>)] = []
    private var hasTimer = false
    private var stopping = false

    private let pool: WorkerPool
    private let beats = Lane(name: "raystorage-hb")
    private let logs = Lane(name: "raystorage-lg")
    private let objects = Mutex<[ObjectIdentifier: any AnyObject & Sendable]>([:])
    /// The log of this process.
    let log = Log()
    /// The process that the threads live in.
    public let processID: Int32
    /// How many threads there may be for the work: blocking calls occupy them, so more than cores.
    public let width: Int

    /// An executor of its own for small work with a deadline.
    private final class Lane: TaskExecutor {
        let pool: WorkerPool
        init(name: String) { pool = WorkerPool(name: name, width: 1) }
        func enqueue(_ job: consuming ExecutorJob) {
            pool.enqueue(UnownedJob(job), on: asUnownedTaskExecutor())
        }
    }

    private init() {
        processID = getpid()
        width = max(4, min(16, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        pool = WorkerPool(name: "raystorage-io", width: width)
    }

    /// The engine of this process; a forked child gets one of its own.
    public static var shared: Engine {
        if let pointer = cs_slot_get() { return Unmanaged<Engine>.fromOpaque(pointer).takeUnretainedValue() }
        let fresh = Unmanaged.passRetained(Engine())
        guard let held = cs_slot_set(fresh.toOpaque()), held != fresh.toOpaque() else {
            return fresh.takeUnretainedValue()
        }
        fresh.release()
        return Unmanaged<Engine>.fromOpaque(held).takeUnretainedValue()
    }

    /// Whether this process has an engine, without making one.
    public static var exists: Bool { cs_slot_get() != nil }

    /// The one object of a type that belongs to this process: what would be a global, but is never shared with a forked
    /// child, whose parent may have held its lock.
    func only<Object: AnyObject & Sendable>(_ type: Object.Type, _ make: () -> Object) -> Object {
        objects.withLock { objects in
            if let object = objects[ObjectIdentifier(type)] as? Object { return object }
            let object = make()
            objects[ObjectIdentifier(type)] = object
            return object
        }
    }

    /// The same for each key: what a process knows of one bucket, one server.
    func only<Object: Sendable>(_ type: Object.Type, of key: String, _ make: () -> Object) -> Object {
        only(KeyedObjects<Object>.self) { KeyedObjects() }.object(key, make)
    }

    /// Runs a job on one of the threads.
    public func enqueue(_ job: consuming ExecutorJob) { pool.enqueue(UnownedJob(job), on: asUnownedTaskExecutor()) }

    /// Starts a root task on the engine's threads.
    @discardableResult
    public func spawn(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        Task(executorPreference: self) { await body() }
    }

    /// Starts a heartbeat: a root task that must not wait behind the work of others.
    func spawnBeat(_ body: @escaping @Sendable () async -> Void) {
        Task(executorPreference: beats) { await body() }
    }

    /// Starts a root task for the metrics log.
    func spawnLog(_ body: @escaping @Sendable () async -> Void) {
        Task(executorPreference: logs) { await body() }
    }

    /// Starts the first threads; an error when the system has none to give, since a task would wait for ever then.
    public func prepare() throws(StorageError) {
        let hasTimer = timerMonitor.withLock {
            if !self.hasTimer { startTimer() }
            return self.hasTimer
        }
        guard pool.prepare(), beats.pool.prepare(), hasTimer else {
            throw StorageError(
                .io, "pthread_create: the system gives no more threads", details: [("operation", "pthread_create")],
                isRetryable: true)
        }
    }

    /// Suspends the calling task for that long.
    public func sleep(milliseconds: Int64) async {
        await withCheckedContinuation { continuation in
            timerMonitor.withLock {
                timers.append((cs_monotonic_ns() + min(max(0, milliseconds), 1 << 40) * 1_000_000, continuation))
                if !hasTimer { startTimer() }
                timerMonitor.signal()
            }
        }
    }

    /// Runs `body` for each element, at most `limit` at a time (nil: the engine's width), and returns the first error
    /// in the order of the elements; after an error no further element is begun.
    public func forEach<Element: Sendable>(
        _ elements: [Element], limit: Int? = nil,
        _ body: @escaping @Sendable (Element) async throws(StorageError) -> Void
    ) async throws(StorageError) {
        if elements.count == 1 { return try await body(elements[0]) }
        let next = Counter()
        let failure = FirstFailure()
        let workers = min(elements.count, max(1, limit ?? width))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<workers {
                group.addTask(executorPreference: self) {
                    var since = cs_monotonic_ns()
                    while !failure.happened {
                        if cs_monotonic_ns() - since > 20_000_000 {
                            // Long work lets others have the thread: reports of other runs, readers, close.
                            await self.sleep(milliseconds: 0)
                            since = cs_monotonic_ns()
                        }
                        let index = next.next()
                        guard index < elements.count else { return }
                        do throws(StorageError) { try await body(elements[index]) } catch {
                            failure.record(error, at: index)
                        }
                    }
                }
            }
        }
        if let error = failure.error { throw error }
    }

    /// With the timer's monitor locked.
    private func startTimer() {
        hasTimer = NamedThread.start("raystorage-tick") { [self] in keepTime() }
    }

    private func keepTime() {
        while true {
            let due: [CheckedContinuation<Void, Never>]? = timerMonitor.withLock {
                while true {
                    if stopping, timers.isEmpty { return nil }
                    let now = cs_monotonic_ns()
                    let due = timers.filter { stopping || $0.instant <= now }.map(\.continuation)
                    if !due.isEmpty {
                        timers.removeAll { stopping || $0.instant <= now }
                        return due
                    }
                    if let earliest = timers.map(\.instant).min() {
                        _ = timerMonitor.wait(untilMonotonic: earliest)
                    } else {
                        timerMonitor.wait()
                    }
                }
            }
            guard let due else { return }
            for continuation in due { continuation.resume() }
        }
    }

    /// Ends the threads once their queues are empty; sleeping tasks wake at once. Waits for them until the deadline: one
    /// that hangs in a system call ends with the process. The next `shared` makes a new engine.
    public func stop(_ deadline: Deadline) {
        guard processID == getpid() else { return }
        cs_slot_clear()
        timerMonitor.withLock {
            stopping = true
            timerMonitor.broadcast()
        }
        // First those that finish what tasks wait for.
        for object in objects.withLock({ Array($0.values) }) { (object as? any EnginePart)?.stop(deadline) }
        pool.stop(deadline)
        beats.pool.stop(deadline)
        logs.pool.stop(deadline)
    }
}

private final class KeyedObjects<Object: Sendable>: Sendable {
    private let objects = Mutex<[String: Object]>([:])

    func object(_ key: String, _ make: () -> Object) -> Object {
        objects.withLock { objects in
            if let object = objects[key] { return object }
            let object = make()
            objects[key] = object
            return object
        }
    }
}
