import Synchronization
import Testing

@testable import StorageCore

@Suite struct HoldTests {
    private static let period = 10_000

    static func record(_ number: Int, host: String = "a", heartbeat: Int = period) -> EpochRecord {
        EpochRecord(
            number: number, nonce: "0123456789abcdef", hostID: host, hostname: "node-\(number)", processID: 40 + number,
            startedAt: 5, heartbeatMilliseconds: heartbeat, bootID: "boot")
    }

    private let memory = MemoryBackend()
    private let clock = FakeClock()

    /// Epoch 1, as a takeover leaves it: fence down, first beat made.
    private func held(_ hook: HookedBackend.Hook? = nil) async throws -> Hold {
        let backend: any StorageBackend = if let hook { HookedBackend(memory, hook) } else { memory }
        let hold = Hold(backend: backend, epoch: Self.record(1), environment: clock.environment)
        _ = try await memory.create(RunLayout.fence(1), [])
        try await hold.renew()
        return hold
    }

    private func beat() async throws -> String? {
        try await memory.read(RunLayout.heartbeat(1), limit: 100).map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    private func raise(by successor: EpochRecord = record(2, host: "b")) async throws {
        try await Hold.raiseFence(of: 1, by: successor, backend: memory)
    }

    // MARK: - The heartbeat

    @Test func `each renewal changes the heartbeat, always with as many digits`() async throws {
        let hold = try await held()
        let first = try #require(try await beat())
        #expect(first == "000000000001\n")
        try await hold.renew()
        let second = try await beat()
        #expect(second == "000000000002\n")
    }

    @Test func `a holder may write until 2 T after its last renewal`() async throws {
        let hold = try await held()
        clock.advance(2 * Int64(Self.period) - 1)
        #expect(hold.mayWrite)
        clock.advance(1)
        #expect(!hold.mayWrite)
        try await hold.renew()
        #expect(hold.mayWrite)
    }

    @Test func `a renewal that failed does not count`() async throws {
        let isFailing = Flag()
        let hold = try await held { moment, call throws(StorageError) in
            if isFailing.isSet, moment == .before, call.hasPrefix("post") { throw StorageError(.io, "away") }
        }
        isFailing.raise()
        clock.advance(Int64(Self.period))
        await #expect(throws: StorageError.self) { try await hold.renew() }
        clock.advance(Int64(Self.period))
        #expect(!hold.mayWrite)
    }

    @Test func `the 2 T count from before the heartbeat was written, since a newcomer counts from when it sees it`()
        async throws
    {
        let clock = clock
        let hold = try await held { moment, call in
            // Suspended right after the write.
            if moment == .after, call.hasPrefix("post") { clock.advance(5 * Int64(Self.period)) }
        }
        #expect(!hold.mayWrite)
    }

    // MARK: - The fence

    @Test func `a check passes while the fence is down`() async throws {
        try await held().check()
    }

    @Test func `a raised fence supersedes, and the error names the new holder`() async throws {
        let hold = try await held()
        try await raise()
        let error = await #expect(throws: StorageError.self) { try await hold.check() }
        #expect(error?.code == .superseded)
        #expect(error?.message.contains("process 42 on \"node-2\" (epoch 2)") == true)
        #expect(error?.detailsDocument["holder_pid"] == 42)
        #expect(error?.detailsDocument["holder_hostname"] == "node-2")
        #expect(error?.detailsDocument["holder_epoch"] == 2)
        #expect(!hold.mayWrite)
    }

    @Test func `superseded is for ever, also when the fence cannot be read any more`() async throws {
        let hold = try await held()
        try await raise()
        await #expect(throws: StorageError.self) { try await hold.check() }
        _ = try await memory.delete(RunLayout.fence(1))
        let again = await #expect(throws: StorageError.self) { try await hold.check() }
        #expect(again?.code == .superseded && !hold.mayWrite)
        #expect(hold.superseded == again)
    }

    @Test func `a torn fence is a raised fence`() async throws {
        let hold = try await held()
        try await memory.post(RunLayout.fence(1), Array(#"{"epoch":2,"#.utf8))
        let error = await #expect(throws: StorageError.self) { try await hold.check() }
        #expect(error?.code == .superseded)
    }

    @Test func `a fence that is raised keeps the name of who raised it first`() async throws {
        let hold = try await held()
        try await raise()
        try await raise(by: Self.record(3, host: "c"))
        let error = await #expect(throws: StorageError.self) { try await hold.check() }
        #expect(error?.detailsDocument["holder_epoch"] == 2)
    }

    @Test func `a fence that cannot be read is no fence that is down`() async throws {
        let isAway = Flag()
        let hold = try await held { moment, call throws(StorageError) in
            if isAway.isSet, moment == .before, call == "read \(RunLayout.fence(1))" {
                throw StorageError(.io, "away", isRetryable: true)
            }
        }
        isAway.raise()
        let error = await #expect(throws: StorageError.self) { try await hold.check() }
        #expect(error?.code == .io && hold.superseded == nil)
    }

    @Test func `a holder that was suspended shows a heartbeat before it trusts the fence`() async throws {
        let calls = Mutex<[String]>([])
        let hold = try await held { moment, call in
            if moment == .before { calls.withLock { $0.append(call) } }
        }
        clock.advance(100 * Int64(Self.period))
        calls.withLock { $0 = [] }
        try await hold.check()
        let order = calls.withLock { $0 }
        #expect(order.first == "post \(RunLayout.heartbeat(1))")
        #expect(order.last == "read \(RunLayout.fence(1))")
        #expect(hold.mayWrite)
    }

    @Test func `a holder that was suspended and fenced does not write again, not even for a moment`() async throws {
        let seen = Mutex<[Bool]>([])
        let holder = Mutex<Hold?>(nil)
        let hold = try await held { _, _ in
            if let hold = holder.withLock({ $0 }) { seen.withLock { $0.append(hold.mayWrite) } }
        }
        clock.advance(100 * Int64(Self.period))
        try await raise()
        holder.withLock { $0 = hold }
        await #expect(throws: StorageError.self) { try await hold.check() }
        holder.withLock { $0 = nil }
        #expect(!hold.mayWrite)
        let moments = seen.withLock { $0 }
        #expect(!moments.isEmpty && !moments.contains(true))
    }

    @Test func `a holder with nothing to commit finds out at its next renewal`() async throws {
        let hold = try await held()
        try await raise()
        #expect(hold.mayWrite)
        let error = await #expect(throws: StorageError.self) { try await hold.renew() }
        #expect(error?.code == .superseded)
        #expect(!hold.mayWrite)
    }

    // MARK: - Watching

    private func isAlive(_ record: EpochRecord = record(1, heartbeat: 10), _ hook: @escaping HookedBackend.Hook)
        async throws -> Bool
    {
        try await Hold.isAlive(
            record, backend: HookedBackend(memory, hook), environment: clock.environment, engine: .shared,
            progress: Progress())
    }

    @Test func `a heartbeat that stays as it is for 3 T is dead`() async throws {
        try await memory.post(RunLayout.heartbeat(1), Array("000000000007\n".utf8))
        let clock = clock
        let looks = Counter()
        let alive = try await isAlive { moment, call in
            guard moment == .before, call.hasPrefix("read"), call.hasSuffix("heartbeat") else { return }
            if looks.next() > 0 { clock.advance(9) }
        }
        #expect(!alive)
        // 9, 18, 27, 36 milliseconds: not given up before 30 have passed.
        #expect(looks.next() == 5)
    }

    @Test func `a heartbeat that moves at the last moment is alive`() async throws {
        try await memory.post(RunLayout.heartbeat(1), Array("000000000007\n".utf8))
        let (clock, memory, looks) = (clock, memory, Counter())
        let alive = try await isAlive { moment, call throws(StorageError) in
            guard moment == .before, call.hasPrefix("read"), call.hasSuffix("heartbeat") else { return }
            let look = looks.next()
            if look > 0 { clock.advance(9) }
            if look == 4 { try await memory.post(RunLayout.heartbeat(1), Array("000000000008\n".utf8)) }
        }
        #expect(alive)
    }

    @Test func `a first heartbeat counts as one that moves`() async throws {
        let (clock, memory, looks) = (clock, memory, Counter())
        let alive = try await isAlive { moment, call throws(StorageError) in
            guard moment == .before, call.hasSuffix("heartbeat") else { return }
            if looks.next() == 1 { try await memory.post(RunLayout.heartbeat(1), [0x31]) }
            clock.advance(1)
        }
        #expect(alive)
    }

    @Test func `a holder that says goodbye is not waited for`() async throws {
        let (memory, looks) = (memory, Counter())
        let alive = try await isAlive(Self.record(1)) { moment, call throws(StorageError) in
            guard moment == .after, call.hasSuffix("heartbeat") else { return }
            if looks.next() == 1 { _ = try await memory.create(RunLayout.closed(1), [0x7B, 0x7D]) }
        }
        #expect(!alive)
        #expect(looks.next() == 2)
    }

    @Test func `watching can be cancelled`() async throws {
        let progress = Progress()
        progress.cancel()
        let error = await #expect(throws: StorageError.self) {
            _ = try await Hold.isAlive(
                Self.record(1), backend: memory, environment: clock.environment, engine: .shared, progress: progress)
        }
        #expect(error?.code == .cancelled)
    }

    @Test(arguments: [Int.max, Int.min, 0, -1]) func `a damaged period neither traps nor waits for ever`(period: Int)
        async throws
    {
        let clock = clock
        let alive = try await isAlive(Self.record(1, heartbeat: period)) { _, _ in clock.advance(1 << 40) }
        #expect(!alive)
        let hold = Hold(backend: memory, epoch: Self.record(1, heartbeat: period), environment: clock.environment)
        #expect(hold.mayWrite)
    }
}
