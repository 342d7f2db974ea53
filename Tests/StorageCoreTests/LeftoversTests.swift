import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// What dead trainers left: finished, given back, lost, collected or left alone.
@Suite struct LeftoversTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture() }

    private let second = "checkpoint_000001_000000001"

    /// A first epoch on host `a` with one checkpoint, 1.0, that was killed while it did something more.
    @discardableResult
    private func killed<Value>(_ body: (OpenedRun) async throws -> Value) async throws -> Value {
        let opened = try await fixture.open("a")
        try await fixture.commit(opened, 0)
        let value = try await body(opened)
        try fixture.kill(opened)
        return value
    }

    private func isEmpty() throws -> Bool {
        try System.list(fixture.path(RunLayout.attempts)).isEmpty
            && System.list(fixture.path(RunLayout.trash)).isEmpty
    }

    // MARK: - Finished

    @Test(arguments: [true, false]) func `what was sealed is committed, with or without its journal entry`(
        hasJournal: Bool
    ) async throws {
        try await killed { try await fixture.leave($0, 1, .sealed, bootID: "earlier", hasJournal: hasJournal) }
        let opened = try await fixture.open("a")
        #expect(opened.recovered == [second] && opened.lost.isEmpty)
        #expect(opened.resumedFrom?.physicalName == second)
        #expect(try isEmpty())
    }

    @Test func `what was captured in this boot is sealed and committed, byte for byte`() async throws {
        try await killed {
            try await fixture.leave($0, 1, .captured, content: "captured", metrics: .make(["loss": 2]))
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered == [second])
        #expect(opened.resumedFrom?.metrics == .make(["loss": 2]))
        let manifest = try #require(try Manifest.read(directory: fixture.path(second)))
        let verified = try await Verify.run(directory: fixture.path(second), manifest: manifest, progress: Progress())
        #expect(verified.isGood && manifest.files.map(\.size) == [8])
        #expect(try isEmpty())
    }

    /// Killed while it was being sealed: a failed fsync may have been all that was still to be told.
    private func cutOff(_ content: String, then change: (String) throws -> Void = { _ in }) async throws {
        try await killed { opened in
            let attempt = try await fixture.leave(opened, 1, .captured, content: content)
            let directory = RunLayout.attempt(attempt)
            try fixture.write("\(directory)/.metadata.json", "{}")
            try fixture.write("\(directory)/inner/more", "inner")
            let files = try await Seal.run(
                directory: fixture.path(directory), captured: nil, durability: .none, progress: Progress())
            _ = try Seal.prepareManifest(ManifestTests.manifest(files), directory: fixture.path(directory))
            try change(directory)
        }
    }

    @Test func `P4: what was being sealed is written anew, so that the next fsync means something`() async throws {
        try await cutOff("content") { directory in
            // Of a try that was killed as well.
            try fixture.write("\(directory)/.raystorage/rewrite-0", "half")
        }
        let attempts = try System.list(fixture.path(RunLayout.attempts)).filter { !$0.hasSuffix(".json") }
        let before = try System.status(fixture.path("\(RunLayout.attempts)/\(attempts[0])/data"))
        let opened = try await fixture.open("a")
        #expect(opened.recovered == [second] && opened.lost.isEmpty)
        #expect(try fixture.text("\(second)/data") == "content")
        #expect(try fixture.text("\(second)/inner/more") == "inner" && fixture.text("\(second)/.metadata.json") == "{}")
        let after = try System.status(fixture.path("\(second)/data"))
        #expect(before?.inode != after?.inode && before?.modifiedNanoseconds == after?.modifiedNanoseconds)
        #expect(try System.list(fixture.path("\(second)/.raystorage")) == ["manifest.json"])
        #expect(try isEmpty())
    }

    @Test(arguments: ["other", "longer", "gone"])
    func `P4, P5: and is lost, not wrong, when the kernel has dropped its bytes`(damage: String) async throws {
        try await cutOff("content") { directory in
            switch damage {
            case "gone": try System.unlink(fixture.path("\(directory)/data"))
            case "longer": try fixture.write("\(directory)/data", "content and more")
            default: try fixture.write("\(directory)/data", "\0\0\0\0\0\0\0")
            }
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered.isEmpty && opened.lost.map(\.name) == [second])
        #expect(opened.resumedFrom?.sequence?.index == 0)
        #expect(try isEmpty() && !fixture.exists(second))
    }

    @Test func `P4: a manifest that was cut off while it was prepared says that nothing had been fsynced`() async throws
    {
        try await cutOff("content") { directory in
            let text = try fixture.text("\(directory)/\(RunLayout.sealing)")
            try fixture.write("\(directory)/\(RunLayout.sealing)", String(text.prefix(100)))
            try fixture.write("\(directory)/data", "as captured")
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered == [second])
        #expect(try fixture.text("\(second)/data") == "as captured")
    }

    @Test func `the manifest of an older checkpoint inside a captured directory does not travel`() async throws {
        try await killed { opened in
            let attempt = try await fixture.leave(opened, 1, .captured)
            try fixture.write(
                "\(RunLayout.attempt(attempt))/\(RunLayout.manifest)",
                try fixture.text("checkpoint_000001_000000000/\(RunLayout.manifest)"))
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered == [second])
        #expect(try Manifest.read(directory: fixture.path(second))?.attempt.sequence.index == 1)
    }

    @Test func `several are finished in the order of their reports`() async throws {
        try await killed { opened in
            for index in [10, 9, 2] { try await fixture.leave(opened, index, .captured, name: "n\(index)") }
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered == ["n2", "n9", "n10"])
    }

    @Test func `one that was committed just before the kill leaves only its journal entry, which goes`() async throws {
        try await killed { opened in
            let attempt = try await fixture.leave(opened, 1, .sealed)
            #expect(try opened.store.commit(attempt, as: second) == .committed)
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered.isEmpty && opened.lost.isEmpty && opened.resumedFrom?.physicalName == second)
        #expect(try isEmpty())
    }

    @Test func `leftovers of several launches are finished, each under its own name`() async throws {
        try await killed { try await fixture.leave($0, 1, .sealed) }
        // This one cannot finish it: the place is taken meanwhile.
        try fixture.write("\(second)/data", "in the way")
        let middle = try await fixture.open("a")
        #expect(middle.recovered.isEmpty && middle.lost.map(\.name) == [second])
        try await fixture.leave(middle, 0, .captured)
        try fixture.kill(middle)
        try System.removeTree(fixture.path(second))
        let last = try await fixture.open("a")
        #expect(last.recovered == [second, "checkpoint_000002_000000000"])
        // The second launch had gone on from 1.0: what was finished so late is beside its line.
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 stray", "2.0 committed"])
    }

    // MARK: - Lost, and said so

    @Test func `what was captured before the machine went down is lost, not guessed`() async throws {
        try await killed { try await fixture.leave($0, 1, .captured, bootID: "earlier") }
        let opened = try await fixture.open("a")
        #expect(opened.recovered.isEmpty && opened.lost.map(\.name) == [second])
        #expect(opened.lost[0].reason.contains("machine went down"))
        #expect(opened.resumedFrom?.sequence?.index == 0)
        #expect(try isEmpty() && !fixture.exists(second))
    }

    @Test(arguments: [true, false]) func `what was being written when it was killed goes without a word`(
        isIntent: Bool
    ) async throws {
        // With an intent: copied from a directory that is still there, empty so far.
        try await killed { opened in
            let attempt = try await fixture.leave(opened, 1, .begun)
            if isIntent { try System.unlink(opened.store.path("\(RunLayout.attempt(attempt))/data")) }
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered.isEmpty && opened.lost.isEmpty)
        #expect(try isEmpty())
    }

    @Test func `a directory that was being handed over goes back where it was`() async throws {
        let source = fixture.tree.at("mine")
        try await killed { try await fixture.leave($0, 1, .intent(from: source), content: "my only copy") }
        let opened = try await fixture.open("a")
        #expect(try fixture.tree.bytes("mine/data") == Array("my only copy".utf8))
        #expect(opened.lost.map(\.name) == [second] && opened.lost[0].reason.contains(source))
        #expect(try isEmpty())
    }

    @Test func `or beside it, when its owner has made another meanwhile`() async throws {
        let source = fixture.tree.at("mine")
        let attempt = try await killed {
            try await fixture.leave($0, 1, .intent(from: source), content: "my only copy")
        }
        try fixture.tree.file("mine/data", [0x6E])
        let opened = try await fixture.open("a")
        #expect(try fixture.tree.bytes("mine/data") == [0x6E])
        #expect(try fixture.tree.bytes("mine.returned-\(attempt)/data") == Array("my only copy".utf8))
        #expect(opened.lost.count == 1)
    }

    @Test(arguments: ["", "{", "{}", "null"]) func `a journal entry that cannot be read is a report that is lost`(
        text: String
    ) async throws {
        let attempt = try await killed { try await fixture.leave($0, 1, .captured) }
        try fixture.write(RunLayout.captured(attempt), text)
        let opened = try await fixture.open("a")
        #expect(opened.recovered.isEmpty && opened.lost.map(\.name) == [second])
        #expect(try isEmpty())
    }

    @Test(arguments: ["../escaped", "/tmp/escaped", "a/b", "..", ".hidden", ""])
    func `a journal entry whose name leads elsewhere commits nothing there`(name: String) async throws {
        try await killed {
            try await fixture.leave($0, 1, .captured, physicalName: name)
        }
        let opened = try await fixture.open("a")
        #expect(opened.recovered.isEmpty && opened.lost.map(\.name) == [second])
        #expect(opened.resumedFrom?.sequence?.index == 0)
        #expect(try System.status(fixture.tree.at("storage/escaped")) == nil && System.status("/tmp/escaped") == nil)
    }

    // MARK: - Time

    @Test func `when the time for it is over the rest waits for the next launch`() async throws {
        try await killed { opened in
            for index in 1...2 { try await fixture.leave(opened, index, .captured) }
        }
        let hasty = try await fixture.open("a") { $0.drainTimeoutMilliseconds = 0 }
        #expect(hasty.recovered.isEmpty && hasty.lost.isEmpty && hasty.resumedFrom?.sequence?.index == 0)
        #expect(try hasty.store.unfinished().count == 2)
        try fixture.kill(hasty)
        let patient = try await fixture.open("a") { $0.drainTimeoutMilliseconds = -1 }
        #expect(patient.recovered.count == 2)
        let statuses = try await fixture.statuses()
        #expect(statuses == ["1.0 committed", "1.1 stray", "1.2 stray"])
    }

    @Test func `a cancelled opening leaves the rest as it is`() async throws {
        let attempt = try await killed { try await fixture.leave($0, 1, .captured) }
        let progress = Progress()
        var takeover = Takeover(
            options: fixture.options("a"), environment: .system, engine: .shared, progress: progress)
        takeover.wrap = { backend in
            HookedBackend(backend) { _, call in if call.hasSuffix(RunLayout.fence(1)) { progress.cancel() } }
        }
        let error = await #expect(throws: StorageError.self) { _ = try await takeover.open() }
        #expect(error?.code == .cancelled)
        #expect(try fixture.exists(RunLayout.attempt(attempt)) && !fixture.exists(second))
    }

    // MARK: - Other hosts

    @Test(arguments: ["begun", "captured", "sealed"]) func `another host's attempts are left alone while they may live`(
        stage: String
    ) async throws {
        let stages: [String: RunFixture.Stage] = ["begun": .begun, "captured": .captured, "sealed": .sealed]
        let attempt = try await killed { try await fixture.leave($0, 1, try #require(stages[stage])) }
        let environment = Environment.later(7 * 24 * 3600 - 60)
        let opened = try await fixture.open("b", environment: environment)
        #expect(opened.recovered.isEmpty && opened.lost.isEmpty && opened.resumedFrom?.sequence?.index == 0)
        #expect(try fixture.text("\(RunLayout.attempt(attempt))/data") == "x")
        #expect(try fixture.exists(RunLayout.captured(attempt)) == (stage != "begun"))
        try fixture.kill(opened)
        // Back on its own host it becomes a checkpoint, if it can.
        let home = try await fixture.open("a")
        #expect(home.recovered.count == (stage == "begun" ? 0 : 1))
    }

    @Test func `after seven days without change they are collected`() async throws {
        let attempt = try await killed { try await fixture.leave($0, 1, .captured) }
        // This machine's clock alone says nothing: it may be ahead of the server's that stamps the files.
        var ahead = Environment.system
        ahead.now = { Environment.system.now() + 30 * 24 * 3600 }
        try fixture.kill(try await fixture.open("b", environment: ahead))
        #expect(try fixture.text("\(RunLayout.attempt(attempt))/data") == "x")
        _ = try await fixture.open("b", environment: .later(7 * 24 * 3600 + 60))
        #expect(try !fixture.exists(RunLayout.attempt(attempt)) && isEmpty())
    }

    @Test func `a change anywhere inside counts, and so does the journal entry`() async throws {
        let attempts = try await killed { opened in
            try await [fixture.leave(opened, 1, .captured), fixture.leave(opened, 2, .captured)]
        }
        let store = FileCheckpointStore(root: fixture.root, runID: "", durability: .none)
        func isYounger(_ first: Int, _ second: Int) throws -> Bool {
            let clock = StoreClock(local: 9e9, store: 9e9)
            let ages = try [first, second].map { try Leftovers.age(of: attempts[$0], store, clock) }
            return try #require(ages[0]) < #require(ages[1])
        }
        try fixture.write("\(RunLayout.attempt(attempts[0]))/deep/er/file", "")
        // The kernel's clock for files goes in steps.
        for (changed, key) in [
            (0, "\(RunLayout.attempt(attempts[0]))/deep/er/file"), (1, RunLayout.captured(attempts[1])),
        ] {
            var tries = 0
            while try !isYounger(changed, 1 - changed), tries < 100_000 {
                tries += 1
                try fixture.write(key, "\(tries)")
            }
            #expect(try isYounger(changed, 1 - changed))
        }
    }

    @Test func `attempts of this epoch and of later ones are nobody's leftovers`() async throws {
        let opened = try await fixture.open("a")
        let own = try await fixture.leave(opened, 5, .captured)
        try await Leftovers(
            store: opened.store, backend: opened.backend, host: opened.host, hold: opened.hold,
            options: fixture.options("a"), environment: .system, engine: .shared, progress: Progress()
        ).collectForeign()
        #expect(try fixture.exists(RunLayout.attempt(own)))
    }

    // MARK: - Small files

    @Test func `half-written records of this host go, those of others stay`() async throws {
        let opened = try await fixture.open("a")
        let tag = opened.host.temporaryTag
        try fixture.write("\(LocalBackend.temporaryPrefix)/\(tag)-0123", "half")
        try fixture.write("\(LocalBackend.temporaryPrefix)/ffffffff-0123", "half")
        try fixture.kill(opened)
        _ = try await fixture.open("a")
        #expect(try System.list(fixture.path(LocalBackend.temporaryPrefix)) == ["ffffffff-0123"])
    }
}
