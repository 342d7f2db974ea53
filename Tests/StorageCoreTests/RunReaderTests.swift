import Glibc
import Testing

@testable import StorageCore

/// What somebody finds who reads a run and does not train it.
@Suite struct RunReaderTests {
    private let fixture: RunFixture
    private let first = "checkpoint_000001_000000000"

    init() throws { fixture = try RunFixture() }

    private func committed(_ count: Int) async throws -> OpenedRun {
        let opened = try await fixture.open()
        for index in 0..<count { try await fixture.commit(opened, index) }
        return opened
    }

    private func copy(_ from: String, to: String) async throws {
        _ = try await Restore.run(
            from: from, manifest: nil, to: to, verify: false, progress: Progress())
        try fixture.tree.file(
            "\(to.dropFirst(fixture.tree.path.utf8.count + 1))/\(RunLayout.manifest)",
            try OpenFile("\(from)/\(RunLayout.manifest)", O_RDONLY).readAll(limit: 1 << 20))
    }

    // MARK: - A manifest counts only at its place

    @Test func `a copy under another name is unverified and never latest`() async throws {
        _ = try await committed(1)
        try await copy(fixture.path(first), to: fixture.path("checkpoint_zz"))
        let statuses = try await fixture.statuses()
        #expect(statuses == ["checkpoint_zz unverified", "1.0 committed"])
        let latest = try await fixture.latest()
        #expect(latest == "1.0")
    }

    @Test func `a checkpoint of another run is unverified, under its own name too`() async throws {
        let other = try RunFixture()
        let foreign = try await other.open()
        try await other.commit(foreign, 5)
        _ = try await committed(1)
        let name = "checkpoint_000001_000000005"
        try await copy(other.path(name), to: fixture.path(name))
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.5 unverified", "1.0 committed"])
        let next = try await fixture.open()
        #expect(next.resumedFrom?.sequence?.index == 0)
    }

    // MARK: - Ours and not whole

    @Test(arguments: ["checkpoint_000001_000000007", "best~1-7-0a", "claimed"])
    func `a directory that can only be ours is refused without a manifest`(name: String) async throws {
        let opened = try await committed(1)
        if name == "claimed" {
            _ = try await opened.backend.create(RunLayout.claim(name), .make(["attempt": "1-7-0a"]))
        }
        try fixture.write("\(name)/data", "half")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed"])
        let error = #expect(throws: StorageError.self) { try CheckpointAccess(fixture.path(name)).manifest() }
        #expect(error?.code == (name == "claimed" ? .notFound : .checksum))
        try fixture.kill(opened)
        let next = try await fixture.open()
        #expect(next.resumedFrom?.sequence?.index == 0)
        // Not ours to delete either: nobody knows what it is.
        #expect(try fixture.text("\(name)/data") == "half")
    }

