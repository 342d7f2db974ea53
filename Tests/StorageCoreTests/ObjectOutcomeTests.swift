import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// How reports on an object store end when the store does not answer, answers late, or knows no conditions.
@Suite struct ObjectOutcomeTests {
    private func name(_ epoch: Int, _ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: epoch, index: index))
    }

    /// Opens a run through a view of the store of its own.
    private func train(
        _ fixture: RunFixture, _ host: String = "a", change: (inout RunOptions) -> Void = { _ in },
        hook: @escaping MemoryObjectStore.Hook
    ) async throws -> TrainingRun {
        fixture.forgetOpen()
        var takeover = Takeover(
            options: fixture.options(host, change), environment: .system, engine: .shared, progress: Progress())
        takeover.opener = try RunFixtureView(fixture, hook).opener
        return try await TrainingRun.open(takeover)
    }

    private func begin(_ fixture: RunFixture, _ run: TrainingRun, _ content: String, name: String? = nil) throws
        -> Report
    {
        var options = ReportOptions()
        options.checkpointDirName = name
        return try run.report(
            metricsJSON: Array("{}".utf8), directory: try fixture.source(content), options: options)
    }

    private func wait(_ report: Report) throws { try report.wait(Deadline(timeoutMilliseconds: 600_000)) }

    /// A trainer that is given up while the decision on its report is on its way: it arrives when the gate opens.
    private func withheldDecision(_ fixture: RunFixture) async throws -> (TrainingRun, Report, Gate) {
        let gate = Gate()
        let held = Flag()
        let run = try await train(fixture) { moment, call in
            guard moment == .before, call.operation == .put, call.key.contains(RunLayout.decisions), held.set() else {
                return
            }
            await gate.pass()
        }
        let late = try begin(fixture, run, "late")
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while !held.isSet, !deadline.isPast { await Engine.shared.sleep(milliseconds: 1) }
        try fixture.kill(run)
        return (run, late, gate)
    }

    private func restored(_ fixture: RunFixture, _ name: String) async throws -> String {
        let target = fixture.tree.at("restored-\(Environment.system.randomHex(4))")
        _ = try await CheckpointAccess("\(fixture.root)/\(name)", environment: .system, opener: fixture.opener)
            .download(to: target, verify: true, progress: Progress())
        return String(
            decoding: try OpenFile(Path.join(target, "data"), O_RDONLY).readAll(limit: 1 << 20), as: UTF8.self)
    }

    private func decisions(_ fixture: RunFixture) throws -> [String] {
        try fixture.keys.filter { $0.hasPrefix(RunLayout.decisions) }.map {
            try #require(try fixture.document($0)?["state"]?.stringValue)
        }
    }

    // MARK: - The store does not answer

    @Test(arguments: [MemoryObjectStore.Moment.before, .after])
    func `P2 when nobody can say whether it was decided nothing is deleted, and the next open finds out`(
        moment: MemoryObjectStore.Moment
    ) async throws {
        let fixture = try RunFixture(.objects)
        let isAway = Flag()
        let run = try await train(fixture, change: { $0.retryTimeoutMilliseconds = 50 }) {
            now, call throws(StorageError) in
            guard isAway.isSet, call.key.contains(RunLayout.decisions) else { return }
            // From the decision on nothing is heard.
            if moment == .before || now == .after || call.operation != .put {
                throw StorageError(.network, "away", isRetryable: true)
            }
        }
        isAway.raise()
        let unknown = try begin(fixture, run, "unknown")
        let error = #expect(throws: StorageError.self) { try wait(unknown) }
        #expect(error?.code == .network && unknown.currentState == .unknown)
        #expect(try fixture.exists("\(name(1, 0))/data"))
        #expect(try await run.opened.checkpoints.unfinished().map(\.sequence.index) == [0])
        _ = isAway.clear()
        let next = try begin(fixture, run, "next")
        try wait(next)
        try fixture.close(run)
        let opened = try await fixture.open()
        #expect(opened.recovered == (moment == .before ? [name(1, 0)] : []))
        #expect(try decisions(fixture) == ["committed", "committed"])
        #expect(try await restored(fixture, name(1, 0)) == "unknown")
        #expect(try await restored(fixture, name(1, 1)) == "next")
        #expect(try await fixture.latest() == "1.1")
    }

    @Test(arguments: [MemoryObjectStore.Moment.before, .after])
    func `P2 refused for good after the decision was sent: only who wins the abort has failed`(
        moment: MemoryObjectStore.Moment
    ) async throws {
        let fixture = try RunFixture(.objects)
        let refuses = Flag()
        let run = try await train(fixture) { now, call throws(StorageError) in
            guard now == moment, call.operation == .put, call.key.contains(RunLayout.decisions), refuses.clear() else {
                return
            }
            throw StorageError(.permissionDenied, "the role was revoked", details: [("http_status", 403)])
        }
        refuses.raise()
        let report = try begin(fixture, run, "revoked")
        let error = #expect(throws: StorageError.self) { try wait(report) }
        let isCommitted = moment == .after
        #expect(error?.code == .permissionDenied)
        #expect(report.currentState == (isCommitted ? .unknown : .failed))
        #expect(try decisions(fixture) == [isCommitted ? "committed" : "aborted"])
        #expect(try fixture.exists("\(name(1, 0))/data") == isCommitted)
        try fixture.close(run)
        let opened = try await fixture.open()
        #expect(opened.recovered == [] && opened.lost == [])
        #expect(try await fixture.latest() == (isCommitted ? "1.0" : nil))
    }

    @Test func `P7 a report whose files a store refuses for good fails and leaves nothing; cut off it is unknown`()
        async throws
    {
        let fixture = try RunFixture(.objects)
        let failure = Mutex<StorageError?>(nil)
        let run = try await train(fixture) { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .put, call.key.hasSuffix("/data") else { return }
            if let error = failure.withLock({ $0 }) { throw error }
        }
        failure.withLock {
            $0 = StorageError(.throttled, "slow down", details: [("http_status", 503)], isRetryable: true)
        }
        let refused = try begin(fixture, run, "refused", name: "best")
        let error = #expect(throws: StorageError.self) { try wait(refused) }
        #expect(error?.code == .throttled && refused.currentState == .failed)
        #expect(try decisions(fixture) == ["aborted"])
        #expect(try await run.opened.checkpoints.unfinished().isEmpty)
        failure.withLock { $0 = StorageError(.network, "away", isRetryable: true) }
        let unknown = try begin(fixture, run, "unknown")
        #expect(throws: StorageError.self) { try wait(unknown) }
        #expect(unknown.currentState == .unknown)
        failure.withLock { $0 = nil }
        // The name is free again.
        try wait(try begin(fixture, run, "next", name: "best"))
        try fixture.close(run)
        let opened = try await fixture.open()
        #expect(opened.recovered == [name(1, 1)])
        #expect(try decisions(fixture).sorted() == ["aborted", "committed", "committed"])
        #expect(try await restored(fixture, name(1, 1)) == "unknown")
        #expect(fixture.keys.filter { $0.hasSuffix("/data") }.count == 2)
        let rows = try #require(try await fixture.result().metrics().arrayValue)
        #expect(rows.count == 3)
    }

    @Test func `P1, P9 a decision that arrives when its attempt was given up decides nothing`() async throws {
        let fixture = try RunFixture(.objects)
        let (run, late, gate) = try await withheldDecision(fixture)
        // Somebody else cleans up: the abort is won.
        let collection = try GarbageCollection(fixture.root, environment: .system, opener: fixture.opener)
        _ = try await collection.run(now: true, dryRun: false, progress: Progress())
        #expect(try decisions(fixture) == ["aborted"])
        #expect(try !fixture.exists(name(1, 0)))
        gate.open()
        let error = #expect(throws: StorageError.self) { try wait(late) }
        #expect(error?.code == .precondition && late.currentState == .failed)
        #expect(try decisions(fixture) == ["aborted"])
        #expect(try !fixture.exists(name(1, 0)))
        #expect(try await fixture.statuses() == [])
        run.abandon()
    }

    @Test func `P2, P4 a decision that arrives when another process has made the same one changes nothing`()
        async throws
    {
        let fixture = try RunFixture(.objects)
        let (run, late, gate) = try await withheldDecision(fixture)
        let next = try await fixture.open("a")
        #expect(next.recovered == [name(1, 0)])
        gate.open()
        // It was taken over: whether it is durable is not its to say.
        let error = #expect(throws: StorageError.self) { try wait(late) }
        #expect(error?.code == .superseded)
        #expect(try decisions(fixture) == ["committed"])
        #expect(try await restored(fixture, name(1, 0)) == "late")
        run.abandon()
    }

    // MARK: - Several at once

    @Test func `reports are committed in the order of their calls, whichever is there first`() async throws {
        let fixture = try RunFixture(.objects)
        let gate = Gate()
        let first = "storage/run/\(name(1, 0))/data"
        let run = try await train(fixture) { moment, call in
            if moment == .before, call.operation == .put, call.key == first { await gate.pass() }
        }
        let slow = try begin(fixture, run, "slow")
        let fast = try begin(fixture, run, "fast")
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while try !fixture.exists("\(name(1, 1))/data"), !deadline.isPast {
            await Engine.shared.sleep(milliseconds: 1)
        }
        #expect(try decisions(fixture) == [] && fast.currentState == .uploading)
        gate.open()
        try wait(fast)
        #expect(slow.currentState == .committed)
        let order = fixture.memory.calls.filter { $0.operation == .put && $0.key.contains(RunLayout.decisions) }
        #expect(order.map { $0.key.contains("/1-0-") } == [true, false])
        try fixture.close(run)
    }

    @Test func `two trainers that use one name at once get two directories (P1)`() async throws {
        let fixture = try RunFixture(.objects)
        let gate = Gate()
        let held = Flag()
        let run = try await train(fixture) { moment, call in
            guard moment == .before, call.key == "storage/run/best/data", held.set() else { return }
            await gate.pass()
        }
        let first = try begin(fixture, run, "first", name: "best")
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        while !held.isSet, !deadline.isPast { await Engine.shared.sleep(milliseconds: 1) }
        // Taken for dead, and alive.
        try fixture.kill(run)
        let next = try await fixture.train("b")
        let second = try begin(fixture, next, "second", name: "best")
        try wait(second)
        gate.open()
        let error = #expect(throws: StorageError.self) { try wait(first) }
        #expect(error?.code == .superseded)
        // Both are whole; the name means the one on the line.
        let state = try await fixture.state()
        let entry = try #require(Resumption.find("best", in: state))
        #expect(entry.physicalName.hasPrefix("best~2-0-") && state.latest?.id == entry.id)
        #expect(try await restored(fixture, entry.physicalName) == "second")
        #expect(try await restored(fixture, "best") == "first")
        #expect(state.statuses.filter { $0.value == .committed }.map(\.key) == [entry.id])
        run.abandon()
        try fixture.close(next)
    }

    @Test func `verify during an eviction says not found, never damaged`() async throws {
        let fixture = try RunFixture(.objects)
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let (view, once) = try fixture.evicting(entry, of: opened) { $0 == .list || $0 == .getRange }
        let access = try CheckpointAccess(
            "\(fixture.root)/\(entry.physicalName)", environment: .system, opener: view.opener)
        let error = await #expect(throws: StorageError.self) { try await access.verify(progress: Progress()) }
        #expect(once.happened && error?.code == .notFound && error?.message.contains("evicted") == true)
    }

    // MARK: - Stores that know no conditions

    @Test func `without conditional writes a trainer at a time trains, is killed, and resumes (P1, P2, P4, P8)`()
        async throws
    {
        var capabilities = MemoryObjectStore.usual
        capabilities.createsConditionally = false
        capabilities.replacesConditionally = false
        let fixture = try RunFixture(.objects, capabilities: capabilities)
        let run = try await fixture.train { $0.retention = RetentionPolicy(numToKeep: 2) }
        for number in 0..<3 {
            try fixture.report(run, "\(number)", name: "step\(number)", metrics: #"{"n":\#(number)}"#)
        }
        let attempt = try await fixture.leave(run.opened, 3, .sealed, content: "3")
        try fixture.kill(run)
        let next = try await fixture.train { $0.retention = RetentionPolicy(numToKeep: 2) }
        #expect(next.opened.recovered == [name(1, 3)])
        let current = try await next.currentCheckpoint(Progress())
        #expect(current["physical_name"] == .string(name(1, 3)))
        try fixture.report(next, "4", metrics: #"{"n":4}"#)
        try fixture.close(next)
        #expect(try await fixture.statuses() == ["1.3 committed", "2.0 committed"])
        #expect(try await restored(fixture, name(2, 0)) == "4")
        let store = try #require(next.opened.checkpoints as? ObjectCheckpointStore)
        #expect(try await !store.abort(attempt, physicalName: name(1, 3)))
        #expect(fixture.keys.filter { $0.contains("claims/") } == [])
        let rows = try #require(try await fixture.result().metrics().arrayValue)
        #expect(rows.compactMap { $0["n"]?.intValue } == [0, 1, 2, 4])
    }

    @Test func `without conditional writes a successor's fence is seen before "committed" (P2)`() async throws {
        var capabilities = MemoryObjectStore.usual
        capabilities.createsConditionally = false
        capabilities.replacesConditionally = false
        let fixture = try RunFixture(.objects, capabilities: capabilities)
        let run = try await fixture.train()
        try fixture.report(run, "one")
        try fixture.kill(run)
        let next = try await fixture.open("b")
        #expect(next.resumedFrom?.physicalName == name(1, 0))
        // It was not dead.
        let late = try begin(fixture, run, "late")
        let error = #expect(throws: StorageError.self) { try wait(late) }
        #expect(error?.code == .superseded)
        #expect(try await fixture.latest() == "1.0")
    }

    // MARK: - What is remembered of a run

    @Test func `P11 drain finds the store again by what is not secret, and asks for the rest`() async throws {
        let fixture = try RunFixture(.objects)
        let options = JSONValue.make([
            "region": "eu-1", "endpoint_override": "http://127.0.0.1:1", "access_key_id": "AKID",
            "secret_access_key": "SECRET", "role_arn": "arn:aws:iam::1:role/x",
        ])
        let opened = try await fixture.open { $0.storageOptions = options }
        try await fixture.leave(opened, 0, .sealed)
        try fixture.kill(opened)
        let record = try OpenFile(opened.host.recordPath(runID: opened.runID), O_RDONLY).readAll(limit: 1 << 16)
        let text = String(decoding: record, as: UTF8.self)
        #expect(text.contains("eu-1") && !text.contains("SECRET") && !text.contains("AKID"))
        let seen = Mutex<[JSONValue?]>([])
        let opener = Storage.Opener { [memory = fixture.memory] _, options, _, _ throws(StorageError) in
            seen.withLock { $0.append(options) }
            return memory
        }
        let given = JSONValue.make(["access_key_id": "NEW", "secret_access_key": "NEWER", "region": "eu-2"])
        let document = try await Drain.run(
            stagingDirectory: fixture.tree.at("host-a"), storageOptions: given, environment: .system, opener: opener,
            progress: Progress())
        #expect(document["runs"]?.arrayValue?.first?["committed"] == .array([.string(name(1, 0))]))
        let last = try #require(seen.withLock { $0.last } ?? nil)
        #expect(last["region"] == "eu-2" && last["secret_access_key"] == "NEWER")
        #expect(last["endpoint_override"] == "http://127.0.0.1:1" && last["role_arn"] == "arn:aws:iam::1:role/x")
    }
}
