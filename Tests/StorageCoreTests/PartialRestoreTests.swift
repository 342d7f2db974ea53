import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// Some files of a checkpoint, on every kind of storage.
@Suite struct PartialRestoreTests {
    private func committed(_ fixture: RunFixture) async throws -> String {
        let run = try await fixture.train()
        let tree = fixture.tree
        try tree.file("source/config.json", Array("{}".utf8))
        try tree.file("source/rank_0/model", [0, 0])
        try tree.file("source/rank_1/model", [1, 1, 1])
        try tree.file("source/rank_1/\u{e9}", [7])
        try tree.link("source/latest", to: "rank_1/model")
        try tree.directory("source/rank_1", mode: 0o750)
        let report = try run.report(
            metricsJSON: Array("{}".utf8), directory: tree.at("source"), options: ReportOptions())
        try report.wait(Deadline(timeoutMilliseconds: 600_000))
        let name = CheckpointName.automatic(ReportSequence(epoch: 1, index: 0))
        try await access(fixture, name).setMetadata("{\"a\":1}", progress: Progress())
        try fixture.close(run)
        return name
    }

    private func access(_ fixture: RunFixture, _ name: String) throws -> CheckpointAccess {
        try CheckpointAccess(fixture.path(name), environment: .system, opener: fixture.opener)
    }

    @discardableResult
    private func restore(
        _ fixture: RunFixture, _ name: String, _ patterns: [String], to target: String = "target", verify: Bool = true
    ) async throws -> JSONValue {
        try await access(fixture, name).download(
            try FileSelection(patterns), to: fixture.tree.at(target), verify: verify, progress: Progress())
    }

    /// Flips a bit of a file of the checkpoint.
    private func damage(_ fixture: RunFixture, _ key: String) throws {
        if fixture.kind == .objects {
            fixture.memory.tamper("storage/run/\(key)") { $0[0] ^= 1 }
        } else {
            try fixture.tree.overwrite("storage/run/\(key)", at: 0, [0x55])
        }
    }

    @Test(arguments: RunFixture.Kind.allCases)
    func `P5 what is selected comes whole, with modes and times, and nothing else is read`(_ kind: RunFixture.Kind)
        async throws
    {
        let fixture = try RunFixture(kind)
        let name = try await committed(fixture)
        // What is wrong with others is no matter.
        try damage(fixture, "\(name)/rank_0/model")
        let before = fixture.memory.calls.count
        let document = try await restore(fixture, name, ["rank_1/"])
        #expect(document["files"] == 2 && document["bytes"] == 4 && document["verified"] == true)
        let lines = try await fixture.tree.lines("source").filter { $0.contains("rank_1".utf8Text) }
        #expect(try await fixture.tree.lines("target") == lines)
        if kind == .objects {
            let calls = fixture.memory.calls[before...]
            let data = calls.filter { $0.operation == .getRange }.map(\.key).sorted()
            #expect(data == ["rank_1/model", "rank_1/\u{e9}"].map { "storage/run/\(name)/\($0)" })
            // The manifest, whose run it is of, and whether it was committed.
            #expect(calls.count == data.count + 3 && !calls.contains { $0.key.hasSuffix(RunLayout.metadata) })
        }
        // A link brings its file; the sidecar comes when it is asked for.
        try await restore(fixture, name, ["latest", ".metadata.json"], to: "linked")
        #expect(try fixture.tree.names("linked") == ["latest", "rank_1", ".metadata.json"])
        #expect(try fixture.tree.bytes("linked/latest") == [1, 1, 1])
        #expect(try fixture.tree.bytes("linked/.metadata.json") == Array("{\"a\":1}".utf8))
    }

