import Glibc
import Testing

@testable import StorageCore

/// What `raystorage gc` leaves alone in a run on an object store, though nobody has decided about it (P9).
@Suite struct ObjectCollectionTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture(.objects) }

    private func name(_ epoch: Int, _ index: Int) -> String {
        CheckpointName.automatic(ReportSequence(epoch: epoch, index: index))
    }

    /// `--now`, on a machine of its own.
    private func collect(_ opener: Storage.Opener? = nil) async throws -> (removed: Int, kept: Int) {
        var environment = Environment.system
        let staging = fixture.tree.at("host-gc")
        environment.variable = { $0 == "RAYSTORAGE_STAGING_DIR" ? staging : nil }
        let document = try await GarbageCollection(
            fixture.root, environment: environment, opener: opener ?? fixture.opener
        )
        .run(now: true, dryRun: false, progress: Progress())
        return (document["removed"]?.arrayValue?.count ?? -1, document["kept"]?.arrayValue?.count ?? -1)
    }

    /// Sends files about which nothing is decided.
    private func upload(_ opened: OpenedRun, _ index: Int) async throws {
        let attempt = try await fixture.leave(opened, index, .sealed)
        try await opened.checkpoints.upload(
            attempt, as: name(opened.hold.epoch.number, index), progress: Progress())
    }

    @Test(arguments: ["in this process", "on another machine"])
    func `nothing of a trainer that is alive goes, not even with --now`(place: String) async throws {
        let opened = try await fixture.open("b") { $0.heartbeatMilliseconds = 100 }
        if place == "in this process" {
            _ = OpenRuns.shared.enter(opened.runID)
        } else {
            // Only its heartbeat tells.
            fixture.forgetOpen()
        }
        let entry = try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        _ = try await opened.checkpoints.uncommit(try #require(entry.attempt), physicalName: entry.physicalName)
        try await upload(opened, 2)
        _ = try await fixture.memory.startMultipart("storage/run/\(name(1, 3))/data", progress: Progress())
        func contents() -> [String: [UInt8]] {
            fixture.memory.contents.filter { !$0.key.hasSuffix("/heartbeat") }
        }
        let before = contents()
        let result = try await collect()
        #expect(result == (0, 3))
        #expect(contents() == before && fixture.memory.openUploads == 1)
        try fixture.kill(opened)
        let after = try await collect()
        #expect(after == (3, 0))
        #expect(fixture.memory.openUploads == 0)
        #expect(try await fixture.statuses() == ["1.1 committed"])
    }

    @Test func `nor of one that starts while it looks`() async throws {
        let first = try await fixture.open("a")
        try await fixture.commit(first, 0)
        try await upload(first, 1)
        try fixture.kill(first)
        let fixture = fixture
        let newcomer = Newcomer()
        let (once, hasLooked) = (Once(), Flag())
        let view = try RunFixtureView(fixture) { moment, call throws(StorageError) in
            // It looks who is alive, and nobody is; then it reads the run.
            if call.operation == .list, call.key.hasSuffix(RunLayout.epochs) { hasLooked.raise() }
            guard moment == .before, hasLooked.isSet, call.key.hasSuffix(RunLayout.record) else { return }
            try await once.run { () throws(StorageError) in
                let opened = try await newcomer.takeOver(fixture)
                do { try await upload(opened, 0) } catch {
                    throw (error as? StorageError) ?? StorageError(.internal, "\(error)")
                }
            }
        }
        let result = try await collect(view.opener)
        #expect(once.happened)
        #expect(result == (1, 1))
        #expect(try fixture.exists("\(name(2, 0))/data") && !fixture.exists(name(1, 1)))
        try fixture.kill(try #require(newcomer.run))
    }
}