    @Test(arguments: ["checkpoint_000002_000000007", "checkpoint_mine", "checkpoint_000007"])
    func `any other without a manifest is somebody else's, readable and never touched`(name: String) async throws {
        let opened = try await committed(1)
        try fixture.write("\(name)/data", "theirs")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["\(RunFixture.short(name)) unverified", "1.0 committed"])
        #expect(try CheckpointAccess(fixture.path(name)).manifest() == nil)
        try fixture.kill(opened)
        _ = try await fixture.open { $0.retention.numToKeep = 1 }
        #expect(try fixture.text("\(name)/data") == "theirs")
    }

    // MARK: - Addresses

    @Test func `an evicted checkpoint is not found and the error says why`() async throws {
        let opened = try await fixture.open { $0.retention.numToKeep = 1 }
        let entry = try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        try await opened.catalog.evictAnnounced()
        let error = #expect(throws: StorageError.self) { try CheckpointAccess(fixture.path(first)).manifest() }
        #expect(error?.code == .notFound && error?.message.contains("evicted") == true)
        // Nor by the place where its files still are.
        let attempt = try #require(entry.attempt)
        let hidden = #expect(throws: StorageError.self) {
            try CheckpointAccess(fixture.path(RunLayout.trash(attempt))).manifest()
        }
        #expect(hidden?.code == .notFound)
    }

    @Test func `an attempt that is being built is not found by its address`() async throws {
        let opened = try await committed(0)
        let attempt = try await fixture.leave(opened, 0, .sealed)
        let error = #expect(throws: StorageError.self) {
            try CheckpointAccess(opened.store.directory(attempt)).manifest()
        }
        #expect(error?.code == .notFound)
        let statuses = try await fixture.statuses()
        #expect(statuses == [])
    }

    // MARK: - Reading

    /// Every path below the run with its kind, size and times.
    private func look() throws -> [String] {
        var lines: [String] = []
        func walk(_ path: String) throws {
            guard let status = try System.status(path) else { return }
            lines.append(
                "\(path) \(status.kind) \(status.size) \(status.modifiedNanoseconds) \(status.changedNanoseconds)")
            guard status.kind == .directory else { return }
            for name in try System.list(path).sorted() { try walk(Path.join(path, name)) }
        }
        try walk(fixture.tree.at("storage"))
        return lines
    }

    @Test func `reading changes nothing, whatever it finds`() async throws {
        let opened = try await committed(2)
        try await fixture.leave(opened, 2, .sealed)
        try await fixture.leave(opened, 3, .captured)
        try fixture.write("\(RunLayout.trash)/1-9-aa/data", "evicted")
        try fixture.write(RunLayout.snapshot, "damaged")
        try fixture.write("checkpoint_000001_000000001/data", "damaged")
        opened.hold.release()
        let before = try look()
        let reader = try RunResult(fixture.root)
        _ = try await reader.document()
        _ = try await reader.metrics()
        _ = try await RunResult(fixture.tree.at("storage")).listing()
        let access = try CheckpointAccess(fixture.path("checkpoint_000001_000000001"))
        _ = try await access.verify(progress: Progress())
        _ = try? await access.download(to: fixture.tree.at("restored"), verify: true, progress: Progress())
        #expect(try look() == before)
    }

    @Test func `a damaged record of where an epoch went on from is an error, not a guess`() async throws {
        try fixture.kill(try await committed(2))
        try fixture.write(RunLayout.resume(1, 0), "{")
        let error = await #expect(throws: StorageError.self) { try await fixture.statuses() }
        #expect(error?.code == .checksum && error?.message.contains("resume-0.json") == true)
        await #expect(throws: StorageError.self) { _ = try await fixture.open() }
    }
}

@Suite struct GarbageCollectionTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture() }

    private func collect(
        now: Bool = false, dryRun: Bool = false, after days: Double = 0, _ environment: Environment? = nil
    ) async throws -> (removed: Int, kept: Int) {
        let document = try await GarbageCollection(fixture.root, environment: environment ?? .later(days * 24 * 3600))
            .run(now: now, dryRun: dryRun, progress: Progress())
        return (document["removed"]?.arrayValue?.count ?? -1, document["kept"]?.arrayValue?.count ?? -1)
    }

    private func leftovers() async throws -> OpenedRun {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        try await fixture.leave(opened, 1, .sealed)
        try await fixture.leave(opened, 2, .begun)
        return opened
    }

    @Test func `what may still become a checkpoint stays for seven days, or until --now`() async throws {
        try fixture.kill(try await leftovers())
        let young = try await collect()
        #expect(young == (0, 2))
        let dry = try await collect(now: true, dryRun: true)
        #expect(dry == (2, 0))
        #expect(try System.list(fixture.path(RunLayout.attempts)).count == 3)
        var ahead = Environment.system
        ahead.now = { Environment.system.now() + 30 * 24 * 3600 }
        let wrong = try await collect(ahead)
        #expect(wrong == (0, 2))
        let old = try await collect(after: 7.1)
        #expect(old == (2, 0))
        #expect(try System.list(fixture.path(RunLayout.attempts)).isEmpty)
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed"])
    }

    @Test func `a dead trainer of this host is not watched: its lock says so`() async throws {
        let opened = try await leftovers()
        opened.hold.release()
        opened.lock.release()
        OpenRuns.shared.leave(opened.runID)
        var environment = Environment.system
        let staging = fixture.tree.at("host-a")
        environment.variable = { $0 == "RAYSTORAGE_STAGING_DIR" ? staging : nil }
        // Its T is a minute: watching its heartbeat would take three.
        let progress = Progress()
        let document = try await GarbageCollection(fixture.root, environment: environment)
            .run(now: true, dryRun: false, progress: progress)
        #expect(document["removed"]?.arrayValue?.count == 2)
        #expect(!progress.phase.contains("heartbeat"))
    }

    @Test func `nothing of a trainer that is alive goes, not even with --now`() async throws {
        let opened = try await leftovers()
        _ = OpenRuns.shared.enter(opened.runID)
        try fixture.write("\(RunLayout.trash)/1-9-aa/data", "evicted")
        let result = try await collect(now: true)
        #expect(result == (0, 3))
        try fixture.kill(opened)
        let after = try await collect(now: true)
        #expect(after == (3, 0))
    }
}
