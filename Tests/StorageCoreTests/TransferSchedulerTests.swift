import Testing

@testable import StorageCore

/// A link and a store in numbers: what a request takes, and when the store has had enough.
private struct Link {
    /// Bytes per second of all connections, and of one.
    var total = 200e6
    var each = 10e6
    var latency: Int64 = 10_000_000
    /// Requests per second beyond which it asks to slow down; nil: never.
    var patience: Double?
    /// The number of a request that never ends; nil: none.
    var dead: Int?
}

/// Runs requests through a scheduler on a link, in steps of a millisecond.
private struct Simulation {
    typealias Ticket = TransferScheduler.Ticket

    let link: Link
    var scheduler: TransferScheduler
    var now: Int64 = 0
    var moved = 0
    var refused = 0
    var highestBytes = 0
    var highestRunning = 0
    /// The job of each request that was started, in order.
    var starts: [TransferScheduler.Job] = []
    private var requests: [Ticket: (job: TransferScheduler.Job, bytes: Int)] = [:]
    private var running: [(ticket: Ticket, left: Double, from: Int64, isRefused: Bool)] = []
    private var credit = 0.0

    init(_ link: Link, _ limits: TransferScheduler.Limits) {
        self.link = link
        scheduler = TransferScheduler(limits: limits, now: 0)
    }

    mutating func ask(_ job: TransferScheduler.Job, bytes: Int, count: Int = 1) {
        for _ in 0..<count {
            if let ticket = scheduler.ask(job, bytes: bytes) { requests[ticket] = (job, bytes) }
        }
    }

    /// Until nothing is left that can end, or that instant.
    mutating func run(until end: Int64 = 600_000_000_000) {
        while now < end, !(requests.isEmpty || (scheduler.queuedCount == 0 && running.allSatisfy { isDead($0.left) })) {
            step()
        }
    }

    private func isDead(_ left: Double) -> Bool { left == .infinity }

    private mutating func step() {
        if let patience = link.patience { credit = min(patience / 10, credit + patience / 1000) }
        for ticket in scheduler.start(now: now) {
            guard let request = requests[ticket] else { continue }
            var isRefused = false
            if link.patience != nil {
                credit -= 1
                isRefused = credit < 0
                if isRefused { credit += 1 }
            }
            let left = starts.count == link.dead ? .infinity : Double(request.bytes)
            starts.append(request.job)
            running.append((ticket, isRefused ? 0 : left, now, isRefused))
        }
        highestBytes = max(highestBytes, scheduler.inflightBytes)
        highestRunning = max(highestRunning, scheduler.runningCount)
        now += 1_000_000
        let share = min(link.each, link.total / Double(max(1, running.count))) / 1000
        for index in running.indices where now - running[index].from > link.latency { running[index].left -= share }
        for done in running where done.left <= 0 && now - done.from >= link.latency {
            guard let request = requests.removeValue(forKey: done.ticket) else { continue }
            scheduler.finish(done.ticket, done.isRefused ? .slowedDown : .moved, bytes: request.bytes, now: now)
            if done.isRefused {
                refused += 1
                ask(request.job, bytes: request.bytes)
            } else {
                moved += request.bytes
            }
        }
        running.removeAll { $0.left <= 0 && now - $0.from >= link.latency }
    }
}

@Suite struct TransferSchedulerTests {
    private func limits(_ concurrency: Int, bytes: Int = 1 << 30) -> TransferScheduler.Limits {
        TransferScheduler.Limits(maximumConcurrency: concurrency, maximumInflightBytes: bytes)
    }

    @Test func `the window opens until the link is full and little further`() {
        var simulation = Simulation(Link(), limits(64))
        let job = simulation.scheduler.open(order: nil)
        simulation.ask(job, bytes: 4 << 20, count: 1500)
        simulation.run()
        let total: Int = 1500 * (4 << 20)
        #expect(simulation.moved == total)
        // 20 connections fill it; eight, where it began, would take two and a half times as long.
        let ideal = Double(simulation.moved) / 200e6
        let seconds = Double(simulation.now) / 1e9
        #expect(seconds < 1.25 * ideal)
        #expect(18...44 ~= simulation.scheduler.window.size)
    }

