import Glibc
import Testing

@testable import StorageCore

/// What a staging directory remembers of runs, and how it forgets.
@Suite struct HostIdentityTests {
    private let fixture: RunFixture
    private let day = 24.0 * 3600

    init() throws { fixture = try RunFixture() }

    private func drain(after days: Double = 0) async throws {
        var environment = Environment.system
        environment.now = { Environment.system.now() + days * 24 * 3600 }
        _ = try await Drain.run(
            stagingDirectory: fixture.tree.at("host-a"), environment: environment, progress: Progress())
    }

    private func remembered() throws -> [String] {
        try ["locks", "runs"].flatMap { try System.list(fixture.tree.at("host-a/\($0)")) }.sorted()
    }

    @Test func `a run that exists is remembered, and its lock stays`() async throws {
        try fixture.close(try await fixture.train())
        try await drain(after: 100)
        #expect(try remembered().count == 2)
    }

    @Test func `a run that is gone is forgotten after seven days, as it may not be mounted`() async throws {
        try fixture.close(try await fixture.train())
        try System.removeTree(fixture.root)
        try await drain(after: 6.9)
        #expect(try remembered().count == 2)
        try await drain(after: 7.1)
        #expect(try remembered().isEmpty)
    }

    @Test func `a run that was made anew is another one: the old is forgotten at once`() async throws {
        try fixture.close(try await fixture.train())
        let old = try #require(try fixture.runID())
        try System.removeTree(fixture.root)
        try fixture.close(try await fixture.train())
        let new = try #require(try fixture.runID())
        try await drain()
        #expect(old != new)
        #expect(try remembered() == ["\(new).json", "\(new).lock"])
    }

    @Test func `a lock that nothing else is known of goes after seven days`() async throws {
        try fixture.close(try await fixture.train())
        try fixture.tree.file("host-a/locks/0123.lock")
        try await drain(after: 6.9)
        #expect(try remembered().count == 3)
        try await drain(after: 7.1)
        #expect(try remembered().count == 2)
    }

    @Test func `what this process trains is never forgotten, nor is its lock file opened`() async throws {
        let opened = try await fixture.open()
        try opened.host.forget(runID: opened.runID)
        #expect(try remembered().count == 2)
        #expect(try OpenRuns.shared.probe(opened.runID) { () throws(StorageError) in true } == nil)
        try fixture.kill(opened)
        try opened.host.forget(runID: opened.runID)
        #expect(try remembered().isEmpty)
    }

    @Test func `a lock is only held at the file that others find`() throws {
        let path = fixture.tree.at("x.lock")
        guard case .held(let first) = try ProcessLock.take(path) else { throw StorageError(.internal, "busy") }
        try System.unlink(path)
        guard case .held(let second) = try ProcessLock.take(path) else { throw StorageError(.internal, "busy") }
        // A descriptor of the removed file stands for nobody.
        first.release()
        #expect(try System.exists(path))
        second.release()
    }
}
