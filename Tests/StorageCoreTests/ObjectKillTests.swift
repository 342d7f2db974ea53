import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// A trainer on an object store is stopped for ever at each of its requests, before it arrives and after it was carried
/// out; the next launch on that host finds only whole checkpoints, everything that was returned as durable and everything
/// that was captured, and leaves nothing behind (P1, P2, P4, P9).
@Suite(.serialized) struct ObjectKillTests {
    /// Stops everything from one request on.
    final class Killer: Sendable {
        private struct State {
            var calls = 0
            var isDead = false
        }
        private let point: Int
        private let moment: MemoryObjectStore.Moment
        private let state = Mutex(State())
        /// Never opened: a process that was killed does not wake. Kept, so that nobody waits in vain for what is freed.
        private let grave = Gate()
        private static let graves = Mutex<[Gate]>([])

        init(_ point: Int, _ moment: MemoryObjectStore.Moment) {
            self.point = point
            self.moment = moment
            Self.graves.withLock { $0.append(grave) }
        }

        var isDead: Bool { state.withLock { $0.isDead } }
        var calls: Int { state.withLock { $0.calls } }

        func pass(_ moment: MemoryObjectStore.Moment) async {
            let isDead = state.withLock { state in
                if moment == .before { state.calls += 1 }
                if moment == self.moment, state.calls >= point { state.isDead = true }
                return state.isDead
            }
            if isDead { await grave.pass() }
        }
    }

    /// What a trainer did until it was stopped.
    private struct Trace {
        var run: TrainingRun?
        var reports: [(report: Report, content: String)] = []
    }

    private static func train(
        _ fixture: RunFixture, _ killer: Killer, keep: Int?
    ) async throws -> Trace {
        let opened = Mutex<TrainingRun?>(nil)
        let failed = Flag()
        let view = try RunFixtureView(fixture) { moment, _ in await killer.pass(moment) }
        Engine.shared.spawn {
            var takeover = Takeover(
                options: fixture.options("a") { $0.retention = RetentionPolicy(numToKeep: keep) },
                environment: .system, engine: .shared, progress: Progress())
            takeover.opener = view.opener
            guard let run = try? await TrainingRun.open(takeover) else { return failed.raise() }
            opened.withLock { $0 = run }
        }
        while opened.withLock({ $0 }) == nil, !killer.isDead, !failed.isSet {
            await Engine.shared.sleep(milliseconds: 1)
        }
        #expect(!failed.isSet)
        var trace = Trace()
        guard let run = opened.withLock({ $0 }) else { return trace }
        trace.run = run
        for number in 0..<3 where !killer.isDead {
            var options = ReportOptions()
            if number == 1 { options.checkpointDirName = "named" }
            let report = try run.report(
                metricsJSON: Array(#"{"number":\#(number)}"#.utf8),
                directory: try fixture.source("content \(number)"), options: options)
            trace.reports.append((report, "content \(number)"))
            while !report.currentState.isFinal, !killer.isDead { await Engine.shared.sleep(milliseconds: 1) }
        }
        if !killer.isDead {
            let isClosed = Flag()
            Engine.shared.spawn {
                await run.closeFromTask()
                isClosed.raise()
            }
            while !isClosed.isSet, !killer.isDead { await Engine.shared.sleep(milliseconds: 1) }
        }
        return trace
    }

    private static func check(_ point: Int, _ moment: MemoryObjectStore.Moment, keep: Int?) async throws -> Bool {
        let fixture = try RunFixture(.objects)
        let killer = Killer(point, moment)
        let trace = try await train(fixture, killer, keep: keep)
        if let run = trace.run { try fixture.kill(run) }
        let states = trace.reports.map { $0.report.currentState }
        let place = "\(moment) request \(point), keep \(keep ?? 0), \(states.map(\.name))"
        let next = try await fixture.train("a") { $0.retention = RetentionPolicy(numToKeep: keep) }
        try fixture.close(next)
        let state = try await fixture.state()
        var contents: [Int: String] = [:]
        for entry in state.committed {
            let target = fixture.tree.at("out-\(entry.id)")
            _ = try await CheckpointAccess(
                "\(fixture.root)/\(entry.physicalName)", environment: .system, opener: fixture.opener
            ).download(to: target, verify: true, progress: Progress())
            let bytes = try OpenFile(Path.join(target, "data"), O_RDONLY).readAll(limit: 1 << 20)
            if let index = entry.sequence?.index { contents[index] = String(decoding: bytes, as: UTF8.self) }
        }
        for (number, report) in trace.reports.enumerated() {
            #expect(states[number] != .failed, "\(place)")
            guard states[number] != .pending else { continue }
            let isLast = number == trace.reports.count - 1
            if keep == nil || isLast { #expect(contents[number] == report.content, "\(place)") }
        }
        for (number, content) in contents { #expect(content == "content \(number)", "\(place)") }
        #expect(fixture.memory.openUploads == 0 && state.undecided.isEmpty, "\(place)")
        let known = Set(state.committed.map(\.physicalName))
        let directories = Set(fixture.keys.compactMap { $0.split(separator: "/").dropLast().first.map(String.init) })
        #expect(directories.subtracting(known).subtracting([RunLayout.own]).isEmpty, "\(place)")
        let workspace = next.opened.workspace
        let isLeft = try [RunLayout.attempts, RunLayout.uploads, RunLayout.trash].contains { key in
            try !System.list(Path.join(workspace, key)).isEmpty
        }
        // What the stopped trainer still did on this machine without asking the store: a killed one would not have.
        if isLeft { try fixture.close(try await fixture.train("a")) }
        for key in [RunLayout.attempts, RunLayout.uploads, RunLayout.trash] {
            #expect(try System.list(Path.join(workspace, key)).isEmpty, "\(place): \(key)")
        }
        let rows = try #require(try await fixture.result().metrics().arrayValue).compactMap { $0["number"]?.intValue }
        let logged = zip(0..., states).filter { $0.1 != .pending }.map { $0.0 }
        #expect(Set(logged).isSubset(of: Set(rows)), "\(place): \(rows)")
        return killer.isDead
    }

    @Test(arguments: [nil, 1]) func `every request of a trainer can be its last`(keep: Int?) async throws {
        for moment in [MemoryObjectStore.Moment.before, .after] {
            // A sample: other points each time.
            let isLong = Environment.system.variable("RAYSTORAGE_TEST_LONG") != nil
            let step = isLong ? 1 : 6
            var point = 1 + (isLong ? 0 : Int.random(in: 0..<step))
            while try await Self.check(point, moment, keep: keep) {
                point += step
                if point > 400 { break }
            }
            #expect(point > 30 && point < 400)
        }
    }
}
