import Glibc
import Testing

@testable import StorageCore

/// Rules of the commit that hold on every storage, on an object store: epochs, fences, takeover, what Ray evicted.
@Suite struct ObjectRulesTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture(.objects) }

    private func name(_ epoch: Int, _ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: epoch, index: index))
    }

    private func resumed() async throws -> String? {
        let opened = try await fixture.open()
        try fixture.kill(opened)
        return opened.resumedFrom.map { RunFixture.short($0.physicalName) }
    }

    // MARK: - Epochs

    @Test func `an epoch's number is never used again, whatever is in its record`() async throws {
        try await fixture.epoch([])
        try fixture.write(RunLayout.epoch(7), "{}")
        let opened = try await fixture.open()
        #expect(opened.hold.epoch.number == 8)
    }

    @Test func `attempts of a run that was removed and made anew are not those of the old one`() async throws {
        let old = try await fixture.open()
        let attempt = try await fixture.leave(old, 0, .sealed)
        try fixture.kill(old)
        for key in fixture.keys { fixture.memory.place("storage/run/\(key)", nil) }
        let new = try await fixture.open()
        #expect(new.runID != old.runID && new.hold.epoch.nonce != old.hold.epoch.nonce)
        #expect(new.workspace != old.workspace && new.recovered.isEmpty)
        #expect(try await new.checkpoints.unfinished().isEmpty)
        // The old trainer was only frozen: what it decides is of no run that is there.
        try await old.checkpoints.upload(attempt, as: name(1, 0), progress: Progress())
        _ = try await old.checkpoints.commit(attempt, as: name(1, 0))
        // Another run's checkpoint, which nobody decides about here.
        #expect(try await fixture.statuses() == ["1.0 unverified"])
        try fixture.kill(new)
        let found = try await resumed()
        #expect(found == nil)
    }

    @Test func `a run inside another run is refused before anything is written`() async throws {
        _ = try await fixture.open()
        let error = await #expect(throws: StorageError.self) {
            _ = try await fixture.open("a") { $0.storagePath = fixture.path("checkpoint_x") }
        }
        #expect(error?.code == .invalidArgument && error?.detailsDocument["run"] == .string(fixture.root))
        #expect(try !fixture.exists("checkpoint_x"))
    }

    // MARK: - Takeover

    @Test func `epoch, fence, leftovers, list, resume record, snapshot: in this order`() async throws {
        let first = try await fixture.open()
        try await fixture.commit(first, 0)
        let leftover = try await fixture.leave(first, 1, .sealed)
        try fixture.kill(first)
        let before = fixture.memory.calls.count
        let second = try await fixture.open()
        let calls = fixture.memory.calls[before...].map { "\($0.operation) \($0.key.dropFirst(12))" }
        func places(_ call: String) -> [Int] { calls.indices.filter { calls[$0] == call } }
        let snapshots = places("put \(RunLayout.snapshot)")
        let steps = [
            places("put \(RunLayout.epoch(2))").first, snapshots.first, places("put \(RunLayout.fence(1))").first,
            places("put \(RunLayout.decision(leftover))").first, places("list \(RunLayout.decisions)").first,
            places("put \(RunLayout.resume(2, 0))").first, snapshots.last,
        ].compactMap { $0 }
        #expect(steps.count == 7 && steps == steps.sorted() && Set(steps).count == 7, "\(calls)")
        #expect(second.recovered == [name(1, 1)] && second.resumedFrom?.attempt == leftover)
    }

    @Test func `every earlier holder that did not say goodbye is fenced, and nobody else`() async throws {
        for number in 1...4 {
            if number == 2 {
                try fixture.close(try await fixture.train())
            } else {
                try fixture.kill(try await fixture.open())
            }
        }
        #expect(try (1...4).map { try fixture.exists(RunLayout.fence($0)) } == [true, false, true, false])
    }

    @Test func `a superseded holder evicts nothing, purges nothing and writes no snapshot`() async throws {
        let opened = try await fixture.open { $0.retention = RetentionPolicy(numToKeep: 1) }
        try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        try await opened.catalog.evictAnnounced()
        try await fixture.commit(opened, 2)
        try fixture.kill(opened)
        let next = try await fixture.open("b")
        let before = try fixture.text(RunLayout.snapshot)
        // Whose first sign that it was taken over is its own write.
        let published = await #expect(throws: StorageError.self) { try await opened.catalog.publish(nil) }
        #expect(published?.code == .superseded)
        let evicted = await #expect(throws: StorageError.self) { try await opened.catalog.evictAnnounced() }
        let purged = await #expect(throws: StorageError.self) { try await opened.catalog.purgeTrash() }
        #expect(evicted?.code == .superseded && purged?.code == .superseded)
        #expect(try fixture.text(RunLayout.snapshot) == before)
        #expect(next.resumedFrom?.physicalName == name(1, 2))
    }

    @Test func `eviction waits for those who are reading`() async throws {
        let opened = try await fixture.open { $0.retention = RetentionPolicy(numToKeep: 1) }
        let entry = try await fixture.commit(opened, 0)
        let place = opened.checkpoints.path(entry.physicalName)
        Pins.shared.pin(place)
        try await fixture.commit(opened, 1)
        try await opened.catalog.evictAnnounced()
        #expect(try await fixture.state().committed.count == 2)
        Pins.shared.unpin(place)
        try await opened.catalog.evictAnnounced()
        #expect(try await fixture.statuses() == ["1.1 committed"])
    }

    // MARK: - The snapshot

    @Test(arguments: ["", "{", "[]", "gone"]) func `without a snapshot the commits say everything`(text: String)
        async throws
    {
        try await fixture.epoch([0, 1])
        fixture.memory.place("storage/run/\(RunLayout.snapshot)", text == "gone" ? nil : Array(text.utf8))
        let found = try await resumed()
        #expect(found == "1.1")
        #expect(try fixture.snapshot().entries.count == 2)
    }

    @Test func `what Ray evicted is un-committed, even if Ray removed a part of it only`() async throws {
        try fixture.close(try await fixture.train())
        let run = try await fixture.train()
        for number in 0..<3 { try fixture.report(run, "\(number)") }
        try fixture.close(run)
        var snapshot = try fixture.snapshot()
        snapshot.entries.removeAll { $0.physicalName != name(2, 0) }
        snapshot.ours = nil
        snapshot.latest = name(2, 0)
        try fixture.write(RunLayout.snapshot, String(decoding: snapshot.encoded, as: UTF8.self))
        fixture.memory.place("storage/run/\(name(2, 2))/data", nil)
        let found = try await resumed()
        #expect(found == "2.0")
        #expect(try await fixture.statuses() == ["2.0 committed"])
    }

    @Test func `reading changes nothing, whatever it finds`() async throws {
        let opened = try await fixture.epoch([0, 1])
        let attempt = try await fixture.leave(opened, 2, .sealed)
        try await opened.checkpoints.upload(attempt, as: name(1, 2), progress: Progress())
        fixture.memory.place("storage/run/\(name(1, 1))/data", nil)
        let before = fixture.memory.contents
        let calls = fixture.memory.calls.count
        _ = try await fixture.result().document()
        _ = try await fixture.result().metrics()
        _ = try await fixture.result().listing()
        let access = try CheckpointAccess("\(fixture.root)/\(name(1, 1))", environment: .system, opener: fixture.opener)
        let report = try await access.verify(progress: Progress())
        #expect(report["ok"] == false)
        #expect(fixture.memory.contents == before)
        let reading: [MemoryObjectStore.Call.Operation] = [.get, .getRange, .head, .list, .multiparts]
        #expect(fixture.memory.calls[calls...].allSatisfy { reading.contains($0.operation) })
    }
}
