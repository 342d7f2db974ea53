import Synchronization
import Testing

@testable import StorageCore

@Suite struct CatalogTests {
    private let fixture: RunFixture
    private let clock = FakeClock()

    init() throws { fixture = try RunFixture() }

    private func open(keep: Int? = nil, score: String? = nil, hook: HookedBackend.Hook? = nil) async throws -> OpenedRun
    {
        try await fixture.open(
            environment: clock.environment,
            change: { $0.retention = RetentionPolicy(numToKeep: keep, scoreAttribute: score) }, hook: hook)
    }

    private func listed() throws -> [String] {
        try fixture.snapshot().entries.map { RunFixture.short($0.physicalName) }
    }
    private func evicting() throws -> [Int] { try fixture.snapshot().ours?.evicting.map(\.sequence.index) ?? [] }
    private func loss(_ value: Double) -> JSONValue { .make(["loss": .number(value)]) }

    // MARK: - Publication

    @Test func `a published checkpoint is in the snapshot and in our own index`() async throws {
        let opened = try await open()
        let entry = try await fixture.commit(opened, 0, metrics: loss(1))
        let snapshot = try fixture.snapshot()
        #expect(snapshot.entries.map(\.attempt) == [entry.attempt] && snapshot.entries[0].metrics == loss(1))
        #expect(snapshot.latest == entry.physicalName && snapshot.ours?.epoch == 1)
        let index = try CheckpointIndex(
            decoding: Array(try fixture.text(RunLayout.index).utf8), path: RunLayout.index)
        #expect(index.runID == opened.runID && index.entries.map(\.attempt) == [entry.attempt])
        #expect(index.entries[0].bytes == 1 && index.entries[0].files == 1)
    }

