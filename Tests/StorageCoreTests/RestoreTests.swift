import CStorage
import Glibc
import Testing

@testable import StorageCore

/// P5: the same bytes come back, or nothing does.
@Suite struct RestoreTests {
    let fixture: TreeFixture

    init() throws { fixture = try TreeFixture() }

    @discardableResult
    func restore(
        _ manifest: Manifest?, from name: String = "c", to destination: String = "out", verify: Bool = true,
        progress: Progress = Progress(), hooks: TransferHooks = .none
    ) async throws(StorageError) -> Restore.Result {
        try await Restore.run(
            from: fixture.at(name), manifest: manifest, to: fixture.at(destination), verify: verify,
            progress: progress, hooks: hooks)
    }

    func expectNoTemporaries() throws {
        for folder in ["", "out"] where try System.exists(fixture.at(folder)) {
            #expect(try !fixture.names(folder).contains { $0.hasPrefix(RestorePlace.prefix) })
        }
    }

    @Test(arguments: 100..<110) func `brings random trees back to the bit`(seed: UInt64) async throws {
        try fixture.random("source", seed: seed)
        let manifest = try await fixture.checkpoint("c", of: "source")
        let read = try #require(try Manifest.read(directory: fixture.at("c")))
        #expect(read.files == manifest.files)
        let result = try await restore(read, verify: seed % 2 == 0)
        #expect(try await fixture.lines("out") == fixture.lines("source"))
        #expect(result.bytes == manifest.bytes && result.verified == (seed % 2 == 0))
        // Again, into what is there now; and without a manifest.
        try await restore(read)
        #expect(try await fixture.lines("out") == fixture.lines("source"))
        let plain = try await restore(nil, to: "plain/deep/er")
        #expect(!plain.verified)
        #expect(try await fixture.lines("plain/deep/er") == fixture.lines("source"))
        try expectNoTemporaries()
    }

    @Test func `brings the sidecar and not our own directory`() async throws {
        try fixture.file("source/a")
        try fixture.file("source/.metadata.json", Array("{}".utf8))
        let manifest = try await fixture.checkpoint("c", of: "source")
        try fixture.file("c/.metadata.json", Array("{\"rewritten\":1}".utf8))
        try await restore(manifest)
        #expect(try fixture.names("out") == ["a", ".metadata.json"])
        #expect(try fixture.bytes("out/.metadata.json").count == 15)
        try await restore(nil, to: "plain")
        #expect(try fixture.names("plain") == ["a", ".metadata.json"])
    }

    @Test func `keeps holes`() async throws {
        try fixture.sparse("source/huge", size: 1 << 36, [(1 << 35, [1])])
        let manifest = try await fixture.checkpoint("c", of: "source")
        try await restore(manifest)
        let status = try System.status(fixture.at("out/huge"))
        #expect(status?.size == 1 << 36 && (status?.blocks ?? .max) < 100)
    }

