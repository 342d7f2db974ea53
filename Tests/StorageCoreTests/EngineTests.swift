import Synchronization
import Testing

@testable import StorageCore

@Suite struct EngineTests {
    @Test func `runs tasks on its own threads and wakes sleepers`() async {
        let engine = Engine.shared
        await withCheckedContinuation { continuation in
            engine.spawn {
                await engine.sleep(milliseconds: 5)
                continuation.resume()
            }
        }
    }

    @Test func `visits every element once and returns the earliest failure`() async {
        let seen = Mutex<[Int: Int]>([:])
        let failure = await Task(executorPreference: Engine.shared) { () -> StorageError? in
            do throws(StorageError) {
                try await Engine.shared.forEach(Array(0..<1000)) { element throws(StorageError) in
                    seen.withLock { $0[element, default: 0] += 1 }
                }
                try await Engine.shared.forEach(Array(0..<50), limit: 1) { element throws(StorageError) in
                    if element >= 7 { throw StorageError(.io, "element \(element)") }
                }
                return nil
            } catch { return error }
        }.value
        #expect(seen.withLock { $0.count == 1000 && $0.values.allSatisfy { $0 == 1 } })
        #expect(failure?.message == "element 7")
    }

    /// Waits for others while it blocks its thread, for so long.
    private final class Meeting: Sendable {
        private let monitor = Monitor()
        private let arrived = Mutex(0)

        func wait(for count: Int, milliseconds: Int64) -> Bool {
            let deadline = Deadline(timeoutMilliseconds: milliseconds)
            return monitor.withLock {
                arrived.withLock { $0 += 1 }
                monitor.broadcast()
                while arrived.withLock({ $0 < count }) {
                    if deadline.isPast || !deadline.wait(on: monitor) { return false }
                }
                return true
            }
        }
    }

    /// A pool of a test's own.
    private final class Pool: TaskExecutor {
        let pool: WorkerPool
        init(width: Int) { pool = WorkerPool(name: "test", width: width) }
        func enqueue(_ job: consuming ExecutorJob) { pool.enqueue(UnownedJob(job), on: asUnownedTaskExecutor()) }
    }

    @Test func `jobs that come together run side by side, also when one worker is idle`() async {
        let pool = Pool(width: 4)
        for _ in 0..<50 {
            let meeting = Meeting()
            let met = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<3 {
                    group.addTask(executorPreference: pool) { meeting.wait(for: 3, milliseconds: 5000) }
                }
                return await group.reduce(true) { $0 && $1 }
            }
            #expect(met)
            if !met { break }
        }
        pool.pool.stop(Deadline(timeoutMilliseconds: 5000))
    }

    @Test func `never more threads than the width`() async {
        let pool = Pool(width: 2)
        let meeting = Meeting()
        let met = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<3 {
                group.addTask(executorPreference: pool) { meeting.wait(for: 3, milliseconds: 50) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(met.contains(false))
        pool.pool.stop(Deadline(timeoutMilliseconds: 5000))
    }

    @Test func `a pool that is stopped finishes its queue first`() async {
        let pool = Pool(width: 1)
        let done = Counter()
        let tasks = (0..<20).map { _ in Task(executorPreference: pool) { _ = done.next() } }
        pool.pool.stop(Deadline(timeoutMilliseconds: 5000))
        for task in tasks { await task.value }
        #expect(done.next() == 20)
    }

    @Test func `stopping does not wait longer than asked for a thread that hangs`() {
        let pool = Pool(width: 1)
        let meeting = Meeting()
        Task(executorPreference: pool) { _ = meeting.wait(for: 2, milliseconds: 10_000) }
        let deadline = Deadline(timeoutMilliseconds: 20)
        pool.pool.stop(deadline)
        #expect(deadline.isPast)
        _ = meeting.wait(for: 2, milliseconds: 10_000)
    }

    @Test func `heartbeats go on while every worker is busy`() async {
        let engine = Engine.shared
        let (full, beat) = (Meeting(), Meeting())
        let busy = (0..<engine.width).map { _ in
            engine.spawn { _ = full.wait(for: engine.width + 1, milliseconds: 10_000) }
        }
        engine.spawnBeat {
            await engine.sleep(milliseconds: 1)
            _ = beat.wait(for: 2, milliseconds: 10_000)
        }
        let met = await Task.detached { beat.wait(for: 2, milliseconds: 5000) }.value
        #expect(met)
        _ = await Task.detached { full.wait(for: engine.width + 1, milliseconds: 10_000) }.value
        for task in busy { await task.value }
    }

    @Test func `an empty list is done at once, and one element runs where it is asked for`() async throws {
        try await Engine.shared.forEach([Int]()) { _ throws(StorageError) in throw StorageError(.io, "none") }
        let error = await #expect(throws: StorageError.self) {
            try await Engine.shared.forEach([1]) { _ throws(StorageError) in throw StorageError(.io, "one") }
        }
        #expect(error?.message == "one")
    }

    @Test func `sleeping for an absurd time does not trap`() async {
        let engine = Engine.shared
        engine.spawn { await engine.sleep(milliseconds: .max) }
        await engine.sleep(milliseconds: .min)
    }

    @Test func `there is one object of a type in a process`() async {
        final class Thing: Sendable {}
        let things = await withTaskGroup(of: ObjectIdentifier.self) { group in
            for _ in 0..<20 { group.addTask { ObjectIdentifier(Engine.shared.only(Thing.self) { Thing() }) } }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(things.count == 1)
    }

    @Test func `its threads are named, so that a guest can be recognised`() async throws {
        let engine = Engine.shared
        await engine.spawn { await engine.sleep(milliseconds: 1) }.value
        let names = try System.list("/proc/self/task").compactMap { task -> String? in
            guard let file = try? OpenFile("/proc/self/task/\(task)/comm", 0) else { return nil }
            return (try? file.readAll(limit: 100)).map { String(decoding: $0.dropLast(), as: UTF8.self) }
        }
        #expect(names.contains { $0.hasPrefix("raystorage-io-") } && names.contains("raystorage-tick"))
    }
}

@Suite struct RunOptionsTests {
    private func refusal(_ change: (inout RunOptions) -> Void) -> String? {
        var options = RunOptions()
        change(&options)
        do throws(StorageError) { try options.validate() } catch {
            return error.detailsDocument["name"]?.stringValue ?? error.message
        }
        return nil
    }

    @Test func `the defaults are allowed`() { #expect(refusal { _ in } == nil) }

    @Test func `what cannot be is refused by its name`() {
        #expect(refusal { $0.worldSize = 0 } == "world_size")
        #expect(refusal { $0.rank = -1 } == "rank")
        #expect(refusal { $0.rank = 1 } == "rank")
        #expect(refusal { $0.maxPendingReports = 0 } == "max_pending_reports")
        #expect(refusal { $0.heartbeatMilliseconds = 9 } == "heartbeat_ms")
        #expect(refusal { $0.heartbeatMilliseconds = .max } == "heartbeat_ms")
        #expect(refusal { $0.retryTimeoutMilliseconds = 0 } == "retry_timeout_ms")
        #expect(refusal { $0.orphanTTLMilliseconds = 0 } == "orphan_ttl_ms")
        #expect(refusal { $0.retention.numToKeep = 0 } == "num_to_keep")
    }

    @Test func `several ranks are refused until they are built, and told why`() {
        var options = RunOptions()
        options.worldSize = 2
        let error = #expect(throws: StorageError.self) { try options.validate() }
        #expect(error?.code == .notSupported && error?.message.contains("overwrite each other in silence") == true)
    }
}
