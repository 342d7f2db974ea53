import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// Which checkpoint an epoch goes on from, and what becomes of the others.
@Suite struct ResumptionTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture() }

    private func name(_ epoch: Int, _ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: epoch, index: index))
    }

    /// An epoch that committed those reports and was killed.
    @discardableResult
    private func epoch(
        _ indices: [Int], _ change: (inout RunOptions) -> Void = { _ in }
    ) async throws -> OpenedRun {
        let opened = try await fixture.open(change: change)
        for index in indices { try await fixture.commit(opened, index) }
        try fixture.kill(opened)
        return opened
    }

    private func resumed(_ change: (inout RunOptions) -> Void = { _ in }) async throws -> String? {
        let opened = try await fixture.open(change: change)
        try fixture.kill(opened)
        let recorded = try fixture.resume(opened.hold.epoch.number)
        #expect(recorded == opened.resumedFrom.map { RunFixture.short($0.physicalName) })
        return recorded
    }

    /// The same through the interface, which reads every byte.
    private func current(_ run: TrainingRun) async throws -> String? {
        try await run.currentCheckpoint(Progress())["physical_name"]?.stringValue.map(RunFixture.short)
    }

    // MARK: - On the line

    @Test func `a fresh run goes on from nothing and writes that down`() async throws {
        let found = try await resumed()
        #expect(found == nil)
        #expect(try fixture.document(RunLayout.resume(1, 0))?["attempt"] == .null)
    }

    @Test func `goes on from the highest report on its line, whatever was committed last`() async throws {
        try await epoch([0, 4, 2])
        let found = try await resumed()
        #expect(found == "1.4")
    }

    @Test func `an epoch that committed nothing hands on what it went on from`() async throws {
        try await epoch([0, 1])
        try await epoch([])
        try await epoch([])
        let found = try await resumed()
        #expect(found == "1.1")
    }

    @Test func `an epoch that died before it chose is passed over`() async throws {
        try await epoch([0])
        await #expect(throws: StorageError.self) {
            _ = try await fixture.open(hook: { moment, call throws(StorageError) in
                if moment == .before, call.hasPrefix("create"), call.hasSuffix("resume-0.json") {
                    throw StorageError(.io, "killed")
                }
            })
        }
        let found = try await resumed()
        #expect(found == "1.0")
    }

    @Test func `resume_from goes back on purpose; what came after is stray and never latest`() async throws {
        try await epoch([0, 1, 2])
        let found = try await resumed { $0.resumeFrom = name(1, 0) }
        #expect(found == "1.0")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 stray", "1.2 stray"])
        let latest = try await fixture.latest()
        #expect(latest == "1.0")
        // The next launch goes on with that line.
        let next = try await resumed()
        #expect(next == "1.0")
    }

    @Test func `a stray can be gone back to by name`() async throws {
        try await epoch([0, 1])
        _ = try await resumed { $0.resumeFrom = name(1, 0) }
        let found = try await resumed { $0.resumeFrom = name(1, 1) }
        #expect(found == "1.1")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 committed"])
    }

    @Test func `resume_from a name means what the name means now`() async throws {
        let first = try await fixture.train()
        try fixture.report(first, name: "a")
        try fixture.report(first, name: "b")
        try fixture.close(first)
        let second = try await fixture.train { $0.resumeFrom = "a" }
        try fixture.report(second, name: "b")
        try fixture.close(second)
        let third = try await fixture.open { $0.resumeFrom = "b" }
        #expect(third.resumedFrom?.sequence == ReportSequence(epoch: 2, index: 0))
    }

    // MARK: - Names

    @Test func `a name from beyond the resume point gets a directory of its own and the name means that`() async throws
    {
        let first = try await fixture.train()
        try fixture.report(first, name: "start")
        try fixture.report(first, "old", name: "best")
        try fixture.close(first)
        let second = try await fixture.train { $0.resumeFrom = "start" }
        try fixture.report(second, "new", name: "best")
        let attempt = "2-0-\(second.opened.hold.epoch.nonce)"
        try fixture.close(second)
        #expect(try fixture.text("best/data") == "old")
        #expect(try fixture.text("best~\(attempt)/data") == "new")
        #expect(try fixture.exists("\(RunLayout.names)best~\(attempt).json"))
        let statuses = try await fixture.statuses()
        #expect(statuses == ["start committed", "best superseded", "best~\(attempt) committed"])
    }

    @Test func `a name on the line is refused, also when its checkpoint was evicted`() async throws {
        let first = try await fixture.train { $0.retention.numToKeep = 1 }
        try fixture.report(first, name: "a")
        try fixture.report(first, name: "b")
        try fixture.close(first)
        #expect(try !fixture.exists("a"))
        let second = try await fixture.train()
        for name in ["a", "b"] {
            let error = #expect(throws: StorageError.self) { try fixture.report(second, name: name) }
            #expect(error?.code == .alreadyExists && error?.detailsDocument["value"] == .string(name))
        }
        try fixture.report(second, name: "c")
        try fixture.close(second)
    }

    @Test func `a directory that is not ours keeps its name`() async throws {
        let run = try await fixture.train()
        try fixture.write("best/mine", "theirs")
        let error = #expect(throws: StorageError.self) { try fixture.report(run, name: "best") }
        #expect(error?.code == .alreadyExists)
        #expect(try fixture.text("best/mine") == "theirs" && !fixture.exists(RunLayout.claim("best")))
        try fixture.close(run)
    }

    // MARK: - Damage

    @Test func `a file of another size makes it fall back, with a warning that names both`() async throws {
        try await epoch([0, 1])
        try fixture.write("\(name(1, 1))/data", "longer than it was")
        let found = try await resumed()
        #expect(found == "1.0")
        let lines = LogLines.shared.with(
            fixture.root, quoted(name(1, 1)), "is damaged", "going on from \(quoted(name(1, 0)))")
        #expect(lines.count == 1)
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 stray"])
    }

    @Test func `a flipped bit makes it fall back when it is asked for, and the record comes first`() async throws {
        let first = try await fixture.train()
        for content in ["zero", "one!", "two!"] { try fixture.report(first, content) }
        try fixture.close(first)
        for index in 1...2 { try fixture.write("\(name(1, index))/data", "zwo?") }
        let run = try await fixture.train()
        #expect(run.opened.resumedFrom?.sequence?.index == 2)
        let found = try await current(run)
        #expect(found == "1.0")
        #expect(try [fixture.resume(2, 0), fixture.resume(2, 1), fixture.resume(2, 2)] == ["1.2", "1.1", "1.0"])
        #expect(!LogLines.shared.with(fixture.root, quoted(name(1, 2)), "going on from \(quoted(name(1, 1)))").isEmpty)
        #expect(try fixture.snapshot().latest.map(RunFixture.short) == "1.0")
        try fixture.report(run, "three")
        try fixture.close(run)
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 stray", "1.2 stray", "2.0 committed"])
        // The highest turn counts for the next launch, too.
        let state = try await fixture.state()
        #expect(!state.history.isOnLine(ReportSequence(epoch: 1, index: 1), of: 2))
    }

    @Test func `with nothing good left it goes on from the beginning`() async throws {
        let first = try await fixture.train()
        try fixture.report(first, "good")
        try fixture.close(first)
        try fixture.write("\(name(1, 0))/data", "bad!")
        let run = try await fixture.train()
        let found = try await current(run)
        #expect(found == nil)
        #expect(!LogLines.shared.with(fixture.root, "is damaged", "the beginning").isEmpty)
        try fixture.close(run)
        let next = try await fixture.open()
        #expect(next.resumedFrom == nil)
    }

    @Test(arguments: ["gone", "cut off", "flipped"])
    func `a damaged manifest makes it fall back, with a warning that names both`(damage: String) async throws {
        try await epoch([0, 1])
        let key = "\(name(1, 1))/\(RunLayout.manifest)"
        let text = try fixture.text(key)
        switch damage {
        case "gone": try System.unlink(fixture.path(key))
        case "cut off": try fixture.write(key, String(text.prefix(40)))
        default: try fixture.write(key, text.replacing("attempt", with: "attemqt"))
        }
        let found = try await resumed()
        #expect(found == "1.0")
        let lines = LogLines.shared.with(
            fixture.root, quoted(name(1, 1)), "is damaged", "going on from \(quoted(name(1, 0)))")
        #expect(lines.count == 1)
        // Readers refuse it: it is no checkpoint of somebody else's.
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed"])
        #expect(throws: StorageError.self) { try CheckpointAccess(fixture.path(name(1, 1))).manifest() }
    }

    @Test func `resume_from a damaged one is an error and not another checkpoint`() async throws {
        try await epoch([0, 1])
        try System.unlink(fixture.path("\(name(1, 1))/data"))
        let error = await #expect(throws: StorageError.self) { _ = try await resumed { $0.resumeFrom = name(1, 1) } }
        #expect(error?.code == .checksum)
        #expect(try !fixture.exists(RunLayout.resume(2, 0)))
    }

    @Test func `trouble on the way is no damage`() async throws {
        try await epoch([0, 1])
        // A link that leads nowhere else than to an error that is neither damage nor absence.
        let key = "\(name(1, 1))/\(RunLayout.manifest)"
        try System.unlink(fixture.path(key))
        try fixture.tree.link("storage/run/\(key)", to: "manifest.json")
        await #expect(throws: StorageError.self) { _ = try await fixture.open { $0.retryTimeoutMilliseconds = 50 } }
        #expect(try !fixture.exists(RunLayout.resume(2, 0)))
    }

    @Test func `what was committed and never published is taken in only when all of it is there`() async throws {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        for index in 1...3 {
            let attempt = try await fixture.leave(opened, index, .sealed, hasJournal: false)
            #expect(try opened.store.commit(attempt, as: name(1, index)) == .committed)
        }
        try fixture.kill(opened)
        try System.unlink(fixture.path("\(name(1, 1))/data"))
        let next = try await fixture.open()
        #expect(next.catalog.current.entries.map(\.sequence?.index) == [0, 2, 3])
        #expect(next.resumedFrom?.sequence?.index == 3)
        #expect(try fixture.snapshot().entries.map { RunFixture.short($0.physicalName) } == ["1.0", "1.2", "1.3"])
    }

    // MARK: - Evictions that were under way

    private func announce() async throws -> OpenedRun {
        let opened = try await fixture.open { $0.retention.numToKeep = 1 }
        for index in 0...1 { try await fixture.commit(opened, index) }
        #expect(try fixture.snapshot().ours?.evicting.map(\.sequence.index) == [0])
        try fixture.kill(opened)
        return opened
    }

    @Test func `an eviction that was announced is announced anew`() async throws {
        _ = try await announce()
        let next = try await fixture.open { $0.retention.numToKeep = 1 }
        #expect(try fixture.snapshot().ours?.epoch == 2)
        #expect(try fixture.snapshot().ours?.evicting.map(\.sequence.index) == [0])
        #expect(try fixture.snapshot().entries.map { RunFixture.short($0.physicalName) } == ["1.1"])
        try await next.catalog.evictAnnounced()
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.1 committed"])
    }

    @Test func `or taken back, where the new settings keep it`() async throws {
        _ = try await announce()
        let next = try await fixture.open()
        #expect(try fixture.snapshot().ours?.evicting == [])
        #expect(try fixture.snapshot().entries.map { RunFixture.short($0.physicalName) } == ["1.0", "1.1"])
        try await next.catalog.evictAnnounced()
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 committed"])
    }

    @Test func `what was announced and is gone back to on purpose is kept`() async throws {
        _ = try await announce()
        let next = try await fixture.open {
            $0.retention.numToKeep = 1
            $0.resumeFrom = name(1, 0)
        }
        try await next.catalog.evictAnnounced()
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 stray"])
    }

    /// Epoch 1 announced 1.0, looked at its fence and was suspended; epoch 2 goes on from 1.0.
    private func goneBack(meanwhile: @escaping @Sendable (OpenedRun, HookedBackend.Moment, String) throws -> Void)
        async throws -> OpenedRun
    {
        let evictor = try await announce()
        return try await fixture.open(
            change: { $0.resumeFrom = name(1, 0) },
            hook: { moment, call in try? meanwhile(evictor, moment, call) })
    }

    private func evict(_ evictor: OpenedRun) throws {
        let attempt = AttemptID(
            sequence: ReportSequence(epoch: 1, index: 0), nonce: evictor.hold.epoch.nonce)
        #expect(try evictor.store.uncommit(attempt, physicalName: name(1, 0)))
    }

    @Test func `a suspended evictor that wakes right after the choice takes nothing that is needed`() async throws {
        let (fixture, name) = (fixture, name(1, 0))
        let opened = try await goneBack { evictor, moment, call in
            guard moment == .before, call == "create \(RunLayout.resume(2, 0))" else { return }
            let attempt = AttemptID(
                sequence: ReportSequence(epoch: 1, index: 0), nonce: evictor.hold.epoch.nonce)
            _ = try evictor.store.uncommit(attempt, physicalName: name)
        }
        try await opened.catalog.purgeTrash()
        #expect(try fixture.text("\(name)/data") == "x")
        #expect(try opened.store.trashed().isEmpty && opened.catalog.current.trashed.isEmpty)
    }

    @Test func `one that wakes later has it put back when the job asks for its checkpoint`() async throws {
        let evictor = try await announce()
        let run = try await fixture.train { $0.resumeFrom = name(1, 0) }
        try evict(evictor)
        let found = try await current(run)
        #expect(found == "1.0")
        #expect(try fixture.text("\(name(1, 0))/data") == "x")
        try fixture.close(run)
    }

    @Test func `and when the next launch goes on from there`() async throws {
        let evictor = try await announce()
        let opened = try await fixture.open { $0.resumeFrom = name(1, 0) }
        try evict(evictor)
        try fixture.kill(opened)
        let found = try await resumed()
        #expect(found == "1.0")
        #expect(try fixture.text("\(name(1, 0))/data") == "x")
    }

    @Test func `what was evicted in order is not put back`() async throws {
        try await epoch([0])
        let second = try await fixture.open { $0.retention.numToKeep = 1 }
        try await fixture.commit(second, 0)
        try await second.catalog.evictAnnounced()
        try fixture.kill(second)
        #expect(try second.store.trashed().count == 1)
        let found = try await resumed()
        #expect(found == "2.0")
        #expect(try !fixture.exists(name(1, 0)))
    }

    // MARK: - Ray

    /// Ray opened the run, evicted what it wanted and wrote its own snapshot, without what it does not know.
    private func rayKeeps(_ names: [String]) throws {
        var snapshot = try fixture.snapshot()
        snapshot.entries.removeAll { !names.contains($0.physicalName) }
        snapshot.ours = nil
        snapshot.latest = names.last
        try fixture.write(RunLayout.snapshot, String(decoding: snapshot.encoded, as: UTF8.self))
    }

    @Test func `what Ray evicted is un-committed, even if Ray removed a part of it only`() async throws {
        try await epoch([0, 1, 2])
        try rayKeeps([name(1, 0)])
        try System.unlink(fixture.path("\(name(1, 2))/data"))
        let found = try await resumed()
        #expect(found == "1.0")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed"])
    }

    @Test func `what Ray could not know is not what Ray evicted`() async throws {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        let attempt = try await fixture.leave(opened, 1, .sealed, hasJournal: false)
        _ = try opened.store.commit(attempt, as: name(1, 1))
        try fixture.kill(opened)
        try rayKeeps([name(1, 0)])
        let found = try await resumed()
        #expect(found == "1.1")
    }

    @Test func `what our own snapshot lacks was not evicted by anybody`() async throws {
        try await epoch([0, 1])
        var snapshot = try fixture.snapshot()
        snapshot.entries.removeLast()
        try fixture.write(RunLayout.snapshot, String(decoding: snapshot.encoded, as: UTF8.self))
        let found = try await resumed()
        #expect(found == "1.1")
    }

    @Test(arguments: ["", "{", "[]", "gone"]) func `without a snapshot the commits say everything`(text: String)
        async throws
    {
        try await epoch([0, 1])
        if text == "gone" {
            try System.unlink(fixture.path(RunLayout.snapshot))
        } else {
            try fixture.write(RunLayout.snapshot, text)
        }
        let found = try await resumed()
        #expect(found == "1.1")
        #expect(try fixture.snapshot().entries.count == 2)
    }

    @Test func `a newcomer that was fenced itself un-commits nothing for Ray`() async throws {
        try await epoch([0, 1])
        try rayKeeps([name(1, 0)])
        let fixture = fixture
        await #expect(throws: StorageError.self) {
            _ = try await fixture.open(hook: { moment, call in
                if moment == .before, call == "list " {
                    try? fixture.write(RunLayout.fence(2), HoldTests.record(3).document.compact)
                }
            })
        }
        #expect(try fixture.exists(name(1, 1)))
    }

    @Test func `P13: goes on from where Ray got to after us, and Ray from where we got to`() async throws {
        try await epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2", "checkpoint_r3"])
        var latest = try await fixture.latest()
        #expect(latest == "checkpoint_r3")
        var statuses = try await fixture.statuses()
        #expect(
            statuses == [
                "1.0 committed", "1.1 committed", "checkpoint_r2 unverified", "checkpoint_r3 unverified",
            ])
        let second = try await fixture.train()
        #expect(second.opened.resumedFrom?.physicalName == "checkpoint_r3")
        #expect(try fixture.resume(2) == "checkpoint_r3")
        #expect(try fixture.document(RunLayout.resume(2, 0))?["attempt"] == .null)
        #expect(try fixture.document(RunLayout.resume(2, 0))?["report_index_base"] == 4)
        let found = try await current(second)
        #expect(found == "checkpoint_r3")
        // Ray, too, would go on from there.
        #expect(try fixture.snapshot().latest == "checkpoint_r3")
        try fixture.report(second, "ours")
        try fixture.close(second)
        latest = try await fixture.latest()
        #expect(latest == "2.0")
        #expect(try fixture.snapshot().latest.map(RunFixture.short) == "2.0")
        #expect(try fixture.snapshot().reportCount == 5)
        // What lies before Ray's turn is still this job's history.
        statuses = try await fixture.statuses()
        #expect(
            statuses == [
                "1.0 committed", "1.1 committed", "checkpoint_r2 unverified", "checkpoint_r3 unverified",
                "2.0 committed",
            ])
        try fixture.ray(reports: ["checkpoint_r5"])
        let third = try await resumed()
        #expect(third == "checkpoint_r5")
        let fourth = try await resumed()
        #expect(fourth == "checkpoint_r5")
    }

    @Test func `P13: also when Ray evicted all that was ours`() async throws {
        try await epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2"], keeping: 1)
        let found = try await resumed()
        #expect(found == "checkpoint_r2")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["checkpoint_r2 unverified"])
    }

    @Test func `P13: what was committed and Ray could not know is stray after Ray's turn`() async throws {
        let opened = try await epoch([0])
        let attempt = try await fixture.leave(opened, 1, .sealed, hasJournal: false)
        _ = try opened.store.commit(attempt, as: name(1, 1))
        try fixture.ray(reports: ["checkpoint_r1"])
        let found = try await resumed()
        #expect(found == "checkpoint_r1")
        let statuses = try await fixture.statuses()
        #expect(statuses.contains("1.0 committed") && statuses.contains("1.1 stray"))
    }

    @Test(arguments: ["gone", "empty"]) func `P13: where Ray's latest is not there it falls back, with a warning`(
        damage: String
    ) async throws {
        try await epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2", "checkpoint_r3"])
        try System.removeTree(fixture.path("checkpoint_r3"))
        if damage == "empty" { try System.makeDirectory(fixture.path("checkpoint_r3")) }
        let found = try await resumed()
        #expect(found == "checkpoint_r2")
        #expect(!LogLines.shared.with(fixture.root, "\"checkpoint_r3\" is damaged", "\"checkpoint_r2\"").isEmpty)
        try System.removeTree(fixture.path("checkpoint_r2"))
        let next = try await resumed()
        #expect(next == "1.1")
    }

    @Test func `P13: an epoch that died between its record and its snapshot has had its say`() async throws {
        try await epoch([0, 1])
        try fixture.ray(reports: ["checkpoint_r2"])
        await #expect(throws: StorageError.self) {
            _ = try await fixture.open(
                change: { $0.resumeFrom = name(1, 0) },
                hook: { moment, call throws(StorageError) in
                    if moment == .before, call == "replace \(RunLayout.snapshot)" {
                        throw StorageError(.io, "killed")
                    }
                })
        }
        #expect(try fixture.snapshot().ours == nil)
        var found = try await resumed()
        #expect(found == "1.0")
        try fixture.ray(reports: ["checkpoint_r3"])
        found = try await resumed()
        #expect(found == "checkpoint_r3")
    }

    @Test func `goes on from Ray's checkpoint, and falls back to it`() async throws {
        try fixture.write("checkpoint_000003/weights", "ray's")
        try fixture.write(
            RunLayout.snapshot,
            #"{"checkpoint_results":[{"checkpoint_dir_name":"checkpoint_000003","metrics":{}}],"#
                + #""latest_checkpoint_result":{"checkpoint_dir_name":"checkpoint_000003","metrics":{}}}"#)
        let first = try await fixture.train()
        #expect(first.opened.resumedFrom?.physicalName == "checkpoint_000003")
        for content in ["one", "two"] { try fixture.report(first, content) }
        try fixture.close(first)
        let second = try await fixture.train()
        try fixture.close(second)
        for index in 0...1 { try fixture.write("\(name(1, index))/data", "bad") }
        let third = try await fixture.train()
        let found = try await current(third)
        #expect(found == "checkpoint_000003")
        try fixture.close(third)
    }
}
