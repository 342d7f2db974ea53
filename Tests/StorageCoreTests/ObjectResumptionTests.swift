import Glibc
import Testing

@testable import StorageCore

/// Which checkpoint an epoch on an object store goes on from when others were there meanwhile, and what becomes of commits
/// that nobody published.
@Suite struct ObjectResumptionTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture(.objects) }

    private func name(_ epoch: Int, _ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: epoch, index: index))
    }

    /// Sends a checkpoint and decides about it, and no more.
    private func decide(_ opened: OpenedRun, _ index: Int) async throws {
        let attempt = try await fixture.leave(opened, index, .sealed, hasJournal: false)
        let name = name(opened.hold.epoch.number, index)
        try await opened.checkpoints.upload(attempt, as: name, progress: Progress())
        #expect(try await opened.checkpoints.commit(attempt, as: name) == .committed)
        try await opened.checkpoints.forget(attempt)
    }

    private func resumed() async throws -> String? {
        let opened = try await fixture.open()
        try fixture.kill(opened)
        let recorded = try fixture.resume(opened.hold.epoch.number)
        #expect(recorded == opened.resumedFrom.map { RunFixture.short($0.physicalName) })
        return recorded
    }

    // MARK: - Committed and never published

    @Test func `what was committed and never published is taken in only when all of it is there`() async throws {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        for index in 1...3 { try await decide(opened, index) }
        try fixture.kill(opened)
        fixture.memory.place("storage/run/\(name(1, 1))/data", nil)
        let next = try await fixture.open()
        #expect(next.catalog.current.entries.map(\.sequence?.index) == [0, 2, 3])
        #expect(next.resumedFrom?.sequence?.index == 3)
        #expect(try fixture.snapshot().entries.map { RunFixture.short($0.physicalName) } == ["1.0", "1.2", "1.3"])
        try fixture.kill(next)
    }

    @Test func `and is gone on from, when it is the newest, only when all of it is there`() async throws {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        for index in 1...2 { try await decide(opened, index) }
        try fixture.kill(opened)
        fixture.memory.tamper("storage/run/\(name(1, 2))/data") { $0.removeLast() }
        #expect(try await resumed() == "1.1")
    }

    // MARK: - Ray was here

    @Test func `P13: goes on from where Ray got to after us, and Ray from where we got to`() async throws {
        try await fixture.epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2", "checkpoint_r3"])
        #expect(try await fixture.latest() == "checkpoint_r3")
        let before = ["1.0 committed", "1.1 committed", "checkpoint_r2 unverified", "checkpoint_r3 unverified"]
        #expect(try await fixture.statuses() == before)
        let second = try await fixture.train()
        #expect(second.opened.resumedFrom?.physicalName == "checkpoint_r3")
        #expect(try fixture.document(RunLayout.resume(2, 0))?["attempt"] == .null)
        #expect(try fixture.document(RunLayout.resume(2, 0))?["report_index_base"] == 4)
        let current = try await second.currentCheckpoint(Progress())
        #expect(current["physical_name"] == "checkpoint_r3")
        // Ray, too, would go on from there.
        #expect(try fixture.snapshot().latest == "checkpoint_r3")
        try fixture.report(second, "ours")
        try fixture.close(second)
        #expect(try await fixture.latest() == "2.0")
        #expect(try fixture.snapshot().latest.map(RunFixture.short) == "2.0")
        #expect(try fixture.snapshot().reportCount == 5)
        // What lies before Ray's turn is still this job's history.
        #expect(try await fixture.statuses() == before + ["2.0 committed"])
        try fixture.ray(reports: ["checkpoint_r5"])
        #expect(try await resumed() == "checkpoint_r5")
        #expect(try await resumed() == "checkpoint_r5")
    }

    @Test func `P13: also when Ray evicted all that was ours`() async throws {
        // Closed: what the index does not have yet may have been committed without Ray's knowledge.
        let run = try await fixture.train()
        for content in ["zero", "one"] { try fixture.report(run, content) }
        try fixture.close(run)
        try fixture.ray(reports: ["checkpoint_r2"], keeping: 1)
        #expect(try await resumed() == "checkpoint_r2")
        #expect(try await fixture.statuses() == ["checkpoint_r2 unverified"])
    }

    @Test func `P13: what was committed and Ray could not know is stray after Ray's turn`() async throws {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        try await decide(opened, 1)
        try fixture.kill(opened)
        try fixture.ray(reports: ["checkpoint_r1"])
        #expect(try await resumed() == "checkpoint_r1")
        let statuses = try await fixture.statuses()
        #expect(statuses.contains("1.0 committed") && statuses.contains("1.1 stray"))
    }

    @Test func `P13: where Ray's latest is not there it falls back, with a warning`() async throws {
        try await fixture.epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2", "checkpoint_r3"])
        try fixture.remove("checkpoint_r3")
        #expect(try await resumed() == "checkpoint_r2")
        #expect(!LogLines.shared.with("\"checkpoint_r3\" is damaged", "\"checkpoint_r2\"").isEmpty)
        try fixture.remove("checkpoint_r2")
        #expect(try await resumed() == "1.1")
    }

    @Test func `P13: an epoch that died between its record and its snapshot has had its say`() async throws {
        try await fixture.epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2"])
        let hasChosen = Flag()
        var takeover = Takeover(
            options: fixture.options("a") {
                $0.resumeFrom = name(1, 0)
                $0.retryTimeoutMilliseconds = 50
            }, environment: .system, engine: .shared, progress: Progress())
        takeover.opener = try RunFixtureView(fixture) { moment, call throws(StorageError) in
            if moment == .after, call.key.hasSuffix(RunLayout.resume(2, 0)) { hasChosen.raise() }
            if hasChosen.isSet { throw StorageError(.io, "killed") }
        }.opener
        await #expect(throws: StorageError.self) { _ = try await takeover.open() }
        #expect(hasChosen.isSet)
        #expect(try fixture.snapshot().ours == nil)
        #expect(try await resumed() == "1.0")
        try fixture.ray(reports: ["checkpoint_r3"])
        #expect(try await resumed() == "checkpoint_r3")
    }
}
