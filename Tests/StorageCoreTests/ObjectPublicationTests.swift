import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// From the decision to the word "committed" on an object store, and what another trainer may do in between. Where the store
/// replaces conditionally the snapshot is the fence, elsewhere it is a record that the holder looks at.
@Suite struct ObjectPublicationTests {
    private let name = CheckpointName.automatic(ReportSequence(epoch: 1, index: 0))

    private static func fixture(_ isConditional: Bool) throws -> RunFixture {
        var capabilities = MemoryObjectStore.usual
        capabilities.createsConditionally = isConditional
        capabilities.replacesConditionally = isConditional
        return try RunFixture(.objects, capabilities: capabilities)
    }

    /// Opens a run through a view of the store of its own.
    private func train(_ fixture: RunFixture, _ hook: @escaping MemoryObjectStore.Hook) async throws -> TrainingRun {
        let hasPublished = Flag()
        var takeover = Takeover(
            options: fixture.options("a") { $0.retryTimeoutMilliseconds = 50 }, environment: .system, engine: .shared,
            progress: Progress())
        takeover.opener = try RunFixtureView(fixture) { moment, call throws(StorageError) in
            if call.operation == .list, call.key == "storage/run/" + RunLayout.metrics { hasPublished.raise() }
            try await hook(moment, call)
        }.opener
        let run = try await TrainingRun.open(takeover)
        // At its start every launch publishes its metrics, and looks at the fence for that: before this list.
        while !hasPublished.isSet { await Engine.shared.sleep(milliseconds: 1) }
        return run
    }

    private func begin(_ fixture: RunFixture, _ run: TrainingRun) throws -> Report {
        try run.report(
            metricsJSON: Array("{}".utf8), directory: try fixture.source("x"), options: ReportOptions())
    }

    private func wait(_ report: Report) throws { try report.wait(Deadline(timeoutMilliseconds: 600_000)) }

    /// What a request is for; nil: nothing that these tests are about.
    private static func step(_ call: MemoryObjectStore.Call) -> String? {
        switch (call.operation, call.key.dropFirst("storage/run/".utf8.count)) {
        case (.put, let key) where key.hasSuffix("/data"): "data"
        case (.put, let key) where key.hasSuffix(RunLayout.manifest): "manifest"
        case (.put, let key) where key.hasPrefix(RunLayout.decisions): "decision"
        case (.put, RunLayout.snapshot): "snapshot"
        case (.get, Substring(RunLayout.fence(1))): "look at the fence"
        default: nil
        }
    }

    // MARK: - The order