    @Test func `the snapshot is written before the index, or what Ray has not seen would count as evicted by Ray`()
        async throws
    {
        let calls = Mutex<[String]>([])
        let opened = try await open { moment, call in
            if moment == .after, call.hasPrefix("replace") { calls.withLock { $0.append(call) } }
        }
        try await fixture.commit(opened, 0)
        #expect(
            calls.withLock { $0.suffix(2) } == ["replace \(RunLayout.snapshot)", "replace \(RunLayout.index)"])
    }

    @Test func `latest is the highest report, not the last one that was published`() async throws {
        let opened = try await open()
        for index in [3, 7, 5] { try await fixture.commit(opened, index) }
        #expect(opened.catalog.latest?.sequence?.index == 7)
        #expect(try fixture.snapshot().latest.map(RunFixture.short) == "1.7")
        #expect(try listed() == ["1.3", "1.5", "1.7"])
    }

    @Test func `a checkpoint that is published again is one checkpoint`() async throws {
        let opened = try await open()
        let entry = try await fixture.commit(opened, 0)
        try await opened.catalog.publish(entry)
        #expect(opened.catalog.current.entries.count == 1)
        #expect(try fixture.snapshot().ours?.generation == 2)
    }

    // MARK: - Retention

    @Test func `what is displaced is announced first and un-committed after`() async throws {
        let opened = try await open(keep: 1)
        try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        #expect(try listed() == ["1.1"] && evicting() == [0])
        let announced = try await fixture.statuses()
        #expect(announced == ["1.0 committed", "1.1 committed"])
        try await opened.catalog.evictAnnounced()
        let evicted = try await fixture.statuses()
        #expect(evicted == ["1.1 committed"])
        #expect(opened.catalog.current.evicting.isEmpty && opened.catalog.current.trashed.count == 1)
    }

    @Test func `nothing is un-committed before its announcement is written`() async throws {
        let isFull = Flag()
        let opened = try await open(keep: 1) { moment, call throws(StorageError) in
            if isFull.isSet, moment == .before, call == "replace \(RunLayout.snapshot)" {
                throw StorageError(.noSpace, "full", isRetryable: true)
            }
        }
        try await fixture.commit(opened, 0)
        isFull.raise()
        await #expect(throws: StorageError.self) { try await fixture.commit(opened, 1) }
        try await opened.catalog.evictAnnounced()
        let kept = try await fixture.statuses()
        #expect(kept == ["1.0 committed", "1.1 committed"])
        _ = isFull.clear()
        try await opened.catalog.publish(nil)
        try await opened.catalog.evictAnnounced()
        let evicted = try await fixture.statuses()
        #expect(evicted == ["1.1 committed"])
    }

    @Test func `a late commit of an older report evicts nothing newer`() async throws {
        let opened = try await open(keep: 2)
        for index in [4, 5, 2] {
            try await fixture.commit(opened, index)
            try await opened.catalog.evictAnnounced()
        }
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.4 committed", "1.5 committed"])
    }

    @Test func `the latest stays, however bad`() async throws {
        let opened = try await open(keep: 1, score: "loss")
        for (index, value) in [3.0, 2.0, 1.0].enumerated() {
            try await fixture.commit(opened, index, metrics: loss(value))
            try await opened.catalog.evictAnnounced()
        }
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.2 committed"])
        #expect(try listed() == ["1.2", "1.0"])
    }

    @Test func `strays count for retention like all others`() async throws {
        let first = try await open()
        for index in 0..<3 { try await fixture.commit(first, index, metrics: loss(Double(index))) }
        try fixture.kill(first)
        let second = try await fixture.open {
            $0.resumeFrom = CheckpointName.automatic(ReportSequence(epoch: 1, index: 0))
            $0.retention = RetentionPolicy(numToKeep: 2, scoreAttribute: "loss")
        }
        try await fixture.commit(second, 0, metrics: loss(1.5))
        try await second.catalog.evictAnnounced()
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.2 stray", "2.0 committed"])
    }

    // MARK: - Readers

    @Test func `eviction waits for those who are reading`() async throws {
        let opened = try await open(keep: 1)
        let entry = try await fixture.commit(opened, 0)
        let directory = opened.store.path(entry.physicalName)
        Pins.shared.pin(directory)
        Pins.shared.pin(directory)
        try await fixture.commit(opened, 1)
        for _ in 0..<2 {
            try await opened.catalog.evictAnnounced()
            #expect(try fixture.exists(entry.physicalName))
            #expect(try evicting() == [0])
            Pins.shared.unpin(directory)
        }
        try await opened.catalog.evictAnnounced()
        #expect(try !fixture.exists(entry.physicalName))
    }

    // MARK: - Failures

    @Test func `an eviction that fails is tried again and holds up no other`() async throws {
        let opened = try await open(keep: 1)
        for index in 0..<3 { try await fixture.commit(opened, index) }
        try System.removeTree(fixture.path(RunLayout.trash))
        try fixture.write(RunLayout.trash, "in the way")
        try await opened.catalog.evictAnnounced()
        #expect(opened.catalog.current.evicting.count == 2)
        #expect(!LogLines.shared.with("evicting", "it is tried again later").isEmpty)
        try System.unlink(fixture.path(RunLayout.trash))
        try await opened.catalog.evictAnnounced()
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.2 committed"])
    }

    @Test func `what somebody removed by hand is forgotten`() async throws {
        let opened = try await open(keep: 1)
        let entry = try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        try System.removeTree(fixture.path(entry.physicalName))
        try await opened.catalog.evictAnnounced()
        #expect(opened.catalog.current.evicting.isEmpty && opened.catalog.current.entries.count == 1)
    }

    @Test func `a superseded holder evicts nothing, purges nothing and writes no snapshot`() async throws {
        let opened = try await open(keep: 1)
        try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        try await opened.catalog.evictAnnounced()
        try await fixture.commit(opened, 2)
        try await Hold.raiseFence(of: 1, by: HoldTests.record(2), backend: opened.backend)
        let before = try fixture.text(RunLayout.snapshot)
        for _ in 0..<2 {
            let evicted = await #expect(throws: StorageError.self) { try await opened.catalog.evictAnnounced() }
            let purged = await #expect(throws: StorageError.self) { try await opened.catalog.purgeTrash() }
            #expect(evicted?.code == .superseded && purged?.code == .superseded)
        }
        let published = await #expect(throws: StorageError.self) { try await opened.catalog.publish(nil) }
        #expect(published?.code == .superseded)
        #expect(try fixture.text(RunLayout.snapshot) == before)
        #expect(try fixture.exists("checkpoint_000001_000000001"))
        #expect(try opened.store.trashed().count == 1)
    }

    @Test func `a holder that cannot renew evicts nothing`() async throws {
        let isAway = Flag()
        let opened = try await open(keep: 1) { moment, call throws(StorageError) in
            if isAway.isSet, moment == .before, call.hasPrefix("post") { throw StorageError(.io, "away") }
        }
        try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        isAway.raise()
        clock.advance(2 * 3_600_000)
        await #expect(throws: StorageError.self) { try await opened.catalog.evictAnnounced() }
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 committed"])
    }

    // MARK: - Trash

    @Test func `the trash is kept for as long as asked`() async throws {
        let opened = try await open(keep: 1)
        try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        try await opened.catalog.evictAnnounced()
        clock.advance(100)
        try await fixture.commit(opened, 2)
        try await opened.catalog.evictAnnounced()
        clock.advance(100)
        try await opened.catalog.purgeTrash(olderThanMilliseconds: 150)
        #expect(try opened.store.trashed().map(\.sequence.index) == [1])
        try await opened.catalog.purgeTrash(olderThanMilliseconds: 100)
        #expect(try opened.store.trashed().isEmpty)
        #expect(opened.catalog.current.trashed.isEmpty)
    }

    // MARK: - Two holders

    /// Epoch 1 looked at its fence, was suspended right before it wrote its snapshot, and wakes when epoch 2 has written its
    /// own.
    private func overwritten(_ change: @escaping @Sendable (inout RunOptions) -> Void = { _ in }) async throws
        -> OpenedRun
    {
        let fixture = fixture
        let newcomer = Mutex<OpenedRun?>(nil)
        let armed = Flag()
        let old = try await fixture.open(
            "a",
            hook: { moment, call throws(StorageError) in
                guard moment == .before, call == "replace \(RunLayout.snapshot)", armed.isSet else { return }
                do {
                    // Others watch its heartbeat for 3 T.
                    var record = EpochRecord(try fixture.document(RunLayout.epoch(1)) ?? .null)
                    record?.heartbeatMilliseconds = 10
                    try fixture.write(RunLayout.epoch(1), record?.document.compact ?? "")
                    let opened: OpenedRun
                    do {
                        opened = try await fixture.open("b", change: change)
                    } catch let error as StorageError where error.code == .runInUse {
                        // The old one's first beat fell into the watch; the next one is seconds away.
                        opened = try await fixture.open("b", change: change)
                    }
                    newcomer.withLock { $0 = opened }
                } catch {
                    throw StorageError(.internal, "\(error)")
                }
            })
        _ = armed.set()
        try await fixture.commit(old, 0)
        return try #require(newcomer.withLock { $0 })
    }

    @Test func `a snapshot that a fenced holder wrote over ours is put back`() async throws {
        let opened = try await overwritten()
        #expect(try fixture.snapshot().ours?.epoch == 1)
        await opened.catalog.keepSnapshot()
        #expect(try fixture.snapshot().ours?.epoch == 2)
        #expect(try fixture.snapshot().latest.map(RunFixture.short) == "1.0")
        // Nothing to do: not written again, and from the second look on not even read.
        let generation = try System.status(fixture.path(RunLayout.snapshot))?.inode
        for _ in 0..<2 { await opened.catalog.keepSnapshot() }
        #expect(try System.status(fixture.path(RunLayout.snapshot))?.inode == generation)
        #expect(opened.catalog.current.snapshotFile != nil)
    }

    @Test func `within a heartbeat`() async throws {
        let opened = try await overwritten { $0.heartbeatMilliseconds = 20 }
        let deadline = Deadline(timeoutMilliseconds: 20_000)
        while try fixture.snapshot().ours?.epoch == 1, !deadline.isPast {
            await Engine.shared.sleep(milliseconds: 5)
        }
        #expect(try fixture.snapshot().ours?.epoch == 2)
        try fixture.kill(opened)
    }

    @Test func `but not one of Ray's, nor of a successor`() async throws {
        let opened = try await open()
        var snapshot = try fixture.snapshot()
        for epoch in [nil, 7] {
            snapshot.ours = epoch.map { Snapshot.Ours(runID: opened.runID, epoch: $0, generation: 1, evicting: []) }
            let text = String(decoding: snapshot.encoded, as: UTF8.self)
            try fixture.write(RunLayout.snapshot, text)
            await opened.catalog.keepSnapshot()
            #expect(try fixture.text(RunLayout.snapshot) == text)
        }
    }

    // MARK: - Ray

    @Test func `reports are numbered on over epochs, as Ray counts them`() async throws {
        let first = try await open()
        try await fixture.commit(first, 4)
        try fixture.kill(first)
        let second = try await open()
        try await fixture.commit(second, 2)
        let document = try #require(try fixture.document(RunLayout.snapshot))
        #expect(document["current_report_index"] == 8)
        #expect(document["checkpoint_report_indices"]?.compact == "[4,7]")
    }
}