    @Test func `thousands of small files run at full width`() {
        var simulation = Simulation(Link(), limits(32))
        let job = simulation.scheduler.open(order: nil)
        simulation.ask(job, bytes: 16 << 10, count: 5000)
        simulation.run()
        #expect(simulation.highestRunning == 32)
        let seconds = Double(simulation.now) / 1e9
        #expect(seconds < 1.5 * 5000.0 / 32 * 0.012)
    }

    @Test func `a store that asks to slow down is left in peace and everything arrives`() {
        var simulation = Simulation(Link(patience: 300), limits(64))
        let job = simulation.scheduler.open(order: nil)
        simulation.ask(job, bytes: 1 << 10, count: 6000)
        simulation.run()
        #expect(simulation.moved == 6000 << 10)
        #expect(simulation.refused < 200)
        let seconds = Double(simulation.now) / 1e9
        #expect(seconds < 40)
    }

    @Test func `requests that fail together halve the window once, down to one`() {
        var window = TransferWindow(maximum: 64, now: 0)
        for instant in 0..<8 { window.cut(now: Int64(instant)) }
        #expect(window.size == 4)
        for second in 1...9 { window.cut(now: Int64(second) * 2_000_000_000) }
        #expect(window.size == 1)
    }

    @Test func `P7 a dead connection holds nobody else up`() {
        var simulation = Simulation(Link(dead: 3), limits(8))
        let job = simulation.scheduler.open(order: nil)
        simulation.ask(job, bytes: 1 << 20, count: 500)
        simulation.run()
        #expect(simulation.moved == 499 << 20)
        #expect(simulation.scheduler.runningCount == 1)
    }

    @Test func `the oldest checkpoint gets three turns of four, the newest never starves`() {
        var simulation = Simulation(Link(), limits(8))
        let newest = simulation.scheduler.open(order: ReportSequence(epoch: 1, index: 9))
        let oldest = simulation.scheduler.open(order: ReportSequence(epoch: 1, index: 2))
        let between = simulation.scheduler.open(order: ReportSequence(epoch: 1, index: 5))
        for job in [newest, between, oldest] { simulation.ask(job, bytes: 1 << 20, count: 300) }
        simulation.run()
        for first in stride(from: 0, to: 360, by: 40) {
            let turns = simulation.starts[first..<(first + 40)]
            #expect(turns.count { $0 == oldest } == 30)
            #expect(turns.count { $0 == newest } == 10)
        }
        #expect(simulation.moved == 900 << 20)
    }

    @Test func `a restore goes before reports`() {
        var scheduler = TransferScheduler(limits: limits(1), now: 0)
        let report = scheduler.open(order: ReportSequence(epoch: 1, index: 0))
        let restore = scheduler.open(order: nil)
        let late = scheduler.ask(report, bytes: 1)
        let early = scheduler.ask(restore, bytes: 1)
        #expect(scheduler.start(now: 0) == [early])
        if let early { scheduler.finish(early, .moved, bytes: 1, now: 0) }
        #expect(scheduler.start(now: 0) == [late])
    }

    @Test func `P6 bytes in flight stay within their limit, and one request always runs`() {
        var simulation = Simulation(Link(), limits(64, bytes: 9 << 20))
        let job = simulation.scheduler.open(order: nil)
        simulation.ask(job, bytes: 32 << 20, count: 40)
        simulation.ask(job, bytes: 100, count: 1000)
        simulation.run()
        let total: Int = 40 * (32 << 20) + 100_000
        #expect(simulation.moved == total)
        #expect(simulation.highestBytes <= 9 << 20)

        var tight = Simulation(Link(), limits(64, bytes: 1))
        let other = tight.scheduler.open(order: nil)
        tight.ask(other, bytes: 1 << 20, count: 5)
        tight.run()
        #expect(tight.moved == 5 << 20)
        #expect(tight.highestRunning == 1)
    }

    @Test func `P6 a limit on bytes per second holds over time`() {
        var simulation = Simulation(Link(), limits(16))
        let job = simulation.scheduler.open(order: nil, terms: .init(bytesPerSecond: 20_000_000))
        simulation.ask(job, bytes: 1_000_000, count: 300)
        simulation.run()
        let seconds = Double(simulation.now) / 1e9
        #expect(simulation.moved == 300_000_000)
        #expect(14...15.6 ~= seconds)
    }

