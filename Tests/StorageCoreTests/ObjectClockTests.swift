import Testing

@testable import StorageCore

/// Machines whose clock is wrong do not take for old what others have just written (P9).
@Suite struct ObjectClockTests {
    private let fixture: RunFixture
    private static let month = 30.0 * 24 * 3600

    init() throws { fixture = try RunFixture(.objects) }

    /// What another host has under way: files about which nothing is decided, and an upload in parts.
    private func underWay() async throws -> [String] {
        let first = try await fixture.open()
        let attempt = try await fixture.leave(first, 0, .sealed)
        let name = CheckpointName.automatic(attempt.sequence)
        try await first.checkpoints.upload(attempt, as: name, progress: Progress())
        let large = CheckpointName.automatic(ReportSequence(epoch: 1, index: 1))
        _ = try await fixture.memory.startMultipart("storage/run/\(large)/data", progress: Progress())
        try fixture.kill(first)
        return [name, large]
    }

    /// Opens the run and waits until everything old is collected.
    private func visit(_ environment: Environment) async throws {
        let opened = try await fixture.open("b", environment: environment)
        await opened.collection?.task.value
        try fixture.kill(opened)
    }

    private func collect(_ environment: Environment, dryRun: Bool = false) async throws -> JSONValue {
        let collection = try GarbageCollection(fixture.root, environment: environment, opener: fixture.opener)
        return try await collection.run(now: false, dryRun: dryRun, progress: Progress())
    }

    /// The paths that were kept and removed.
    private func names(_ document: JSONValue, _ which: String) throws -> [String] {
        try #require(document[which]?.arrayValue).compactMap { $0["path"]?.stringValue }
            .map { String($0.dropFirst(fixture.root.count + 1)) }.sorted()
    }

    @Test(arguments: [month, -month])
    func `P9 what another host has sent a moment ago survives a machine whose clock is wrong by days`(ahead: Double)
        async throws
    {
        let names = try await underWay()
        let wrong = MovableClock()
        wrong.move(ahead)
        let expected = [names[0], "\(names[1])/data"]
        try await visit(wrong.environment)
        for dryRun in [true, false] {
            let document = try await collect(wrong.environment, dryRun: dryRun)
            #expect(try self.names(document, "kept") == expected)
            #expect(try self.names(document, "removed").isEmpty)
        }
        #expect(try fixture.exists("\(names[0])/data"))
        #expect(fixture.memory.openUploads == 1)
        // Its host comes back and finishes it.
        let back = try await fixture.open("a")
        #expect(back.recovered == [names[0]])
        try fixture.kill(back)
    }

    @Test func `P9 what is old by the store's clock goes, and gc leaves nothing of its own`() async throws {
        let names = try await underWay()
        fixture.storeClock.move(8 * 24 * 3600)
        // Not by our own clock: that one is behind.
        #expect(try self.names(try await collect(.system), "removed").isEmpty)
        let environment = fixture.storeClock.environment
        let expected = [names[0], "\(names[1])/data"]
        #expect(try self.names(try await collect(environment, dryRun: true), "removed") == expected)
        #expect(try fixture.exists("\(names[0])/data"))
        let keys = fixture.keys
        #expect(!keys.contains(StoreClock.key))
        #expect(try self.names(try await collect(environment), "removed") == expected)
        #expect(try !fixture.exists(names[0]) && fixture.memory.openUploads == 0)
        #expect(!fixture.keys.contains(StoreClock.key))
    }

    @Test func `the record of an eviction outlives a clock that is days ahead`() async throws {
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        try await fixture.commit(opened, 1)
        let attempt = try #require(entry.attempt)
        _ = try await opened.checkpoints.uncommit(attempt, physicalName: entry.physicalName)
        try await opened.checkpoints.purge(attempt)
        try fixture.write(RunLayout.metrics + "1-0-0.jsonl", #"{"index":0,"time":1,"metrics":{}}"# + "\n")
        try fixture.kill(opened)
        let wrong = MovableClock()
        wrong.move(Self.month)
        try await visit(wrong.environment)
        _ = try await collect(wrong.environment)
        #expect(try fixture.exists(RunLayout.decision(attempt)))
        fixture.storeClock.move(Self.month)
        _ = try await collect(wrong.environment)
        #expect(try !fixture.exists(RunLayout.decision(attempt)))
    }

    @Test func `who may not write to the store learns no time and collects nothing`() async throws {
        let names = try await underWay()
        fixture.storeClock.move(8 * 24 * 3600)
        let view = try RunFixtureView(fixture) { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .put, call.key.hasSuffix(StoreClock.key) else { return }
            throw StorageError(.permissionDenied, "not allowed")
        }
        let collection = try GarbageCollection(
            fixture.root, environment: fixture.storeClock.environment, opener: view.opener)
        let document = try await collection.run(now: false, dryRun: false, progress: Progress())
        #expect(try self.names(document, "kept") == [names[0], "\(names[1])/data"])
        #expect(try self.names(document, "removed").isEmpty)
        let reasons = try #require(document["kept"]?.arrayValue).compactMap { $0["reason"]?.stringValue }
        #expect(reasons.allSatisfy { $0.contains("age") })
    }

    // MARK: - The value

    @Test func `now is never later than the store says, and unknown where it says nothing`() {
        #expect(StoreClock(local: 100, store: 50).now == 50)
        #expect(StoreClock(local: 50, store: 100).now == 50)
        for store in [nil, 0, -1, .nan, .infinity] as [Double?] {
            #expect(StoreClock(local: 100, store: store) == .unknown)
        }
        #expect(StoreClock(local: .nan, store: 100) == .unknown)
        #expect(StoreClock(local: .infinity, store: 100) == .unknown)
    }

    @Test func `an age is never below zero, and unknown of what has no time`() {
        let clock = StoreClock(local: 100, store: 100)
        #expect(clock.age(of: 40) == 60)
        #expect(clock.age(of: 140) == 0)
        for time in [0, -1, Double.nan, .infinity] { #expect(clock.age(of: time) == nil) }
        #expect(StoreClock.unknown.age(of: 40) == nil)
    }
}
