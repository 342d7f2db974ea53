import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// Runs on an object store: what `commit.md` says of decisions, fences and evictions there (P1, P2, P4, P8, P9).
@Suite struct ObjectRunTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture(.objects) }

    private func name(_ epoch: Int, _ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: epoch, index: index))
    }

    private func access(_ name: String) throws -> CheckpointAccess {
        try CheckpointAccess("\(fixture.root)/\(name)", environment: .system, opener: fixture.opener)
    }

    private func restored(_ name: String) async throws -> String {
        let target = fixture.tree.at("restored-\(Environment.system.randomHex(4))")
        _ = try await access(name).download(to: target, verify: true, progress: Progress())
        return String(
            decoding: try OpenFile(Path.join(target, "data"), O_RDONLY).readAll(limit: 1 << 20), as: UTF8.self)
    }

    private func decision(_ attempt: AttemptID) throws -> String? {
        try fixture.document(RunLayout.decision(attempt))?["state"]?.stringValue
    }

    private func attempt(_ run: OpenedRun, _ index: Int) -> AttemptID {
        AttemptID(
            sequence: ReportSequence(epoch: run.hold.epoch.number, index: index), nonce: run.hold.epoch.nonce)
    }

    /// Everything in the workspaces that a report has left.
    private func staged(_ opened: OpenedRun) throws -> [String] {
        try [RunLayout.attempts, RunLayout.uploads, RunLayout.trash].flatMap {
            try System.list(opened.checkpoints.local($0))
        }
    }

    // MARK: - The whole line

    @Test func `reports, restores, resumes and reads (P1, P2)`() async throws {
        let run = try await fixture.train()
        try fixture.report(run, "one", metrics: #"{"loss":2}"#)
        try fixture.report(run, "two", metrics: #"{"loss":1}"#)
        #expect(try await restored(name(1, 1)) == "two")
        #expect(try await fixture.statuses() == ["1.0 committed", "1.1 committed"])
        try fixture.close(run)
        #expect(try staged(run.opened).isEmpty)
        let second = try await fixture.train("b")
        #expect(second.opened.resumedFrom?.physicalName == name(1, 1))
        let current = try await second.currentCheckpoint(Progress())
        #expect(current["path"] == .string("\(fixture.root)/\(name(1, 1))"))
        try fixture.report(second, "three")
        #expect(try await fixture.latest() == "2.0")
        try fixture.close(second)
        let metrics = try #require(try await fixture.result().metrics().arrayValue)
        #expect(metrics.map { $0["loss"]?.intValue } == [2, 1, nil])
        let rows = try fixture.text(RunLayout.results).split(separator: "\n")
        #expect(rows.count == 3)
        let listing = try await RunResult("\(fixture.bucket)/storage", environment: .system, opener: fixture.opener)
            .listing()
        #expect(listing["runs"]?.arrayValue?.first?["latest"] == .string(name(2, 0)))
    }

    @Test func `a checkpoint of five files costs eight requests`() async throws {
        let run = try await fixture.train()
        try fixture.report(run, "first")
        let source = fixture.tree.at("five")
        for number in 1...4 { try fixture.tree.file("five/\(number)", [UInt8(number)]) }
        try fixture.tree.file("five/large", [UInt8](repeating: 7, count: 30 << 20))
        let before = fixture.memory.calls.count
        let report = try run.report(metricsJSON: Array("{}".utf8), directory: source, options: ReportOptions())
        try report.wait(Deadline(timeoutMilliseconds: 600_000))
        let calls = fixture.memory.calls[before...]
        #expect(calls.count <= 8, "\(calls.map { "\($0.operation) \($0.key)" })")
        try fixture.close(run)
    }

    @Test func `what a report returned as durable is there after a kill right then (P2)`() async throws {
        let run = try await fixture.train()
        try fixture.report(run, "kept", metrics: #"{"a":1}"#)
        try fixture.kill(run)
        #expect(try await restored(name(1, 0)) == "kept")
        let next = try await fixture.open("b")
        #expect(next.resumedFrom?.sequence == ReportSequence(epoch: 1, index: 0))
        #expect(next.resumedFrom?.metrics == .make(["a": 1]))
    }

    // MARK: - One decision per attempt

    @Test func `without a decision a directory is not there, whatever is in it (P1)`() async throws {
        let opened = try await fixture.open()
        let attempt = try await fixture.leave(opened, 0, .sealed)
        try await opened.checkpoints.upload(attempt, as: name(1, 0), progress: Progress())
        #expect(try fixture.exists("\(name(1, 0))/data"))
        #expect(try await fixture.statuses() == [])
        let error = await #expect(throws: StorageError.self) { try await restored(name(1, 0)) }
        #expect(error?.code == .notFound)
    }

    @Test func `an abort that is won stays won when the commit arrives later`() async throws {
        let opened = try await fixture.open()
        let attempt = try await fixture.leave(opened, 0, .sealed)
        try await opened.checkpoints.upload(attempt, as: name(1, 0), progress: Progress())
        let store = try #require(opened.checkpoints as? ObjectCheckpointStore)
        #expect(try await store.abort(attempt, physicalName: name(1, 0)))
        #expect(try !fixture.exists("\(name(1, 0))/data"))
        // The process that committed was frozen meanwhile.
        #expect(try await opened.checkpoints.commit(attempt, as: name(1, 0)) == .aborted)
        #expect(try decision(attempt) == "aborted")
        #expect(try !fixture.exists(name(1, 0)))
        #expect(try await fixture.statuses() == [])
    }

    @Test func `who loses the abort accepts that it is committed`() async throws {
        let opened = try await fixture.open()
        try await fixture.commit(opened, 0)
        let attempt = attempt(opened, 0)
        let store = try #require(opened.checkpoints as? ObjectCheckpointStore)
        #expect(try await !store.abort(attempt, physicalName: name(1, 0)))
        #expect(try await restored(name(1, 0)) == "x")
    }

    @Test func `two attempts of one name write at once and do not mix`() async throws {
        let first = try await fixture.open()
        let one = try await fixture.leave(first, 0, .sealed, name: "best", content: "one")
        try fixture.kill(first)
        let second = try await fixture.open("b")
        let physical = CheckpointName.physical(name: "best", attempt: attempt(second, 0), isFirstClaim: false)
        let two = try await fixture.leave(second, 0, .sealed, name: "best", physicalName: physical, content: "two")
        async let upload: Void = first.checkpoints.upload(one, as: "best", progress: Progress())
        async let other: Void = second.checkpoints.upload(two, as: physical, progress: Progress())
        _ = try await (upload, other)
        #expect(try await first.checkpoints.commit(one, as: "best") == .committed)
        #expect(try await second.checkpoints.commit(two, as: physical) == .committed)
        #expect(try await restored("best") == "one")
        #expect(try await restored(physical) == "two")
    }

    @Test func `evicted stays evicted when the first write of the decision arrives once more`() async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let attempt = try #require(entry.attempt)
        #expect(try await opened.checkpoints.uncommit(attempt, physicalName: entry.physicalName))
        let late = Decision(
            .committed, runID: opened.runID, attempt: attempt, physicalName: entry.physicalName,
            summary: try await opened.checkpoints.summary(entry.physicalName), manifestCRC32C: 0)
        let created = try await opened.backend.create(RunLayout.decision(attempt), late.document.compactBytes)
        #expect(!created)
        #expect(try decision(attempt) == "evicted")
        let error = await #expect(throws: StorageError.self) { try await restored(entry.physicalName) }
        #expect(error?.code == .notFound && error?.message.contains("evicted") == true)
    }

    @Test func `what a frozen writer adds after the eviction goes before the record does`() async throws {
        let environment = fixture.storeClock.environment
        let opened = try await fixture.open(environment: environment)
        let entry = try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        let attempt = try #require(entry.attempt)
        _ = try await opened.checkpoints.uncommit(attempt, physicalName: entry.physicalName)
        try await opened.checkpoints.purge(attempt)
        fixture.memory.place("storage/run/\(entry.physicalName)/late", [1])
        try fixture.write(RunLayout.metrics + "1-0-0.jsonl", #"{"index":0,"time":1,"metrics":{}}"# + "\n")
        let fixture = fixture
        func find() async throws -> [ObjectLeftovers.Item] {
            let clock = try await StoreClock.written(
                to: fixture.memory, environment: environment, progress: Progress())
            let leftovers = try #require(ObjectLeftovers(opened.checkpoints, opened.backend, clock, Progress()))
            return try await leftovers.find(try await fixture.state())
        }
        #expect(try await find().isEmpty)
        fixture.storeClock.move(25 * 3600)
        let items = try await find()
        #expect(items.map(\.key) == [RunLayout.decision(attempt)])
        for item in items { try await item.remove() }
        #expect(try !fixture.exists(entry.physicalName) && decision(attempt) == nil)
        #expect(try await restored(name(1, 1)) == "x")
    }

    // MARK: - The fence

    @Test func `a holder that was taken over cannot write its snapshot, and says so before "committed"`() async throws {
        let run = try await fixture.train("a") { $0.heartbeatMilliseconds = 3_600_000 }
        try fixture.report(run, "one")
        // Another host takes it for dead: its record says a short T.
        var record = run.opened.hold.epoch
        record.heartbeatMilliseconds = 10
        try fixture.write(RunLayout.epoch(1), record.document.compact)
        let next = try await fixture.open("b")
        #expect(next.resumedFrom?.sequence == ReportSequence(epoch: 1, index: 0))
        let options = ReportOptions()
        let report = try run.report(
            metricsJSON: Array("{}".utf8), directory: try fixture.source("late"), options: options)
        let error = #expect(throws: StorageError.self) { try report.wait(Deadline(timeoutMilliseconds: 600_000)) }
        #expect(error?.code == .superseded)
        #expect(error?.detailsDocument["holder_epoch"] == 2)
        #expect(try fixture.snapshot().ours?.epoch == 2)
        // It is a stray at most, and never the latest.
        #expect(try await fixture.latest() == "1.0")
        #expect(run.opened.hold.superseded != nil)
    }

    @Test func `the fence leaves Ray's own members as they are`() async throws {
        try fixture.write(
            RunLayout.snapshot,
            #"{"ray_version":"2.60.0","checkpoint_results":[],"current_report_index":3,"new_of_ray":{"a":1}}"#)
        let seen = Mutex<JSONValue?>(nil)
        let fixture = fixture
        _ = try await fixture.open(hook: { moment, call in
            guard moment == .before, call == "create \(RunLayout.resume(1, 0))" else { return }
            seen.withLock { $0 = try? fixture.document(RunLayout.snapshot) }
        })
        let document = try #require(seen.withLock { $0 })
        #expect(document["new_of_ray"] == .make(["a": 1]) && document["raystorage"] == nil)
        #expect(document[SnapshotFile.fenceKey]?["epoch"] == 1)
    }

    @Test func `an evictor that was suspended cannot take away what the next epoch goes on from`() async throws {
        let first = try await fixture.open("a") { $0.retention = RetentionPolicy(numToKeep: 1) }
        let old = try await fixture.commit(first, 0)
        let new = try await fixture.commit(first, 1)
        #expect(try fixture.snapshot().ours?.evicting == [try #require(old.attempt)])
        // Suspended here. The newest is damaged, so the next epoch needs the old one.
        fixture.memory.place("storage/run/\(new.physicalName)/data", nil)
        try fixture.kill(first)
        let second = try await fixture.open("b")
        #expect(second.resumedFrom?.attempt == old.attempt)
        let attempt = try #require(old.attempt)
        await #expect(throws: StorageError.self) {
            try await first.checkpoints.uncommit(attempt, physicalName: old.physicalName)
        }
        #expect(try await restored(old.physicalName) == "x")
    }

    @Test func `what an evictor took away before is put back when it is needed and whole`() async throws {
        let first = try await fixture.open("a") { $0.retention = RetentionPolicy(numToKeep: 1) }
        let old = try await fixture.commit(first, 0)
        let new = try await fixture.commit(first, 1)
        let attempt = try #require(old.attempt)
        try fixture.kill(first)
        let fixture = fixture
        fixture.memory.place("storage/run/\(new.physicalName)/data", nil)
        let once = Once()
        let second = try await fixture.open(
            "b",
            hook: { moment, call throws(StorageError) in
                // Between the newcomer's list and its choice.
                guard moment == .after, call == "read \(RunLayout.decision(attempt))" else { return }
                try await once.run { () throws(StorageError) in
                    _ = try await first.checkpoints.uncommit(attempt, physicalName: old.physicalName)
                }
            })
        #expect(second.resumedFrom?.attempt == attempt)
        #expect(try decision(attempt) == "committed")
    }

    // MARK: - Leftovers

    @Test func `what was captured or sealed is uploaded and committed by the next open on that host (P4)`() async throws
    {
        let first = try await fixture.open()
        try await fixture.leave(first, 0, .captured, content: "zero")
        try await fixture.leave(first, 1, .sealed, content: "one")
        let begun = try await fixture.leave(first, 2, .begun)
        try fixture.kill(first)
        let second = try await fixture.open()
        #expect(second.recovered == [name(1, 0), name(1, 1)])
        #expect(second.resumedFrom?.sequence.map(\.index) == 1)
        #expect(try await restored(name(1, 0)) == "zero")
        #expect(try staged(second).isEmpty && decision(begun) == nil)
    }

    @Test func `P4 after a power cut what was sealed is committed; what was captured only is lost and said to be`()
        async throws
    {
        let first = try await fixture.open()
        let captured = try await fixture.leave(first, 0, .captured, content: "perhaps", bootID: "earlier")
        try await fixture.leave(first, 1, .sealed, content: "sealed", bootID: "earlier")
        // Whose bytes were on their way as well.
        let sent = try await fixture.leave(first, 2, .sealed, content: "sent", bootID: "earlier")
        try await first.checkpoints.upload(sent, as: name(1, 2), progress: Progress())
        try fixture.kill(first)
        let second = try await fixture.open()
        #expect(second.recovered == [name(1, 1), name(1, 2)])
        #expect(second.lost.map(\.name) == [name(1, 0)])
        #expect(second.lost.first?.reason.contains("machine went down") == true)
        #expect(try await fixture.statuses() == ["1.1 committed", "1.2 committed"])
        #expect(try await restored(name(1, 1)) == "sealed")
        #expect(try await restored(name(1, 2)) == "sent")
        // Not a byte of it was sent, so there is nothing to decide.
        #expect(try !fixture.exists(name(1, 0)) && decision(captured) == nil)
        #expect(try staged(second).isEmpty)
    }

    @Test func `an upload that was cut off goes on; one that was given up is removed (P4, P9)`() async throws {
        let first = try await fixture.open()
        let cut = try await fixture.leave(first, 0, .sealed, content: "cut")
        try await first.checkpoints.upload(cut, as: name(1, 0), progress: Progress())
        let lost = try await fixture.leave(first, 1, .sealed, content: "lost")
        try await first.checkpoints.upload(lost, as: name(1, 1), progress: Progress())
        // Its abort was cut off when everything of this machine had gone.
        try System.removeTree(first.checkpoints.directory(lost))
        try System.unlink(first.checkpoints.local(RunLayout.captured(lost)))
        try fixture.kill(first)
        let second = try await fixture.open()
        #expect(second.recovered == [name(1, 0)])
        #expect(try decision(lost) == "aborted")
        #expect(try !fixture.exists(name(1, 1)))
        #expect(try staged(second).isEmpty)
    }

    @Test func `another host leaves unfinished uploads alone until they are old, and gc tells of them (P9)`()
        async throws
    {
        let first = try await fixture.open()
        let attempt = try await fixture.leave(first, 0, .sealed)
        try await first.checkpoints.upload(attempt, as: name(1, 0), progress: Progress())
        try fixture.kill(first)
        let second = try await fixture.open("b")
        try fixture.kill(second)
        #expect(try fixture.exists("\(name(1, 0))/data"))
        let collection = try GarbageCollection(fixture.root, environment: .system, opener: fixture.opener)
        let kept = try await collection.run(now: false, dryRun: false, progress: Progress())
        #expect(kept["kept"]?.arrayValue?.count == 1 && kept["removed"]?.arrayValue?.isEmpty == true)
        let document = try await collection.run(now: true, dryRun: false, progress: Progress())
        #expect(document["removed"]?.arrayValue?.count == 1)
        #expect(try !fixture.exists(name(1, 0)) && decision(attempt) == "aborted")
        // Its own host finds out.
        let third = try await fixture.open("a")
        #expect(third.recovered.isEmpty && third.resumedFrom == nil)
        #expect(try staged(third).isEmpty)
    }

    @Test func `what is old is collected behind an opening that nobody remembers (P9)`() async throws {
        let first = try await fixture.open()
        let attempt = try await fixture.leave(first, 0, .sealed)
        try await first.checkpoints.upload(attempt, as: name(1, 0), progress: Progress())
        try fixture.kill(first)
        let gate = Gate()
        let view = try RunFixtureView(fixture) { moment, call in
            if moment == .before, call.operation == .multiparts, call.key == "storage/run/" { await gate.pass() }
        }
        fixture.storeClock.move(8 * 24 * 3600)
        var takeover = Takeover(
            options: fixture.options("b"), environment: fixture.storeClock.environment, engine: .shared,
            progress: Progress())
        takeover.opener = view.opener
        let second = try await takeover.open()
        // As the C interface does when the operation is freed.
        takeover.progress.cancel()
        gate.open()
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while try fixture.exists(name(1, 0)), !deadline.isPast { await Engine.shared.sleep(milliseconds: 5) }
        #expect(try !fixture.exists(name(1, 0)) && decision(attempt) == "aborted")
        try fixture.kill(second)
    }

    @Test func `an upload belongs to who claimed its name, and one of somebody else is left alone (P9)`() async throws {
        let opened = try await fixture.open()
        let attempt = attempt(opened, 0)
        let claim = JSONValue.make(["attempt": .string(attempt.description)])
        try fixture.write(RunLayout.claim("best"), claim.compact)
        for key in ["best/data", "\(name(1, 1))/data", "theirs/data"] {
            _ = try await fixture.memory.startMultipart("storage/run/\(key)", progress: Progress())
        }
        let leftovers = try #require(ObjectLeftovers(opened.checkpoints, opened.backend, .unknown, Progress()))
        let items = try await leftovers.find(try await fixture.state())
        #expect(items.map(\.key) == ["best/data", "\(name(1, 1))/data"])
        #expect(items.allSatisfy { $0.epoch == attempt.sequence.epoch && !$0.isDecided })
        try fixture.kill(opened)
        let collection = try GarbageCollection(fixture.root, environment: .system, opener: fixture.opener)
        _ = try await collection.run(now: true, dryRun: false, progress: Progress())
        let left = try await fixture.memory.multiparts("storage/run/", progress: Progress())
        #expect(left.map(\.key) == ["storage/run/theirs/data"])
    }

    // MARK: - Readers

    @Test func `a reader during an eviction gets not found, never a part`() async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let (view, once) = try fixture.evicting(entry, of: opened) { $0 == .getRange }
        let target = fixture.tree.at("target")
        let error = await #expect(throws: StorageError.self) {
            try await CheckpointAccess(
                "\(fixture.root)/\(entry.physicalName)", environment: .system, opener: view.opener
            )
            .download(to: target, verify: true, progress: Progress())
        }
        #expect(once.happened && error?.code == .notFound && error?.message.contains("evicted") == true)
        #expect(try System.status(target) == nil)
    }

    @Test(arguments: [[3, 4], [3, 4, 5], [3]] as [[UInt8]])
    func `P5 a plain file that is replaced while it is read is an error, not a mixture`(_ other: [UInt8]) async throws {
        let fixture = try RunFixture(.objects)
        fixture.memory.place("storage/plain/a", [1, 2])
        let view = try RunFixtureView(fixture) { moment, call in
            guard moment == (other.count == 2 ? .after : .before), call.operation == .getRange else { return }
            fixture.memory.place("storage/plain/a", other)
        }
        let target = fixture.tree.at("plain")
        let error = await #expect(throws: StorageError.self) {
            try await CheckpointAccess("\(fixture.bucket)/storage/plain", environment: .system, opener: view.opener)
                .download(to: target, verify: true, progress: Progress())
        }
        #expect(error?.code == .precondition && error?.detailsDocument["file"] == "a")
        #expect(try System.status(target) == nil)
    }

    @Test func `plain prefixes are read as they are, and never touched`() async throws {
        fixture.memory.place("storage/plain/a/b", [1, 2])
        fixture.memory.place("storage/plain/c", [3])
        let target = fixture.tree.at("plain")
        let document = try await CheckpointAccess(
            "\(fixture.bucket)/storage/plain", environment: .system, opener: fixture.opener
        )
        .download(to: target, verify: true, progress: Progress())
        #expect(document["verified"] == false && document["files"] == 2)
        #expect(try OpenFile(Path.join(target, "a/b"), O_RDONLY).readAll(limit: 9) == [1, 2])
    }

    @Test func `a flipped bit is found at restore and by verify (P5)`() async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let good = try await access(entry.physicalName).verify(progress: Progress())
        #expect(good["ok"] == true)
        fixture.memory.tamper("storage/run/\(entry.physicalName)/data") { $0[0] ^= 1 }
        let error = await #expect(throws: StorageError.self) { try await restored(entry.physicalName) }
        #expect(error?.code == .checksum)
        let bad = try await access(entry.physicalName).verify(progress: Progress())
        #expect(bad["ok"] == false)
    }

    @Test func `as_directory gives the machine one copy, and the last release removes it`() async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let before = fixture.memory.calls.filter { $0.operation == .getRange }.count
        var leases: [String] = []
        var paths = Set<String>()
        for _ in 0..<8 {
            let lease = try await access(entry.physicalName).acquire(
                stagingDirectory: fixture.tree.at("host-a"), progress: Progress())
            leases.append(try #require(lease["lease"]?.stringValue))
            paths.insert(try #require(lease["path"]?.stringValue))
        }
        #expect(paths.count == 1 && fixture.memory.calls.filter { $0.operation == .getRange }.count == before + 1)
        for lease in leases { try Leases.shared.release(lease) }
        #expect(try System.status(try #require(paths.first)) == nil)
    }

    @Test func `metadata is a sidecar that restores with the checkpoint`() async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let access = try access(entry.physicalName)
        #expect(try await access.metadata(progress: Progress()) == .object([]))
        try await access.setMetadata(#"{"a":1}"#, progress: Progress())
        #expect(try await access.metadata(progress: Progress()) == .make(["a": 1]))
        let verified = try await access.verify(progress: Progress())
        #expect(verified["ok"] == true)
    }

    @Test(arguments: ["new and longer", "n"])
    func `P5 a sidecar that is replaced while it is restored is one of both, whole`(replacement: String) async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let fixture = fixture
        let key = "storage/run/\(entry.physicalName)/\(FileTree.sidecarName)"
        let (old, new) = (Array(#"{"a":1}"#.utf8), Array(replacement.utf8))
        fixture.memory.place(key, old)
        let view = try RunFixtureView(fixture) { moment, call in
            // As late as its bytes are asked for, whatever was asked before.
            guard moment == .before, call.key == key, [.get, .getRange].contains(call.operation) else { return }
            fixture.memory.place(key, new)
        }
        let target = fixture.tree.at("target")
        let result = try await CheckpointAccess(
            "\(fixture.root)/\(entry.physicalName)", environment: .system, opener: view.opener
        )
        .download(to: target, verify: true, progress: Progress())
        let restored = try OpenFile(Path.join(target, FileTree.sidecarName), O_RDONLY).readAll(limit: 1 << 20)
        #expect(restored == new)
        #expect(result["files"] == 2 && result["verified"] == true)
    }

    // MARK: - Retention

    @Test func `what is displaced is un-committed, then deleted`() async throws {
        let run = try await fixture.train { $0.retention = RetentionPolicy(numToKeep: 1) }
        try fixture.report(run, "one")
        try fixture.report(run, "two")
        try fixture.close(run)
        #expect(try await fixture.statuses() == ["1.1 committed"])
        #expect(try !fixture.exists(name(1, 0)))
        #expect(try decision(attempt(run.opened, 0)) == "evicted")
    }
}

/// The same objects with a hook of its own before and after each request.
struct RunFixtureView {
    let opener: Storage.Opener

    init(_ fixture: RunFixture, _ hook: @escaping MemoryObjectStore.Hook) throws {
        let store = HookedObjectStore(fixture.memory, hook)
        opener = Storage.Opener { _, _, _, _ throws(StorageError) in store }
    }
}

extension RunFixture {
    /// A view by which the trainer evicts the checkpoint before the first such request of somebody else, and whether it has.
    func evicting(
        _ entry: CheckpointEntry, of opened: OpenedRun,
        before isMoment: @escaping @Sendable (MemoryObjectStore.Call.Operation) -> Bool
    ) throws -> (view: RunFixtureView, once: Once) {
        let attempt = try #require(entry.attempt)
        let once = Once()
        let view = try RunFixtureView(self) { moment, call throws(StorageError) in
            guard moment == .before, isMoment(call.operation) else { return }
            try await once.run { () throws(StorageError) in
                _ = try await opened.checkpoints.uncommit(attempt, physicalName: entry.physicalName)
                try await opened.checkpoints.purge(attempt)
            }
        }
        return (view, once)
    }
}