    @Test func `P6 a limit on bytes per second holds over many short jobs, and for nobody else`() {
        var simulation = Simulation(Link(each: 200e6), limits(16))
        for _ in 0..<10 {
            let job = simulation.scheduler.open(order: nil, terms: .init(bytesPerSecond: 10_000_000))
            simulation.ask(job, bytes: 5_000_000)
            simulation.run()
            _ = simulation.scheduler.close(job)
        }
        // The first 5 MB are free, the others wait for those before them.
        let seconds = Double(simulation.now) / 1e9
        #expect(4.2...5.2 ~= seconds)

        var mixed = Simulation(Link(), limits(16))
        let restore = mixed.scheduler.open(order: nil)
        let report = mixed.scheduler.open(
            order: ReportSequence(epoch: 1, index: 1), terms: .init(bytesPerSecond: 1_000_000))
        mixed.ask(report, bytes: 10_000_000, count: 3)
        mixed.ask(restore, bytes: 1_000_000, count: 300)
        mixed.run(until: 4_000_000_000)
        #expect(mixed.starts.count { $0 == restore } == 300)
        #expect(mixed.starts.count { $0 == report } == 1)
    }

    @Test func `P6 the least bytes in flight that anybody wishes for hold as long as its job is open`() {
        var simulation = Simulation(Link(), limits(8))
        let plain = simulation.scheduler.open(order: nil)
        let narrow = simulation.scheduler.open(order: nil, terms: .init(inflightBytes: 3 << 20))
        simulation.ask(plain, bytes: 4 << 20, count: 50)
        simulation.run()
        #expect(simulation.highestBytes == 3 << 20)
        _ = simulation.scheduler.close(narrow)
        simulation.ask(plain, bytes: 4 << 20, count: 50)
        simulation.run()
        #expect(simulation.highestBytes == 8 << 20)
        #expect(simulation.scheduler.limits == limits(8))
    }

    @Test func `P6 who wishes for few requests at a time has no more, and the others no fewer`() throws {
        var scheduler = TransferScheduler(limits: limits(8), now: 0)
        let narrow = scheduler.open(order: nil, terms: .init(concurrency: 1))
        let other = scheduler.open(order: ReportSequence(epoch: 1, index: 1), terms: .init(concurrency: 2))
        let plain = scheduler.open(order: ReportSequence(epoch: 1, index: 2))
        var asked: [TransferScheduler.Job: Set<TransferScheduler.Ticket>] = [:]
        for job in [narrow, other, plain] {
            asked[job] = Set((0..<20).compactMap { _ in scheduler.ask(job, bytes: 1) })
        }
        var running = scheduler.start(now: 0)
        func count(_ job: TransferScheduler.Job) -> Int { running.count { asked[job]?.contains($0) ?? false } }
        #expect(count(narrow) == 1 && count(other) == 2 && count(plain) == 5)
        for round in 1...15 {
            try #require(running.count == 8)
            scheduler.finish(running.remove(at: round % 8), .failed, bytes: 0, now: 0)
            running += scheduler.start(now: 0)
            #expect(count(narrow) <= 1 && count(other) <= 2)
        }
        #expect(scheduler.concurrency(narrow) == 1 && scheduler.concurrency(plain) == 8)
    }

    @Test func `P6 what a store was opened with holds for all of its reports and restores together`() throws {
        let (run, another) = (Flag(), Flag())
        var scheduler = TransferScheduler(limits: limits(8), now: 0)
        let terms = TransferScheduler.Terms(concurrency: 2, owner: ObjectIdentifier(run))
        let first = scheduler.open(order: nil, terms: terms)
        let second = scheduler.open(order: ReportSequence(epoch: 1, index: 1), terms: terms)
        let third = scheduler.open(
            order: ReportSequence(epoch: 1, index: 2),
            terms: .init(concurrency: 2, owner: ObjectIdentifier(another)))
        for job in [first, second, third] { for _ in 0..<6 { _ = scheduler.ask(job, bytes: 1) } }
        var running = scheduler.start(now: 0)
        #expect(running.count == 4)
        // A job that is closed counts until its requests have ended, and one that pauses does not.
        _ = scheduler.close(first)
        #expect(scheduler.start(now: 0).isEmpty)
        scheduler.pause(running[0])
        #expect(scheduler.start(now: 0).count == 1)
        scheduler.finish(running.removeFirst(), .failed, bytes: 0, now: 0)
        #expect(scheduler.start(now: 0).isEmpty)
        for ticket in running { scheduler.finish(ticket, .failed, bytes: 0, now: 0) }
        #expect(scheduler.start(now: 0).count == 3)
        #expect(scheduler.runningCount == 4)
    }