    @Test(arguments: [0, 9 << 20, (40 << 20) - 1], [false, true])
    func `finds one flipped bit and leaves nothing`(offset: Int, exists: Bool) async throws {
        var generator = SeededGenerator(1)
        try fixture.file("source/model", generator.bytes(40 << 20))
        try fixture.file("source/other")
        let manifest = try await fixture.checkpoint("c", of: "source")
        let byte = try fixture.bytes("c/model")[offset]
        try fixture.overwrite("c/model", at: offset, [byte ^ 4])
        if exists { try fixture.file("out/model", [5]) }
        let before = try exists ? await fixture.lines("out") : []
        let error = await failure { () throws(StorageError) in try await restore(manifest) }
        #expect(error?.code == .checksum)
        #expect(error?.detailsDocument["path"]?.stringValue == fixture.at("c/model"))
        let start = offset / CRC32C.blockSize * CRC32C.blockSize
        #expect(error?.detailsDocument["offset"]?.intValue == start)
        #expect(try System.exists(fixture.at("out")) == exists)
        if exists { #expect(try await fixture.lines("out") == before) }
        try expectNoTemporaries()
        let report = try await Verify.run(directory: fixture.at("c"), manifest: manifest, progress: Progress())
        #expect(report.count == 1 && report.problems.first?.kind == .checksum)
        #expect(report.problems.first?.offset == start && report.problems.first?.path == "model")
    }

    @Test func `verifies kinds, sizes, missing and extra entries`() async throws {
        for name in ["a", "b", "c", "d", "e"] { try fixture.file("source/\(name)") }
        try fixture.directory("source/dir")
        try fixture.link("source/link", to: "a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        let progress = Progress()
        #expect(try await Verify.run(directory: fixture.at("c"), manifest: manifest, progress: progress).isGood)
        try System.unlink(fixture.at("c/a"))
        try fixture.file("c/b", [1])
        try fixture.overwrite("c/c", at: 0, [9])
        try System.unlink(fixture.at("c/d"))
        try fixture.directory("c/d")
        try System.unlink(fixture.at("c/link"))
        try fixture.link("c/link", to: "b")
        try fixture.file("c/zz")
        try fixture.file("c/.metadata.json")
        for sizesOnly in [false, true] {
            let report = try await Verify.run(
                directory: fixture.at("c"), manifest: manifest, sizesOnly: sizesOnly, progress: Progress())
            let found = report.problems.map { "\($0.path) \($0.kind)" }
            let expected = ["a missing", "b size", "c checksum", "d kind", "link kind", "zz extra"]
            #expect(found == expected.filter { !sizesOnly || $0 != "c checksum" })
        }
        let error = await failure { () throws(StorageError) in try await restore(manifest) }
        #expect(error?.code == .checksum && error?.message.contains("missing") == true)
    }

    @Test func `merges into a directory that exists`() async throws {
        try fixture.file("source/sub/a", [1])
        try fixture.file("source/b", [2])
        try fixture.link("source/l", to: "b")
        let manifest = try await fixture.checkpoint("c", of: "source")
        try fixture.file("out/sub/a", [7])
        try fixture.file("out/sub/mine", [8])
        try fixture.link("out/b", to: "sub/mine")
        try await restore(manifest)
        #expect(try fixture.names("out") == ["sub", "b", "l"] && fixture.names("out/sub") == ["a", "mine"])
        #expect(try fixture.bytes("out/sub/a") == [1] && fixture.bytes("out/b") == [2])
        #expect(try fixture.bytes("out/sub/mine") == [8])
    }

    @Test func `never writes through links that stand in the destination`() async throws {
        try fixture.file("source/sub/a", [1])
        try fixture.file("source/z", [1])
        let manifest = try await fixture.checkpoint("c", of: "source")
        try fixture.directory("elsewhere")
        try fixture.file("victim", [6])
        try fixture.directory("out")
        try fixture.link("out/sub", to: "../elsewhere")
        try fixture.link("out/z", to: "../victim")
        let error = await failure { () throws(StorageError) in try await restore(manifest) }
        #expect(error?.code == .alreadyExists && error?.message.contains("out/sub") == true)
        #expect(try fixture.names("elsewhere").isEmpty && fixture.names("out") == ["sub", "z"])
        try System.unlink(fixture.at("out/sub"))
        try await restore(manifest)
        #expect(try fixture.bytes("victim") == [6] && fixture.bytes("out/z") == [1])
        try expectNoTemporaries()
    }

    @Test func `puts everything back when a file cannot be moved into place`() async throws {
        try fixture.file("source/a", [1])
        try fixture.file("source/new/b", [1])
        try fixture.file("source/z", [1])
        let manifest = try await fixture.checkpoint("c", of: "source")
        try fixture.file("out/a", [7])
        try fixture.file("out/z", [8])
        let out = fixture.at("out")
        let before = try await fixture.lines("out")
        let plan = try await RestorePlan.make(
            try RootDirectory(fixture.at("c")), manifest, verify: true, progress: Progress())
        try fixture.directory("built")
        try fixture.directory("old")
        let built = try RootDirectory(fixture.at("built"))
        try await plan.build(
            in: built, from: try RootDirectory(fixture.at("c")), progress: Progress(), hooks: .none)
        // The last one is not there to be moved.
        try System.unlink(fixture.at("built/z"))
        var merge = RestoreMerge(
            plan: plan, source: built, old: try RootDirectory(fixture.at("old")), target: try RootDirectory(out))
        #expect(throws: StorageError.self) { try merge.run(Progress()) }
        #expect(try await fixture.lines("out") == before)
    }

    @Test func `leaves nothing when it is cancelled, parents included`() async throws {
        try fixture.file("source/big", [UInt8](repeating: 1, count: 20 << 20))
        let manifest = try await fixture.checkpoint("c", of: "source")
        let progress = Progress()
        let hooks = TransferHooks(beforeBlock: { _, offset in if offset > 0 { progress.cancel() } })
        let error = await failure { () throws(StorageError) in
            try await restore(manifest, to: "new/deep/out", progress: progress, hooks: hooks)
        }
        #expect(error?.code == .cancelled)
        #expect(try fixture.names() == ["source", "c", "some-run"])
    }

    @Test func `removes what a killed restore has left, and only that`() async throws {
        try fixture.file("source/a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        let place = try RestorePlace(fixture.at("out"))
        let other = try RestorePlace(fixture.at("other"))
        let alive = try place.makeTemporary()
        let foreign = try other.makeTemporary().path
        let dead = try place.makeTemporary().path
        try System.makeDirectory(Path.join(dead, "half"))
        try await restore(manifest)
        #expect(try System.exists(alive.path) && System.exists(foreign) && !System.exists(dead))
        try alive.remove()
        let inside = try RestorePlace(fixture.at("out")).makeTemporary().path
        try await restore(manifest)
        #expect(try !System.exists(inside))
    }

    @Test func `lets several restore to one new place at once`() async throws {
        try fixture.random("source", seed: 77)
        let manifest = try await fixture.checkpoint("c", of: "source")
        let failures = await withTaskGroup(of: StorageError?.self) { group in
            for _ in 0..<6 {
                group.addTask { await failure { () throws(StorageError) in try await restore(manifest) } }
            }
            return await group.reduce(into: [StorageError]()) { if let error = $1 { $0.append(error) } }
        }
        #expect(failures == [])
        #expect(try await fixture.lines("out") == fixture.lines("source"))
        try expectNoTemporaries()
    }

    @Test(arguments: ["c", "c/sub", "c/new/deep", "c/sub/../x", "link", "link/new", "file", "dangling", "none/../../x"])
    func `refuses places inside the checkpoint and places that are none`(place: String) async throws {
        try fixture.file("source/sub/a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        try fixture.link("link", to: "c")
        try fixture.file("file")
        try fixture.link("dangling", to: "nowhere")
        let error = await failure { () throws(StorageError) in try await restore(manifest, to: place) }
        #expect(error?.code == .invalidArgument)
        #expect(try fixture.names("c") == ["sub", ".raystorage"] && fixture.names("c/sub") == ["a"])
    }

    @Test func `refuses links that leave in a checkpoint without a manifest`() async throws {
        try fixture.link("c/l", to: "../../etc/passwd")
        #expect(await failure { () throws(StorageError) in try await restore(nil) }?.code == .invalidArgument)
        #expect(try !System.exists(fixture.at("out")))
    }
}
