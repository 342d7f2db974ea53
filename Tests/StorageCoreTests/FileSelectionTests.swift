import Testing

@testable import StorageCore

/// Which files of a checkpoint paths and patterns mean.
@Suite struct FileSelectionTests {
    private static let entries: [FileSelection.Entry] = [
        .init(path: "config.json"), .init(path: "a[0].bin"), .init(path: "a0.bin"), .init(path: ".hidden"),
        .init(path: "rank_0", isDirectory: true), .init(path: "rank_0/model.bin"),
        .init(path: "rank_0/deep", isDirectory: true), .init(path: "rank_0/deep/state.json"),
        .init(path: "rank_0-old", isDirectory: true), .init(path: "rank_0-old/model.bin"),
        .init(path: "rank_1", isDirectory: true), .init(path: "rank_1/model.bin"),
        .init(path: "latest", target: "now/model.bin"), .init(path: "now", target: "rank_1"),
        .init(path: "nowhere", target: "gone"), .init(path: "round", target: "round"),
        .init(path: "empty", isDirectory: true), .init(path: "é"),
    ]

    private func chosen(_ patterns: [String], _ entries: [FileSelection.Entry] = entries) throws -> Set<String> {
        let isChosen = try FileSelection(patterns).choose(among: entries, of: "/ckpt")
        return Set(zip(entries, isChosen).filter(\.1).map(\.0.path))
    }

    /// U+0600 is written before what it belongs to: Swift sees one character in it and a slash.
    @Test func `a slash and a star are themselves, whatever stands before them`() throws {
        let entries: [FileSelection.Entry] = [
            .init(path: "a\u{600}", isDirectory: true), .init(path: "a\u{600}/b"), .init(path: "c"),
        ]
        #expect(try chosen(["a\u{600}/"], entries) == ["a\u{600}", "a\u{600}/b"])
        #expect(try FileSelection(["a\u{600}*"]).listedPrefix == "a\u{600}")
    }

    @Test(arguments: [
        ("config.json", "config.json"), ("*.json", "config.json"), ("**/*.json", "config.json rank_0/deep/state.json"),
        ("*/model.bin", "rank_0/model.bin rank_0-old/model.bin rank_1/model.bin"),
        ("rank_?/model.bin", "rank_0/model.bin rank_1/model.bin"), ("rank_[!0]/*", "rank_1/model.bin"),
        ("rank_[1-9]/*", "rank_1/model.bin"), ("rank_0/**", "rank_0/model.bin rank_0/deep rank_0/deep/state.json"),
        ("rank_0/**/state.json", "rank_0/deep/state.json"), ("**/rank_1/**/model.bin", "rank_1/model.bin"),
        // A directory brings everything below it, and nothing beside it.
        ("rank_0", "rank_0 rank_0/model.bin rank_0/deep rank_0/deep/state.json"),
        ("rank_0/", "rank_0 rank_0/model.bin rank_0/deep rank_0/deep/state.json"),
        ("rank_0-*", "rank_0-old rank_0-old/model.bin"), ("**/deep/", "rank_0/deep rank_0/deep/state.json"),
        ("empty", "empty"),
        // What is the name of something means that.
        ("a[0].bin", "a[0].bin"), ("a[0-0].bin", "a0.bin"), ("a[[]0].bin", "a[0].bin"), ("a[]0].bin", "a0.bin"),
        ("?hidden", ".hidden"), ("?", "é"), ("[é]", "é"),
        // Links bring what they lead to, links on the way among it.
        ("latest", "latest now rank_1 rank_1/model.bin"), ("now", "now rank_1 rank_1/model.bin"),
        ("nowhere", "nowhere"), ("round", "round"),
    ])
    func `a path or pattern`(_ pattern: String, _ expected: String) throws {
        var whole = Set(expected.split(separator: " ").map(String.init))
        // The directories that something lies in are made.
        for path in whole {
            for (index, letter) in path.enumerated() where letter == "/" { whole.insert(String(path.prefix(index))) }
        }
        #expect(try chosen([pattern]) == whole)
    }

    @Test func `several together, and everything`() throws {
        #expect(try chosen(["config.json", "rank_1"]) == ["config.json", "rank_1", "rank_1/model.bin"])
        let everything = Set(Self.entries.map(\.path))
        for pattern in ["**", "*"] { #expect(try chosen([pattern]) == everything) }
    }

    @Test(arguments: [
        "confg.json", "*.txt", "config.json/", "rank_9", "RANK_0", "rank_0/*.json", "latest/x", "[a", "empty/**",
        "model.bin",
    ])
    func `what means nothing is named`(_ pattern: String) throws {
        let error = #expect(throws: StorageError.self) { try chosen(["config.json", pattern]) }
        #expect(error?.code == .notFound && error?.message.contains("\"\(pattern)\"") == true)
        #expect(error?.detailsDocument["file"]?.stringValue == pattern)
    }

    @Test(arguments: [
        [], [""], ["/"], ["/config.json"], ["../x"], ["a/../b"], ["./config.json"], ["a//b"],
        [".raystorage/manifest.json"],
        ["config.json", "a\0b"],
    ])
    func `what no checkpoint can hold is refused`(_ patterns: [String]) throws {
        let error = #expect(throws: StorageError.self) { try FileSelection(patterns) }
        #expect(error?.code == .invalidArgument && error?.detailsDocument["name"] == "include")
    }

    @Test(arguments: [
        (["config.json"], "config.json"), (["config.json", "con*"], "con"), (["a", "b"], ""), (["*"], ""),
        (["rank_0/deep/x", "rank_0/deep/y"], "rank_0/"), (["rank_0/", "rank_0/*"], "rank_0"), (["a[0]"], "a"),
        (["\u{e9}a", "\u{e8}a"], ""),
    ])
    func `a listing holds what is selected and the directory at the top around it`(
        _ patterns: [String], _ prefix: String
    )
        throws
    {
        #expect(try FileSelection(patterns).listedPrefix == prefix)
    }

    @Test func `many patterns that go back often end soon`() throws {
        let name = String(repeating: "a", count: 200)
        let pattern = String(repeating: "*a", count: 60) + "*b"
        let deep = Array(repeating: name, count: 15).joined(separator: "/")
        #expect(!GlobPattern(pattern).matches(GlobPattern.split(name)))
        let nested = Array(repeating: "**/a*", count: 8).joined(separator: "/") + "/b"
        #expect(!GlobPattern(nested).matches(GlobPattern.split(deep)))
    }
}