    @Test func `the window opens as far as the widest job wishes, and back`() {
        var simulation = Simulation(Link(), limits(8))
        let narrow = simulation.scheduler.open(order: nil, terms: .init(concurrency: 2))
        #expect(simulation.scheduler.limits.maximumConcurrency == 8)
        let wide = simulation.scheduler.open(order: nil, terms: .init(concurrency: 32))
        #expect(simulation.scheduler.limits.maximumConcurrency == 32)
        simulation.ask(wide, bytes: 4 << 20, count: 500)
        simulation.run()
        #expect(simulation.highestRunning > 16)
        _ = simulation.scheduler.close(wide)
        #expect(simulation.scheduler.limits == limits(8) && simulation.scheduler.window.size <= 8)
        _ = simulation.scheduler.close(narrow)
        #expect(simulation.scheduler.limits == limits(8))
    }

    @Test func `P7 a request that pauses makes room for others, and is the first of its job to run again`() throws {
        var scheduler = TransferScheduler(limits: limits(1), now: 0)
        let throttled = scheduler.open(order: nil)
        let healthy = scheduler.open(order: ReportSequence(epoch: 1, index: 0))
        let asked = (0..<3).map { _ in scheduler.ask(throttled, bytes: 5) }
        let last = scheduler.ask(healthy, bytes: 7)
        let restore = try #require(last)
        let (first, second, third) = (try #require(asked[0]), try #require(asked[1]), try #require(asked[2]))
        #expect(scheduler.start(now: 0) == [first])
        #expect(scheduler.resume(first) == .running)
        scheduler.pause(first)
        scheduler.pause(first)
        #expect(scheduler.runningCount == 0 && scheduler.inflightBytes == 0)
        #expect(scheduler.start(now: 0) == [second])
        scheduler.pause(second)
        #expect(scheduler.start(now: 0) == [third])
        scheduler.pause(third)
        #expect(scheduler.start(now: 0) == [restore])
        #expect(scheduler.resume(second) == .queued && scheduler.resume(first) == .queued)
        #expect(scheduler.start(now: 0).isEmpty)
        scheduler.finish(restore, .moved, bytes: 7, now: 0)
        #expect(scheduler.start(now: 0) == [first])
        scheduler.finish(first, .moved, bytes: 5, now: 0)
        #expect(scheduler.start(now: 0) == [second])
        // What pauses when its job ends does not come back.
        scheduler.pause(second)
        #expect(scheduler.close(throttled).isEmpty && scheduler.resume(second) == .never)
        scheduler.finish(third, .failed, bytes: 0, now: 0)
        #expect(scheduler.runningCount == 0 && scheduler.inflightBytes == 0 && scheduler.queuedCount == 0)
    }

    @Test func `P6 a request that runs again is not taken from the limit on bytes per second again`() throws {
        var scheduler = TransferScheduler(limits: limits(4), now: 0)
        let job = scheduler.open(order: nil, terms: .init(bytesPerSecond: 1_000_000))
        let asked = scheduler.ask(job, bytes: 500_000)
        let ticket = try #require(asked)
        var now: Int64 = 0
        for _ in 0..<10 {
            #expect(scheduler.start(now: now) == [ticket])
            scheduler.pause(ticket)
            #expect(scheduler.resume(ticket) == .queued)
            // Earns what is missing after the first time, and less than to take it again.
            now += 300_000_000
        }
    }

    @Test func `P7 a stuck request in a window that its trouble has shrunk does not hold other jobs up`() {
        var scheduler = TransferScheduler(limits: limits(8), now: 0)
        for second in 1...9 { scheduler.slowDown(now: Int64(second) * 2_000_000_000) }
        #expect(scheduler.window.size == 1)
        let now: Int64 = 18_000_000_000
        let stuck = scheduler.open(order: nil)
        for _ in 0..<3 { _ = scheduler.ask(stuck, bytes: 1) }
        #expect(scheduler.start(now: now).count == 1)
        let healthy = scheduler.open(order: ReportSequence(epoch: 1, index: 0))
        let tickets = (0..<3).map { _ in scheduler.ask(healthy, bytes: 1) }
        // One at a time, and the stuck job gets none of its others in.
        for ticket in tickets {
            #expect(scheduler.start(now: now) == [ticket])
            #expect(scheduler.start(now: now).isEmpty)
            if let ticket { scheduler.finish(ticket, .moved, bytes: 1, now: now) }
        }
    }

    @Test func `P6 a store of which enough runs gets none beyond a window that has shrunk`() {
        let run = Flag()
        var scheduler = TransferScheduler(limits: limits(8), now: 0)
        for second in 1...9 { scheduler.slowDown(now: Int64(second) * 2_000_000_000) }
        let terms = TransferScheduler.Terms(concurrency: 1, owner: ObjectIdentifier(run))
        for index in 0..<2 {
            let job = scheduler.open(order: ReportSequence(epoch: 1, index: index), terms: terms)
            _ = scheduler.ask(job, bytes: 1)
        }
        #expect(scheduler.window.size == 1)
        #expect(scheduler.start(now: 18_000_000_000).count == 1)
    }

    @Test(arguments: 1...20) func `no permit is ever lost, whatever ends how`(seed: Int) {
        var random = SeededRandom(UInt64(seed))
        let run = Flag()
        var scheduler = TransferScheduler(limits: limits(6, bytes: 8 << 20), now: 0)
        var jobs: [TransferScheduler.Job] = []
        var running: [TransferScheduler.Ticket] = []
        var paused: [TransferScheduler.Ticket] = []
        var now: Int64 = 0
        for _ in 0..<2000 {
            now += Int64(random.below(20_000_000))
            switch random.below(10) {
            case 8 where !running.isEmpty:
                let ticket = running.remove(at: random.below(running.count))
                scheduler.pause(ticket)
                paused.append(ticket)
            case 9 where !paused.isEmpty:
                let ticket = paused.remove(at: random.below(paused.count))
                if random.below(4) == 0 {
                    scheduler.finish(ticket, .failed, bytes: 0, now: now)
                } else {
                    _ = scheduler.resume(ticket)
                }
            case 0:
                let isOwned = random.below(2) == 0
                let terms = TransferScheduler.Terms(
                    concurrency: isOwned ? 2 : nil, owner: isOwned ? ObjectIdentifier(run) : nil)
                jobs.append(scheduler.open(order: ReportSequence(epoch: 1, index: random.below(9)), terms: terms))
            case 1 where jobs.count > 3: _ = scheduler.close(jobs.remove(at: random.below(jobs.count)))
            case 2, 3, 4:
                if let job = jobs.randomElement(using: &random) {
                    _ = scheduler.ask(job, bytes: random.below(64 << 20))
                }
            default:
                if running.isEmpty { break }
                let ticket = running.remove(at: random.below(running.count))
                let outcome: TransferScheduler.Outcome = [.moved, .failed, .slowedDown][random.below(3)]
                scheduler.finish(ticket, outcome, bytes: 1, now: now)
                // A second time does nothing.
                if random.below(4) == 0 { scheduler.finish(ticket, outcome, bytes: 1, now: now) }
            }
            running += scheduler.start(now: now)
            #expect(scheduler.runningCount == running.count)
            #expect(running.count <= 8)
        }
        for job in jobs { _ = scheduler.close(job) }
        for ticket in running + paused { scheduler.finish(ticket, .failed, bytes: 0, now: now) }
        #expect(scheduler.runningCount == 0 && scheduler.inflightBytes == 0 && scheduler.queuedCount == 0)
        let job = scheduler.open(order: nil)
        for _ in 0..<10 { _ = scheduler.ask(job, bytes: 1) }
        let started = scheduler.start(now: now)
        #expect(started.count == scheduler.window.size)
        for ticket in started { scheduler.finish(ticket, .failed, bytes: 0, now: now) }
        _ = scheduler.close(job)
        // Nor is one of the owner's.
        let owned = scheduler.open(order: nil, terms: .init(concurrency: 1, owner: ObjectIdentifier(run)))
        _ = scheduler.ask(owned, bytes: 1)
        #expect(scheduler.start(now: now).count == 1)
    }
}
