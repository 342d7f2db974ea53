import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// What a job on an object store is given to go on from, and what `verify` costs there: damage is found before it is trained
/// on (P5), without fetching what the store attests.
@Suite struct ObjectResumeTests {
    /// More than is read rather than asked for.
    private static let content = String(repeating: "x", count: 3 * ObjectFiles.readsAtOnceBytes)

    private static let silent: ObjectStoreCapabilities = {
        var capabilities = MemoryObjectStore.usual
        capabilities.checksCRC32C = false
        return capabilities
    }()

    private func name(_ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: 1, index: index))
    }

    /// A run with two checkpoints, whose trainer has closed it.
    private func trained(_ capabilities: ObjectStoreCapabilities) async throws -> RunFixture {
        let fixture = try RunFixture(.objects, capabilities: capabilities)
        let run = try await fixture.train()
        for _ in 0..<2 { try fixture.report(run, Self.content) }
        try fixture.close(run)
        return fixture
    }

    private func current(_ run: TrainingRun) async throws -> String? {
        try await run.currentCheckpoint(Progress())["physical_name"]?.stringValue
    }

    private func reads(_ fixture: RunFixture, _ body: () async throws -> Void) async throws -> Int {
        let before = fixture.memory.calls.count
        try await body()
        return fixture.memory.calls[before...].filter { $0.operation == .getRange }.count
    }

    @Test(arguments: [MemoryObjectStore.usual, silent])
    func `P5 an object that was replaced makes a job fall back before it trains on it`(
        capabilities: ObjectStoreCapabilities
    ) async throws {
        let fixture = try await trained(capabilities)
        fixture.memory.tamper("storage/run/\(name(1))/data") { $0[70_000] ^= 1 }
        let run = try await fixture.train("b")
        #expect(run.opened.resumedFrom?.physicalName == name(1))
        #expect(try await current(run) == name(0))
        #expect(LogLines.shared.with(name(1), "damaged", "going on from", name(0)).count >= 1)
        #expect(try fixture.resume(2, 1) == "1.0")
        #expect(try await fixture.latest() == "1.0")
        try fixture.close(run)
    }

    @Test func `what the store attests is not fetched, neither to resume nor to verify`() async throws {
        let fixture = try await trained(MemoryObjectStore.usual)
        let run = try await fixture.train("b")
        let resumed = try await reads(fixture) { _ = try await current(run) }
        #expect(resumed == 0)
        let access = try CheckpointAccess("\(fixture.root)/\(name(1))", environment: .system, opener: fixture.opener)
        let progress = Progress()
        let verified = try await reads(fixture) {
            let document = try await access.verify(progress: progress)
            #expect(document["ok"] == true && document["verified"] == true)
        }
        #expect(verified == 0)
        #expect(progress.document["bytes_done"]?.intValue == Self.content.utf8.count)
        fixture.memory.tamper("storage/run/\(name(1))/data") { $0[70_000] ^= 1 }
        let document = try await access.verify(progress: Progress())
        #expect(document["ok"] == false && document["problems"]?.arrayValue?.count == 1)
        try fixture.close(run)
    }

    @Test func `what no store attests is read, once`() async throws {
        let fixture = try await trained(Self.silent)
        let run = try await fixture.train("b")
        let first = try await reads(fixture) { _ = try await current(run) }
        #expect(first > 0)
        let second = try await reads(fixture) { _ = try await current(run) }
        #expect(second == 0)
        try fixture.close(run)
    }

    @Test func `trouble on the way to a checkpoint is no damage`() async throws {
        let fixture = try await trained(MemoryObjectStore.usual)
        let isAway = Flag()
        let view = try RunFixtureView(fixture) { moment, call throws(StorageError) in
            if isAway.isSet, moment == .before, call.operation == .head {
                throw StorageError(.network, "away", isRetryable: true)
            }
        }
        var takeover = Takeover(
            options: fixture.options("b") { $0.retryTimeoutMilliseconds = 50 }, environment: .system, engine: .shared,
            progress: Progress())
        takeover.opener = view.opener
        let run = try await TrainingRun.open(takeover)
        isAway.raise()
        let error = await #expect(throws: StorageError.self) { try await current(run) }
        #expect(error?.code == .network)
        _ = isAway.clear()
        #expect(try await current(run) == name(1))
        try fixture.close(run)
    }
}