    @Test(arguments: [true, false])
    func `P2 a report is stored, decided, in the snapshot and past the fence, and then it says so`(
        isConditional: Bool
    ) async throws {
        let fixture = try Self.fixture(isConditional)
        let box = Mutex<Report?>(nil)
        let seen = Mutex<[String]>([])
        let isArmed = Flag()
        let run = try await train(fixture) { moment, call in
            guard isArmed.isSet, moment == .after, let step = Self.step(call) else { return }
            // It may be here before its report is in the box.
            while box.withLock({ $0 }) == nil { await Engine.shared.sleep(milliseconds: 1) }
            let state = box.withLock { $0?.currentState.name } ?? ""
            seen.withLock { $0.append(state == "UPLOADING" ? step : "\(step) when \(state)") }
        }
        isArmed.raise()
        let report = try begin(fixture, run)
        box.withLock { $0 = report }
        try wait(report)
        #expect(report.currentState == .committed)
        let steps = seen.withLock { Array($0.drop { $0 != "data" }) }
        let look = "look at the fence"
        #expect(
            steps
                == (isConditional
                    ? ["data", "manifest", "decision", "snapshot"]
                    : ["data", look, "manifest", "decision", look, "snapshot", look]))
        _ = isArmed.clear()
        try fixture.close(run)
    }

    // MARK: - Taken over

    /// Another trainer takes over before or after the first time that one step of a report is done.
    private func fence(
        _ fixture: RunFixture, _ moment: MemoryObjectStore.Moment, _ step: String
    ) async throws -> (run: TrainingRun, isArmed: Flag, newcomer: Newcomer) {
        let (newcomer, once, isArmed) = (Newcomer(), Once(), Flag())
        let run = try await train(fixture) { now, call throws(StorageError) in
            guard isArmed.isSet, now == moment, Self.step(call) == step else { return }
            try await once.run { () throws(StorageError) in try await newcomer.takeOver(fixture) }
        }
        return (run, isArmed, newcomer)
    }

    @Test(arguments: [true, false])
    func `P2 fenced after the decision and before saying so: the newcomer has it, the holder says superseded`(
        isConditional: Bool
    ) async throws {
        let fixture = try Self.fixture(isConditional)
        let (run, isArmed, newcomer) = try await fence(fixture, .after, "decision")
        isArmed.raise()
        let report = try begin(fixture, run)
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .superseded && report.currentState == .failed)
        #expect(error?.detailsDocument["holder_epoch"] == 2)
        // Nobody was told that it is durable, and it is: the newcomer's list was later.
        #expect(newcomer.run?.resumedFrom?.physicalName == name)
        #expect(try await fixture.statuses() == ["1.0 committed"])
        #expect(try fixture.snapshot().ours?.epoch == 2)
        let again = #expect(throws: StorageError.self) { try begin(fixture, run) }
        #expect(again?.code == .superseded)
        #expect(throws: StorageError.self) { try fixture.close(run) }
        #expect(try !fixture.exists(RunLayout.closed(1)))
    }

    @Test(arguments: [true, false]) func `P2 fenced before its decision: never said, stray at most, never latest`(
        isConditional: Bool
    ) async throws {
        let fixture = try Self.fixture(isConditional)
        let (run, isArmed, newcomer) = try await fence(fixture, .before, "decision")
        try fixture.report(run, "before")
        isArmed.raise()
        let report = try begin(fixture, run)
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .superseded)
        #expect(newcomer.run?.resumedFrom?.physicalName == name)
        #expect(try await fixture.statuses() == ["1.0 committed", "1.1 stray"])
        #expect(try await fixture.latest() == "1.0")
        run.abandon()
    }

    @Test(arguments: [true, false]) func `P2 fenced after its snapshot: the newcomer has it, whatever the holder says`(
        isConditional: Bool
    ) async throws {
        let fixture = try Self.fixture(isConditional)
        let (run, isArmed, newcomer) = try await fence(fixture, .after, "snapshot")
        isArmed.raise()
        let report = try begin(fixture, run)
        if isConditional {
            // Its snapshot was there before the fence, so its commit was there before the list: it may say so.
            try wait(report)
            let again = try begin(fixture, run)
            let error = #expect(throws: StorageError.self) { try wait(again) }
            #expect(error?.code == .superseded)
        } else {
            let error = #expect(throws: StorageError.self) { try wait(report) }
            #expect(error?.code == .superseded)
        }
        #expect(newcomer.run?.resumedFrom?.physicalName == name)
        #expect(try await fixture.latest() == "1.0")
        #expect(try fixture.snapshot().ours?.epoch == 2)
        run.abandon()
    }

    @Test(arguments: [true, false])
    func `P2 when its snapshot cannot be written the holder looks whether it was fenced before it says so`(
        isFenced: Bool
    ) async throws {
        let fixture = try Self.fixture(true)
        let (newcomer, once, isAway) = (Newcomer(), Once(), Flag())
        let run = try await train(fixture) { moment, call throws(StorageError) in
            guard isAway.isSet, moment == .before, Self.step(call) == "snapshot" else { return }
            if isFenced { try await once.run { () throws(StorageError) in try await newcomer.takeOver(fixture) } }
            throw StorageError(.network, "away", isRetryable: true)
        }
        isAway.raise()
        let report = try begin(fixture, run)
        if isFenced {
            let error = #expect(throws: StorageError.self) { try wait(report) }
            #expect(error?.code == .superseded)
            #expect(newcomer.run?.resumedFrom?.physicalName == name)
        } else {
            try wait(report)
            #expect(try fixture.snapshot().entries.isEmpty)
            _ = isAway.clear()
            // The next one brings both.
            try fixture.report(run)
            #expect(try fixture.snapshot().entries.count == 2)
        }
        #expect(try await fixture.statuses().first == "1.0 committed")
        run.abandon()
    }

    @Test func `P2 an answer to its snapshot that is lost does not hide a fence that came right after`() async throws {
        let fixture = try Self.fixture(true)
        let (newcomer, once, isArmed) = (Newcomer(), Once(), Flag())
        let run = try await train(fixture) { moment, call throws(StorageError) in
            guard isArmed.isSet, moment == .after, Self.step(call) == "snapshot", !once.happened else { return }
            try await once.run { () throws(StorageError) in try await newcomer.takeOver(fixture) }
            throw StorageError(.network, "lost", isRetryable: true)
        }
        isArmed.raise()
        let report = try begin(fixture, run)
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .superseded)
        #expect(newcomer.run?.resumedFrom?.physicalName == name)
        #expect(try fixture.snapshot().ours?.epoch == 2)
        run.abandon()
    }

    // MARK: - Until it was fenced

    /// Opens the run as a newcomer; `meanwhile` comes between its look at epochs and snapshot, and its fence.
    private func open(
        _ fixture: RunFixture, meanwhile: @escaping @Sendable () async throws -> Void
    ) async throws -> OpenedRun {
        let once = Once()
        var takeover = Takeover(
            options: fixture.options("b"), environment: .system, engine: .shared, progress: Progress())
        takeover.opener = try RunFixtureView(fixture) { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .put else { return }
            guard call.key.hasSuffix(RunLayout.snapshot) || call.key.hasSuffix("/fence") else { return }
            try await once.run { () throws(StorageError) in
                do { try await meanwhile() } catch {
                    throw (error as? StorageError) ?? StorageError(.internal, "\(error)")
                }
            }
        }.opener
        let opened = try await takeover.open()
        try fixture.kill(opened)
        #expect(once.happened)
        return opened
    }

    @Test(arguments: [true, false]) func `P2 what a holder committed until it was fenced counts`(isConditional: Bool)
        async throws
    {
        let fixture = try Self.fixture(isConditional)
        let holder = try await fixture.open()
        try await fixture.commit(holder, 0)
        try fixture.kill(holder)
        let next = try await open(fixture) {
            // It says so: its snapshot is written and its fence is down.
            try await fixture.commit(holder, 1)
            try await holder.hold.check(looking: true)
        }
        #expect(next.resumedFrom?.sequence?.index == 1)
        #expect(try await fixture.statuses() == ["1.0 committed", "1.1 committed"])
    }

    @Test func `what a holder fell back to until it was fenced counts`() async throws {
        let fixture = try Self.fixture(true)
        let first = try await fixture.open()
        try await fixture.commit(first, 0)
        try fixture.kill(first)
        try fixture.kill(try await fixture.open())
        let next = try await open(fixture) {
            try fixture.write(
                RunLayout.resume(2, 1), #"{"attempt":null,"physical_name":null,"report_index_base":1}"#)
        }
        #expect(next.resumedFrom == nil)
        #expect(try await fixture.statuses() == ["1.0 stray"])
    }
}
