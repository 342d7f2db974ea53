import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// Metrics of runs on object stores, where a log cannot be appended to: no row of a report that was returned as durable is
/// missing, for nobody and at no time (P14).
@Suite struct ObjectMetricsTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture(.objects) }

    /// `1.0` for the row of report 0 of epoch 1, as a reader gets them.
    private func rows() async throws -> [String] {
        try #require(await fixture.result().metrics().arrayValue).map(Self.place)
    }

    private static func place(_ row: JSONValue) -> String {
        "\(row["raystorage_epoch"]?.intValue ?? -1).\(row["raystorage_index"]?.intValue ?? -1)"
    }

    private var segments: [String] {
        fixture.keys.filter { $0.hasPrefix(RunLayout.metrics) }.map {
            String($0.dropFirst(RunLayout.metrics.utf8.count))
        }
    }

    /// The places that result.json has, in its order.
    private func derived() throws -> [String] {
        try fixture.text(RunLayout.results).split(separator: "\n").map {
            Self.place(try JSONParser.parse(Array($0.utf8)))
        }
    }

    /// The first launch. Its clock stands still, so that it publishes nothing more by itself.
    private func train(keep: Int? = nil) async throws -> TrainingRun {
        var environment = Environment.system
        let now = environment.bootMilliseconds()
        environment.bootMilliseconds = { now }
        let run = try await fixture.train(environment: environment) { $0.retention = RetentionPolicy(numToKeep: keep) }
        try await run.metrics.publishAll()
        return run
    }

    /// A launch that only opens and closes.
    private func visit(_ host: String) async throws { try fixture.close(try await fixture.train(host)) }

    private func decisionsRead(_ body: () async throws -> Void) async throws -> Int {
        let before = fixture.memory.calls.count
        try await body()
        return fixture.memory.calls[before...].filter {
            $0.operation == .get && $0.key.contains(RunLayout.decisions)
        }.count
    }

    // MARK: - The log

    @Test func `P14 a line is in the log when report() returns, whatever the store does`() async throws {
        let fixture = fixture
        let isAway = Flag()
        var takeover = Takeover(
            options: fixture.options("a"), environment: .system, engine: .shared, progress: Progress())
        takeover.opener = try RunFixtureView(fixture) { _, _ throws(StorageError) in
            if isAway.isSet { throw StorageError(.permissionDenied, "away") }
        }.opener
        let run = try await TrainingRun.open(takeover)
        try await run.metrics.publishAll()
        isAway.raise()
        for number in 0..<3 {
            let source = number == 1 ? try fixture.source("with a checkpoint") : nil
            let report = try run.report(
                metricsJSON: Array(#"{"n":\#(number)}"#.utf8), directory: source, options: ReportOptions())
            try report.waitCaptured(Deadline(timeoutMilliseconds: 600_000))
            // As of a process that is killed right here.
            let log = try OpenFile(Path.join(run.opened.workspace, RunLayout.metrics + "1-0-0.jsonl"), O_RDONLY)
            let bytes = try log.readAll(limit: 1 << 20)
            let rows = MetricsHistory.rows(bytes, of: MetricsSegmentName(epoch: 1, rank: 0, number: 0))
            #expect(rows.map { $0.metrics["n"]?.intValue } == Array(0...number) && bytes.last == 0x0A)
        }
        try fixture.kill(run)
        #expect(try await rows() == [])
        try await visit("a")
        #expect(try await rows() == ["1.0", "1.1", "1.2"])
    }

    @Test func `P14 half a line on this machine's disk is not sent, and no later one with it`() async throws {
        let run = try await train()
        _ = try run.report(metricsJSON: Array("{}".utf8), directory: nil, options: ReportOptions())
        let log = Path.join(run.opened.workspace, RunLayout.metrics + "1-0-0.jsonl")
        func append(_ text: String) throws {
            let file = try OpenFile(log, O_WRONLY | O_APPEND)
            try file.write(Array(text.utf8))
            try file.close()
        }
        // The kernel has taken down half of a write so far.
        try append(#"{"index":1,"#)
        try await run.metrics.publishAll()
        let key = RunLayout.metrics + "1-0-0.jsonl"
        let sent = try fixture.text(key)
        #expect(sent.hasSuffix("\n") && !sent.contains(#""index":1"#))
        #expect(try fixture.text(RunLayout.results).hasSuffix("\n"))
        try append(#""time":1,"metrics":{}}"# + "\n")
        try await run.metrics.publishAll()
        #expect(try fixture.text(key).hasPrefix(sent))
        #expect(try await rows() == ["1.0", "1.1"])
        try fixture.kill(run)
    }

    /// Every length that another program can have left of either file, and what it may have written behind it.
    @Test(arguments: ["a", "b"]) func `derived files end with a whole line: any torn end is cut off and derived again`(
        host: String
    ) async throws {
        let run = try await train()
        for text in [#"{"a":"x,\"y\"\n"}"#, "{}", #"{"a":"z"}"#] {
            _ = try run.report(metricsJSON: Array(text.utf8), directory: nil, options: ReportOptions())
        }
        try fixture.close(run)
        let names = [RunLayout.results, "progress.csv"]
        let whole = try names.map { try fixture.text($0) }
        let junk = Array("\0\0\0\n\0\0".utf8)
        for (name, text) in zip(names, whole) {
            // The last one leaves a file that is as long as it was.
            let lengths = Array(stride(from: 0, to: text.utf8.count, by: 61)) + [text.utf8.count - junk.count]
            for length in lengths {
                var torn = Array(text.utf8.prefix(length))
                if length % 2 == 0 || length == lengths.last { torn += junk }
                fixture.memory.place("storage/run/\(name)", torn)
                try await visit(host)
                #expect(try fixture.text(name) == text, "\(name) at \(length)")
            }
        }
        #expect(try names.map { try fixture.text($0) } == whole)
    }

    @Test func `rows tell who reported them and how long that took from the launch on, also in its own files`()
        async throws
    {
        let run = try await train()
        _ = try run.report(metricsJSON: Array("{}".utf8), directory: nil, options: ReportOptions())
        try await run.metrics.publishAll()
        let row = try JSONParser.parse(try fixture.text(RunLayout.results))
        #expect(row["pid"]?.intValue == Int(getpid()) && row["hostname"]?.stringValue?.isEmpty == false)
        #expect((row["time_total_s"]?.doubleValue ?? 0) > 0)
        try fixture.kill(run)
    }

    // MARK: - A machine that never comes back

    @Test func `P14 the row of a durable report is read though its machine is gone`() async throws {
        let run = try await train()
        try fixture.report(run, "one", metrics: #"{"loss":2.5}"#)
        try fixture.report(run, "two", name: "named", metrics: #"{"loss":NaN}"#)
        try fixture.kill(run)
        #expect(segments.isEmpty)
        #expect(try await rows() == ["1.0", "1.1"])
        let metrics = try #require(try await fixture.result().metrics().arrayValue)
        #expect(metrics[0]["loss"] == .number(2.5) && metrics[1]["loss"]?.doubleValue?.isNaN == true)
        #expect(metrics[1]["checkpoint_dir_name"] == "named")
    }

    @Test func `P14 and stays when retention has taken its checkpoint away`() async throws {
        let run = try await train(keep: 1)
        for number in 0..<3 { try fixture.report(run, "\(number)") }
        // Un-committed right after the report says so, unless a reader (of another test, at the same address) has pinned it.
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while try await fixture.state().committed.count != 1, !deadline.isPast {
            try await run.opened.catalog.evictAnnounced()
            await Engine.shared.sleep(milliseconds: 5)
        }
        try fixture.kill(run)
        #expect(segments.isEmpty)
        #expect(try await fixture.state().committed.count == 1)
        #expect(try await rows() == ["1.0", "1.1", "1.2"])
    }

    @Test func `P14 the next launch on another machine writes such rows to a segment`() async throws {
        let run = try await train(keep: 1)
        try fixture.report(run, "one", metrics: #"{"loss":1}"#)
        try fixture.report(run, "two", metrics: #"{"loss":2}"#)
        try fixture.kill(run)
        let next = try await fixture.train("b")
        try await next.metrics.publishAll()
        try fixture.report(next, "three", metrics: #"{"loss":3}"#)
        try fixture.close(next)
        #expect(segments == ["2-0-0.jsonl"])
        let inLog = MetricsHistory.rows(
            Array(try fixture.text(RunLayout.metrics + "2-0-0.jsonl").utf8),
            of: MetricsSegmentName(epoch: 2, rank: 0, number: 0))
        #expect(Set(inLog.map(\.sequence.epoch)) == [1, 2] && inLog.count == 3)
        #expect(try await rows() == ["1.0", "1.1", "2.0"])
        #expect(try derived() == ["1.0", "1.1", "2.0"])
        // And once only.
        try await visit("b")
        try await visit("c")
        #expect(try await rows() == ["1.0", "1.1", "2.0"])
        #expect(try derived() == ["1.0", "1.1", "2.0"])
        #expect(segments == ["2-0-0.jsonl"])
    }

    @Test func `P14 a machine that comes back adds what only it had, and nothing twice`() async throws {
        let run = try await train()
        try fixture.report(run, "one", metrics: #"{"loss":1}"#)
        // Without a checkpoint there is no decision: only that machine has it.
        _ = try run.report(metricsJSON: Array(#"{"loss":2}"#.utf8), directory: nil, options: ReportOptions())
        try fixture.kill(run)
        try await visit("b")
        #expect(try await rows() == ["1.0"])
        try await visit("a")
        #expect(try await rows() == ["1.0", "1.1"])
        #expect(try derived().sorted() == ["1.0", "1.1"])
    }

    @Test func `whoever finds all rows in segments reads no decision for them`() async throws {
        let run = try await train()
        for number in 0..<5 { try fixture.report(run, "\(number)") }
        let before = try await decisionsRead { _ = try await rows() }
        #expect(before == 5)
        try fixture.close(run)
        let after = try await decisionsRead { _ = try await rows() }
        #expect(after == 0)
        #expect(try await rows().count == 5)
    }

    @Test func `P6 requests for metrics and index are a matter of time, not of reports`() async throws {
        let clock = Mutex<Int64>(0)
        var environment = Environment.system
        let start = environment.bootMilliseconds()
        environment.bootMilliseconds = { start + clock.withLock { $0 } }
        let run = try await fixture.train(environment: environment) { $0.heartbeatMilliseconds = 3_600_000 }
        try await run.metrics.publishAll()
        func writes(_ body: () throws -> Void) throws -> [String] {
            let before = fixture.memory.calls.count
            try body()
            return fixture.memory.calls[before...].filter { $0.operation == .put }.map(\.key).filter { key in
                [RunLayout.metrics, RunLayout.results, "progress.csv", RunLayout.index].contains { key.contains($0) }
            }
        }
        let quick = try writes { for number in 0..<10 { try fixture.report(run, "\(number)") } }
        #expect(quick.isEmpty)
        clock.withLock { $0 += MetricsPublisher.period }
        let due = try writes { for number in 0..<10 { try fixture.report(run, "\(number)") } }
        #expect(due.count == 3 && Set(due).count == 3)
        clock.withLock { $0 += 60_000 }
        let index = try writes { for number in 0..<10 { try fixture.report(run, "\(number)") } }
        #expect(index.filter { $0.contains(RunLayout.index) }.count == 1 && index.count == 4)
        try fixture.close(run)
    }

    @Test(arguments: [true, false]) func `P14 files that have become too long for a store keep no report from it`(
        isFirst: Bool
    ) async throws {
        let limit = 1000
        if isFirst {
            let run = try await fixture.train()
            for number in 0..<20 { try fixture.report(run, "\(number)") }
            try fixture.close(run)
        }
        let before = isFirst ? try fixture.text(RunLayout.results) : nil
        // On another machine, which would have to fetch it.
        let run = try await fixture.train("b") { $0.largestDerivedBytes = limit }
        for number in 0..<20 { try fixture.report(run, "later \(number)") }
        try fixture.close(run)
        #expect(try await rows().count == (isFirst ? 40 : 20))
        if isFirst { #expect(try fixture.text(RunLayout.results) == before) }
    }

    // MARK: - What opens publishes

    @Test func `P14 what a killed trainer's log holds is published by the next launch there, without a report`()
        async throws
    {
        let run = try await train()
        _ = try run.report(metricsJSON: Array("{}".utf8), directory: nil, options: ReportOptions())
        try fixture.kill(run)
        let next = try await fixture.train("a")
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while segments.isEmpty, !deadline.isPast { await Engine.shared.sleep(milliseconds: 5) }
        #expect(try await rows() == ["1.0"])
        try fixture.kill(next)
    }

    @Test func `P14 a holder that was too busy for its heartbeat still publishes when it closes`() async throws {
        let clock = Mutex<Int64>(0)
        var environment = Environment.system
        let boot = environment.bootMilliseconds
        environment.bootMilliseconds = { boot() + clock.withLock { $0 } }
        let run = try await fixture.train(environment: environment)
        try await run.metrics.publishAll()
        _ = try run.report(metricsJSON: Array("{}".utf8), directory: nil, options: ReportOptions())
        clock.withLock { $0 += 3 * run.opened.hold.epoch.period }
        #expect(!run.opened.hold.mayWrite)
        try fixture.close(run)
        #expect(segments == ["1-0-0.jsonl"])
        #expect(try await rows() == ["1.0"])
    }

    @Test func `P14 what a dead trainer's connection delivers late, or a suspended one writes, takes no rows away`()
        async throws
    {
        let gate = Gate()
        let held = Flag()
        let fixture = fixture
        let key = "storage/run/\(RunLayout.metrics)1-0-0.jsonl"
        let view = try RunFixtureView(fixture) { moment, call in
            guard moment == .before, call.operation == .put, call.key == key, held.set() else { return }
            await gate.pass()
        }
        var takeover = Takeover(
            options: fixture.options("a"), environment: .system, engine: .shared, progress: Progress())
        takeover.opener = view.opener
        let run = try await TrainingRun.open(takeover)
        try await run.metrics.publishAll()
        func report() throws {
            _ = try run.report(metricsJSON: Array("{}".utf8), directory: nil, options: ReportOptions())
        }
        try report()
        let end = Mutex<StorageError.Code?>(nil)
        let suspended = Engine.shared.spawn {
            do throws(StorageError) { try await run.metrics.publishAll() } catch { end.withLock { $0 = error.code } }
        }
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while !held.isSet, !deadline.isPast { await Engine.shared.sleep(milliseconds: 1) }
        // In the log of this machine, and not in what is on its way.
        try report()
        try fixture.kill(run)
        fixture.forgetOpen()
        try await visit("a")
        #expect(try await rows() == ["1.0", "1.1"])
        gate.open()
        // That trainer was only suspended: it learns that it was taken over.
        await suspended.value
        #expect(end.withLock { $0 } == .superseded)
        #expect(try await rows() == ["1.0", "1.1"])
    }

    // MARK: - Records that go

    @Test func `P14 the record of an evicted checkpoint stays until a segment has its row`() async throws {
        let environment = fixture.storeClock.environment
        let run = try await train(keep: 1)
        try fixture.report(run, "one")
        try fixture.report(run, "two")
        try fixture.kill(run)
        fixture.storeClock.move(25 * 3600)
        let collection = try GarbageCollection(fixture.root, environment: environment, opener: fixture.opener)
        _ = try await collection.run(now: true, dryRun: false, progress: Progress())
        #expect(try await rows() == ["1.0", "1.1"])
        try await visit("b")
        // That launch may have evicted it, or done so again.
        fixture.storeClock.move(25 * 3600)
        _ = try await collection.run(now: true, dryRun: false, progress: Progress())
        #expect(fixture.keys.filter { $0.hasPrefix(RunLayout.decisions) }.count == 1)
        #expect(try await rows() == ["1.0", "1.1"])
    }
}
