import Testing

@testable import StorageCore

@Suite struct FileCheckpointStoreTests {
    private let fixture: RunFixture
    private let opened: OpenedRun
    private var store: FileCheckpointStore { opened.store }

    init() async throws {
        fixture = try RunFixture()
        opened = try await fixture.open()
    }

    private func sealed(_ index: Int = 0) async throws -> AttemptID {
        try await fixture.leave(opened, index, .sealed, name: "c", hasJournal: false)
    }

    // MARK: - Commit

    @Test func `until the commit nothing is visible, and then all of it`() async throws {
        let attempt = try await sealed()
        let before = try await fixture.statuses()
        #expect(before == [])
        #expect(try store.commit(attempt, as: "c") == .committed)
        #expect(try fixture.text("c/data") == "x")
        #expect(try fixture.exists("c/\(RunLayout.manifest)"))
        #expect(try !fixture.exists(RunLayout.attempt(attempt)))
        let after = try await fixture.statuses()
        #expect(after == ["c committed"])
    }

    @Test func `a commit that is repeated after a lost reply is the same commit`() async throws {
        let attempt = try await sealed()
        #expect(try store.commit(attempt, as: "c") == .committed)
        #expect(try store.commit(attempt, as: "c") == .committed)
    }

    @Test func `an attempt that was aborted meanwhile is not committed`() async throws {
        let attempt = try await sealed()
        #expect(try store.abort(attempt))
        #expect(try store.commit(attempt, as: "c") == .aborted)
        #expect(try !fixture.exists("c"))
    }

    @Test(arguments: ["a file", "an empty directory", "a directory", "another attempt"])
    func `what stands at the place and is not ours is left alone`(what: String) async throws {
        let attempt = try await sealed()
        switch what {
        case "a file": try fixture.write("c", "theirs")
        case "an empty directory": try fixture.tree.directory("storage/run/c")
        case "a directory": try fixture.write("c/data", "theirs")
        default: #expect(try store.commit(try await sealed(1), as: "c") == .committed)
        }
        #expect(try store.commit(attempt, as: "c") == .occupied)
        #expect(try fixture.exists(RunLayout.attempt(attempt)))
        if what == "a directory" { #expect(try fixture.text("c/data") == "theirs") }
    }

    @Test func `ours means run, attempt and nonce`() async throws {
        let attempt = try await sealed()
        _ = try store.commit(attempt, as: "c")
        #expect(try store.isOurs(fixture.path("c"), attempt))
        for other in [
            AttemptID(sequence: attempt.sequence, nonce: "0"),
            AttemptID(sequence: ReportSequence(epoch: 1, index: 1), nonce: attempt.nonce),
        ] {
            #expect(try !store.isOurs(fixture.path("c"), other))
        }
        let otherRun = FileCheckpointStore(root: store.root, runID: "0", durability: .none)
        #expect(try !otherRun.isOurs(fixture.path("c"), attempt))
        #expect(try otherRun.commit(attempt, as: "c") == .occupied)
    }

    // MARK: - Abort

    @Test func `who aborts after the commit has lost and changes nothing`() async throws {
        let attempt = try await sealed()
        _ = try store.commit(attempt, as: "c")
        #expect(try !store.abort(attempt))
        #expect(try fixture.text("c/data") == "x")
    }

    @Test func `an abort leaves neither files nor journal, and may be repeated`() async throws {
        let attempt = try await fixture.leave(opened, 0, .captured)
        #expect(try store.abort(attempt))
        for key in [RunLayout.attempt(attempt), RunLayout.captured(attempt), RunLayout.trash(attempt)] {
            #expect(try !fixture.exists(key))
        }
        #expect(try !store.abort(attempt))
        #expect(try store.unfinished().isEmpty && store.trashed().isEmpty)
    }

    @Test func `an abort that was cut off before is finished by the next`() async throws {
        let attempt = try await sealed()
        try fixture.write("\(RunLayout.trash(attempt))/old", "half removed")
        #expect(try store.abort(attempt))
        #expect(try !fixture.exists(RunLayout.trash(attempt)))
    }

    // MARK: - Un-commit

    @Test func `an un-committed checkpoint is gone at once and its files are in the trash`() async throws {
        let attempt = try await sealed()
        _ = try store.commit(attempt, as: "c")
        #expect(try store.uncommit(attempt, physicalName: "c"))
        #expect(try !fixture.exists("c"))
        #expect(try fixture.text("\(RunLayout.trash(attempt))/data") == "x")
        #expect(try store.trashed() == [attempt])
        try store.purge(attempt)
        #expect(try store.trashed().isEmpty)
    }

    @Test func `only the attempt that is meant is un-committed`() async throws {
        let attempt = try await sealed()
        _ = try store.commit(attempt, as: "c")
        #expect(try !store.uncommit(AttemptID(sequence: attempt.sequence, nonce: "0"), physicalName: "c"))
        #expect(try fixture.exists("c"))
        #expect(try !store.uncommit(attempt, physicalName: "elsewhere"))
    }

    @Test func `what is put back from the trash is committed again`() async throws {
        let attempt = try await sealed()
        _ = try store.commit(attempt, as: "c")
        try store.uncommit(attempt, physicalName: "c")
        #expect(try store.restoreFromTrash(attempt, physicalName: "c"))
        #expect(try store.isOurs(fixture.path("c"), attempt))
        // Repeated, and with nothing to put back.
        #expect(try store.restoreFromTrash(attempt, physicalName: "c"))
        #expect(try !store.restoreFromTrash(try await sealed(1), physicalName: "d"))
    }

    @Test func `putting back does not take the place of another`() async throws {
        let attempt = try await sealed()
        _ = try store.commit(attempt, as: "c")
        try store.uncommit(attempt, physicalName: "c")
        try fixture.write("c/data", "theirs")
        #expect(try !store.restoreFromTrash(attempt, physicalName: "c"))
        #expect(try fixture.text("c/data") == "theirs")
    }

    // MARK: - Giving back

    @Test func `a directory that was handed over goes back without what we put into it`() async throws {
        let source = fixture.tree.at("sources/mine")
        try fixture.tree.directory("sources")
        let attempt = try await fixture.leave(opened, 0, .sealed)
        try store.giveBack(attempt, to: source)
        #expect(try fixture.tree.bytes("sources/mine/data") == Array("x".utf8))
        #expect(try System.list(source) == ["data"])
        #expect(try store.unfinished().isEmpty)
    }

    @Test func `a directory is not given back over another, and the error says where it is`() async throws {
        let attempt = try await fixture.leave(opened, 0, .captured)
        let source = try fixture.source("new")
        let error = #expect(throws: StorageError.self) { try store.giveBack(attempt, to: source) }
        #expect(error?.message.contains(store.directory(attempt)) == true)
        #expect(try OpenFile(Path.join(source, "data"), 0).readAll(limit: 10) == Array("new".utf8))
        #expect(try store.unfinished() == [attempt])
    }

    // MARK: - What is there

    @Test func `unfinished attempts are those with a directory or a journal entry, in the order of reports`()
        async throws
    {
        let second = try await fixture.leave(opened, 10, .begun)
        let first = try await fixture.leave(opened, 9, .captured)
        try System.removeTree(store.directory(first))
        try fixture.write("\(RunLayout.attempts)/notes.txt", "")
        try fixture.write("\(RunLayout.attempts)/1-07-aa/data", "")
        #expect(try store.unfinished() == [first, second])
    }
}
