import Glibc
import Testing

@testable import StorageCore

/// Whose a directory on an object store is: a manifest counts only at its place, and ours means run, attempt and nonce.
@Suite struct ObjectPlaceTests {
    private let fixture: RunFixture
    private let first = CheckpointName.automatic(ReportSequence(epoch: 1, index: 0))

    init() throws { fixture = try RunFixture(.objects) }

    private func committed(_ count: Int) async throws -> OpenedRun {
        let opened = try await fixture.open()
        for index in 0..<count { try await fixture.commit(opened, index) }
        return opened
    }

    /// Every object, the manifest too, as `aws s3 cp --recursive` does.
    private func copy(_ name: String, of source: RunFixture, to target: String) {
        let prefix = "storage/run/\(name)/"
        for (key, bytes) in source.memory.contents where key.hasPrefix(prefix) {
            fixture.memory.place("\(target)/\(key.dropFirst(prefix.utf8.count))", bytes)
        }
    }

    private func access(_ path: String) throws -> CheckpointAccess {
        try CheckpointAccess("\(fixture.bucket)/\(path)", environment: .system, opener: fixture.opener)
    }

    private func restored(_ path: String) async throws -> String {
        let target = fixture.tree.at("restored-\(Environment.system.randomHex(4))")
        _ = try await access(path).download(to: target, verify: true, progress: Progress())
        return String(
            decoding: try OpenFile(Path.join(target, "data"), O_RDONLY).readAll(limit: 1 << 20), as: UTF8.self)
    }

    // MARK: - A manifest counts only at its place

    @Test func `a copy under another name is unverified and never latest, and what it must be equal to is known`()
        async throws
    {
        let opened = try await committed(1)
        copy(first, of: fixture, to: "storage/run/checkpoint_zz")
        copy(first, of: fixture, to: "elsewhere/export")
        #expect(try await fixture.statuses() == ["checkpoint_zz unverified", "1.0 committed"])
        #expect(try await fixture.latest() == "1.0")
        // Nobody's decision: it outlives the eviction of what it was copied from.
        let attempt = try #require(try await fixture.state().committed.first?.attempt)
        _ = try await opened.checkpoints.uncommit(attempt, physicalName: first)
        try await opened.checkpoints.purge(attempt)
        for path in ["storage/run/checkpoint_zz", "elsewhere/export"] {
            #expect(try await restored(path) == "x")
            fixture.memory.tamper("\(path)/data") { $0[0] ^= 1 }
            let error = await #expect(throws: StorageError.self) { try await restored(path) }
            #expect(error?.code == .checksum)
        }
    }

    @Test(arguments: ["another run's, in its own name", "ours, in another name of ours", "ours, in a claimed name"])
    func `a copy in the place of a checkpoint of ours is unverified, refused as ours and never removed`(what: String)
        async throws
    {
        let opened = try await committed(1)
        var name = CheckpointName.automatic(ReportSequence(epoch: 1, index: 5))
        switch what {
        case "ours, in another name of ours": copy(first, of: fixture, to: "storage/run/\(name)")
        case "ours, in a claimed name":
            name = "checkpoint_claimed"
            _ = try await opened.backend.create(RunLayout.claim(name), .make(["attempt": "1-5-0a"]))
            copy(first, of: fixture, to: "storage/run/\(name)")
        default:
            let other = try RunFixture(.objects)
            try await other.commit(try await other.open(), 5)
            copy(name, of: other, to: "storage/run/\(name)")
        }
        #expect(try await fixture.statuses() == ["\(RunFixture.short(name)) unverified", "1.0 committed"])
        #expect(try await fixture.latest() == "1.0")
        try fixture.kill(opened)
        // Neither as what a dead trainer left, nor after any time.
        fixture.storeClock.move(30 * 24 * 3600)
        let collection = try GarbageCollection(
            fixture.root, environment: fixture.storeClock.environment, opener: fixture.opener)
        let document = try await collection.run(now: true, dryRun: false, progress: Progress())
        #expect(document["removed"]?.arrayValue?.isEmpty == true)
        #expect(try await restored("storage/run/\(name)") == "x")
        let next = try await fixture.open()
        #expect(next.resumedFrom?.physicalName == first)
    }

    // MARK: - Ours

    @Test(arguments: ["run", "attempt", "nonce"]) func `ours means run, attempt and nonce`(other: String) async throws {
        let opened = try await committed(1)
        let attempt = try await fixture.leave(opened, 1, .sealed)
        let name = CheckpointName.automatic(attempt.sequence)
        try await opened.checkpoints.upload(attempt, as: name, progress: Progress())
        // A decision at the place of ours that speaks of something else.
        var decision = try #require(try await fixture.state().decisions.first?.decision)
        decision.physicalName = name
        decision.attempt = attempt
        switch other {
        case "run": decision.runID = "0123456789abcdef0123456789abcdef"
        case "attempt":
            decision.attempt = AttemptID(sequence: ReportSequence(epoch: 1, index: 2), nonce: attempt.nonce)
        default: decision.attempt = AttemptID(sequence: attempt.sequence, nonce: "0123456789abcdef")
        }
        try fixture.write(RunLayout.decision(attempt), decision.document.compact)
        let error = await #expect(throws: StorageError.self) {
            _ = try await opened.checkpoints.commit(attempt, as: name)
        }
        #expect(error?.code == .checksum && error?.message.contains(attempt.description) == true)
        await #expect(throws: StorageError.self) { _ = try await opened.checkpoints.outcome(attempt) }
        let store = try #require(opened.checkpoints as? ObjectCheckpointStore)
        await #expect(throws: StorageError.self) { try await store.abort(attempt, physicalName: name) }
        #expect(try fixture.exists("\(name)/data"))
        // For readers nothing was decided.
        #expect(try await fixture.statuses() == ["1.0 committed"])
        await #expect(throws: StorageError.self) { try await restored("storage/run/\(name)") }
    }
}