    @Test(arguments: RunFixture.Kind.allCases)
    func `P5 a flipped bit in what is selected leaves the destination as it was`(_ kind: RunFixture.Kind) async throws {
        let fixture = try RunFixture(kind)
        let name = try await committed(fixture)
        try damage(fixture, "\(name)/rank_0/model")
        try fixture.tree.file("target/mine", [9])
        let before = try await fixture.tree.lines("target")
        let error = await #expect(throws: StorageError.self) {
            try await restore(fixture, name, ["rank_0/model", "config.json"])
        }
        #expect(error?.code == .checksum && error?.detailsDocument["file"] == "rank_0/model")
        #expect(try await fixture.tree.lines("target") == before)
        // Merged: what is there stays, what is selected replaces its namesake.
        try fixture.tree.file("target/config.json", [9])
        try await restore(fixture, name, ["config.json"])
        #expect(try fixture.tree.names("target") == ["mine", "config.json"])
        #expect(try fixture.tree.bytes("target/config.json") == Array("{}".utf8))
    }

    @Test(arguments: RunFixture.Kind.allCases)
    func `a name or pattern that means nothing is an error before anything is fetched or written`(
        _ kind: RunFixture.Kind
    ) async throws {
        let fixture = try RunFixture(kind)
        let name = try await committed(fixture)
        let before = fixture.memory.calls.count
        let error = await #expect(throws: StorageError.self) {
            try await restore(fixture, name, ["config.json", "rank_2/*"])
        }
        #expect(error?.code == .notFound && error?.message.contains("\"rank_2/*\"") == true)
        #expect(try System.status(fixture.tree.at("target")) == nil)
        #expect(!fixture.memory.calls[before...].contains { $0.operation == .getRange })
        // An own name is one, too.
        try await access(fixture, name).setMetadata("{}", progress: Progress())
        try await restore(fixture, name, [".meta*"])
        #expect(try fixture.tree.names("target") == [".metadata.json"])
    }

    @Test(arguments: RunFixture.Kind.allCases)
    func `P1 a part does not go where it would be taken for a whole`(_ kind: RunFixture.Kind) async throws {
        let fixture = try RunFixture(kind)
        let name = try await committed(fixture)
        let other = try RunFixture(.files)
        let second = try await committed(other)
        for place in ["storage/run", "storage/run/checkpoint_x", "storage/run/a/b", "storage/run/\(second)"] {
            let before = try await other.tree.lines("storage")
            let error = await #expect(throws: StorageError.self) {
                try await access(fixture, name).download(
                    try FileSelection(["config.json"]), to: other.tree.at(place), verify: true, progress: Progress())
            }
            #expect(error?.code == .invalidArgument, "\(place)")
            #expect(try await other.tree.lines("storage") == before)
        }
    }

    @Test(arguments: RunFixture.Kind.allCases)
    func `ranks of one machine restore their parts side by side`(_ kind: RunFixture.Kind) async throws {
        let fixture = try RunFixture(kind)
        let name = try await committed(fixture)
        async let zero = restore(fixture, name, ["rank_0"])
        async let one = restore(fixture, name, ["rank_1", "config.json"])
        _ = try await (zero, one)
        #expect(try fixture.tree.names("target") == ["rank_0", "rank_1", "config.json"])
        #expect(try fixture.tree.bytes("target/rank_0/model") == [0, 0])
        #expect(try fixture.tree.bytes("target/rank_1/model") == [1, 1, 1])
    }

    @Test func `P1 a link that took a directory's place is not read through`() async throws {
        let fixture = try RunFixture(.files)
        let name = try await committed(fixture)
        let tree = fixture.tree
        try System.rename(tree.at("storage/run/\(name)/rank_1"), to: tree.at("elsewhere"))
        try tree.link("storage/run/\(name)/rank_1", to: "../../../elsewhere")
        let error = await #expect(throws: StorageError.self) { try await restore(fixture, name, ["rank_1/model"]) }
        #expect(error?.code == .checksum)
    }

    @Test func `P1 evicted meanwhile is not found, never a part`() async throws {
        let fixture = try RunFixture(.objects)
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let (view, once) = try fixture.evicting(entry, of: opened) { $0 == .getRange }
        let error = await #expect(throws: StorageError.self) {
            try await CheckpointAccess(fixture.path(entry.physicalName), environment: .system, opener: view.opener)
                .download(
                    try FileSelection(["data"]), to: fixture.tree.at("target"), verify: true, progress: Progress())
        }
        #expect(once.happened && error?.code == .notFound && error?.message.contains("evicted") == true)
        #expect(try System.status(fixture.tree.at("target")) == nil)
    }

    @Test func `of plain prefixes and directories too, unverified`() async throws {
        let fixture = try RunFixture(.objects)
        for (key, bytes) in [("a/b", [1]), ("a/c", [2]), ("ab", [3]), ("z/\u{e9}", [4])] as [(String, [UInt8])] {
            fixture.memory.place("storage/plain/\(key)", bytes)
            try fixture.tree.file("plain/\(key)", bytes)
        }
        let stored = try CheckpointAccess(
            "\(fixture.bucket)/storage/plain", environment: .system, opener: fixture.opener)
        for (number, access) in [stored, try CheckpointAccess(fixture.tree.at("plain"))].enumerated() {
            let target = fixture.tree.at("target\(number)")
            let before = fixture.memory.calls.count
            let document = try await access.download(
                try FileSelection(["a/*"]), to: target, verify: true, progress: Progress())
            #expect(document["verified"] == false && document["files"] == 2)
            #expect(Set(try System.list(target)) == ["a"])
            #expect(try OpenFile(Path.join(target, "a/c"), O_RDONLY).readAll(limit: 9) == [2])
            let error = await #expect(throws: StorageError.self) {
                try await access.download(
                    try FileSelection(["a/d"]), to: target, verify: true, progress: Progress())
            }
            #expect(error?.code == .notFound && error?.message.contains("\"a/d\"") == true)
            let calls = fixture.memory.calls[before...]
            #expect(calls.filter { $0.operation == .getRange }.count == (number == 0 ? 2 : 0))
            let listed = Set(calls.filter { $0.operation == .list }.map(\.key))
            #expect(listed == (number == 0 ? ["storage/plain/", "storage/plain/a/"] : []))
        }
    }
}

extension String {
    /// As `TreeFixture.lines` shows a path, without the brackets.
    fileprivate var utf8Text: String { Array(utf8).map(String.init).joined(separator: ", ") }
}
