import CStorage
import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// P3, and the odd input of the first issue.
@Suite struct CaptureTests {
    let fixture: TreeFixture

    init() throws {
        fixture = try TreeFixture()
        try fixture.directory("run/.raystorage/attempts")
    }

    var attempt: String { fixture.at("run/.raystorage/attempts/1-0-ab") }

    func capture(
        _ source: String = "source", handOver: Bool = false, progress: Progress = Progress(),
        hooks: TransferHooks = .none
    ) async throws(StorageError) -> Capture.Result {
        try await Capture.run(
            source: fixture.at(source), into: attempt, handOver: handOver, runDirectory: fixture.at("run"),
            progress: progress, hooks: hooks)
    }

    func seal(_ captured: Capture.Result?, hooks: TransferHooks = .none) async throws(StorageError) -> [FileRecord] {
        try await Seal.run(
            directory: attempt, captured: captured, durability: .fsync, progress: Progress(), hooks: hooks)
    }

    @Test(arguments: [(0, 1), (1 << 20, 2), (1 << 40, 16)])
    func `P6: two reports that share a limit never have more buffers than it allows`(
        limit: Int, most: Int
    ) async throws {
        for name in ["one", "two"] {
            try fixture.file("\(name)/large", [UInt8](repeating: 7, count: 12 << 20))
            for index in 0..<20 { try fixture.file("\(name)/\(index)", [UInt8](repeating: 3, count: 100_000)) }
        }
        let pool = BufferPool(limitBytes: limit)
        let fixture = fixture
        try await withThrowingTaskGroup(of: Void.self) { group in
            for name in ["one", "two"] {
                group.addTask(executorPreference: Engine.shared) {
                    let attempt = fixture.at("run/.raystorage/attempts/\(name)")
                    var captured = try await Capture.run(
                        source: fixture.at(name), into: attempt, handOver: false, runDirectory: fixture.at("run"),
                        progress: Progress(), buffers: pool)
                    for index in captured.files.indices { captured.files[index].sums = nil }
                    _ = try await Seal.run(
                        directory: attempt, captured: captured, durability: .none, progress: Progress(), buffers: pool)
                }
            }
            try await group.waitForAll()
        }
        #expect(pool.peak >= 1 && pool.peak <= most)
        for name in ["one", "two"] {
            let lines = try await fixture.lines(name)
            #expect(try await TreeFixture.lines(fixture.at("run/.raystorage/attempts/\(name)")) == lines)
        }
    }

    func expectNothingLeft() throws {
        #expect(try fixture.names("run/.raystorage/attempts").isEmpty)
    }

    @Test(arguments: 0..<12) func `captures random trees to the bit`(seed: UInt64) async throws {
        try fixture.random("source", seed: seed)
        let before = try await fixture.lines("source")
        let handOver = seed % 3 == 2
        let progress = Progress()
        let result = try await capture(handOver: handOver, progress: progress)
        #expect(try await TreeFixture.lines(attempt) == before)
        #expect(result.method == (handOver ? .renamed : .copied))
        #expect(try System.exists(fixture.at("source")) == !handOver)
        if !handOver { #expect(try await fixture.lines("source") == before) }
        let records = try await seal(result)
        #expect(try await seal(nil) == records)
        #expect(progress.bytesDone.load(ordering: .relaxed) == progress.bytesTotal.load(ordering: .relaxed))
        for record in records where record.kind == .file {
            let bytes = try OpenFile(Path.join(attempt, record.path), O_RDONLY).readAll(limit: 1 << 30)
            #expect(record.crc32c == CRC32C.of(bytes) && record.size == bytes.count)
            #expect(record.blocks.count == CRC32C.blockCount(size: record.size))
        }
    }

    @Test func `keeps empty directories, empty checkpoints and names of 255 bytes`() async throws {
        try fixture.directory("source/empty/inner")
        try fixture.file("source/" + String(repeating: "n", count: 255))
        let result = try await capture()
        #expect(try await fixture.lines("source") == TreeFixture.lines(attempt))
        #expect(result.fileCount == 1 && result.files.count == 3)
        try TreeRemoval.remove(attempt)
        try fixture.directory("nothing")
        #expect(try await capture("nothing").files.isEmpty)
    }

    @Test func `keeps composed and decomposed names apart`() async throws {
        try fixture.file("source/\u{E9}", [1])
        try fixture.file("source/e\u{301}", [2])
        let records = try await seal(try await capture())
        #expect(records.count == 2 && records[0] != records[1])
        let root = try RootDirectory(attempt)
        #expect(try fixture.bytes("run/.raystorage/attempts/1-0-ab/\u{E9}") == [1])
        #expect(try fixture.bytes("run/.raystorage/attempts/1-0-ab/e\u{301}") == [2])
        #expect(try root.status("\u{E9}")?.inode != root.status("e\u{301}")?.inode)
    }

    @Test func `takes a directory through a link to it`() async throws {
        try fixture.file("real/a")
        try fixture.link("source", to: "real")
        #expect(try await capture().fileCount == 1)
    }

    @Test(arguments: [false, true]) func `leaves out our own directory and keeps the sidecar out of the records`(
        handOver: Bool
    ) async throws {
        try fixture.file("source/a")
        try fixture.file("source/.metadata.json", Array("{}".utf8))
        try fixture.file("source/.raystorage/manifest.json", Array("{}".utf8))
        try fixture.file("source/sub/.raystorage/kept")
        let result = try await capture(handOver: handOver)
        #expect(try System.list(attempt).sorted() == [".metadata.json", "a", "sub"])
        let records = try await seal(result)
        #expect(records.map(\.path) == ["a", "sub", "sub/.raystorage", "sub/.raystorage/kept"])
    }

    @Test func `keeps links that stay inside, loops and dangling ones too`() async throws {
        try fixture.file("source/deep/er/file")
        let links = [
            "here": "deep/er/file", "deep/up": "../here", "loop": "loop", "a": "b", "b": "a", "dangling": "no/where",
            "deep/root": "..", "dot": ".", "through": "deep/root/here", "double": "deep//er/../er/./file",
        ]
        for (name, target) in links { try fixture.link("source/\(name)", to: target) }
        let result = try await capture()
        #expect(try await fixture.lines("source") == TreeFixture.lines(attempt))
        #expect(result.fileCount == links.count + 1)
    }

    @Test(arguments: [
        ("out", "..", ""), ("out", "/etc/passwd", ""), ("sub/out", "../../x", ""), ("out", "sub/../../x", ""),
        // Each is inside by its words; the first leaves through the second.
        ("out", "sub/up/x", "sub/up=../.."), ("out", "hop/..", "hop=sub/.."), ("out", "../source/a", ""),
    ])
    func `refuses links that leave, naming link and target`(name: String, target: String, other: String) async throws {
        try fixture.file("source/sub/a")
        try fixture.link("source/\(name)", to: target)
        let parts = other.split(separator: "=").map(String.init)
        if parts.count == 2 { try fixture.link("source/\(parts[0])", to: parts[1]) }
        for handOver in [false, true] {
            let error = await failure { () throws(StorageError) in _ = try await capture(handOver: handOver) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.detailsDocument["target"] != nil && error?.detailsDocument["path"] != nil)
            #expect(try System.exists(fixture.at("source/sub/a")))
            try expectNothingLeft()
        }
    }

    @Test func `refuses a FIFO, a socket and a name that is not UTF-8 before anything is copied`() async throws {
        try fixture.file("source/a")
        try System.check("mkfifo", "pipe") { mkfifo(fixture.at("source/pipe"), 0o600) }
        let touched = Counter()
        let hooks = TransferHooks(beforeBlock: { _, _ in _ = touched.next() })
        var error = await failure { () throws(StorageError) in _ = try await capture(hooks: hooks) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("FIFO") == true && error?.detailsDocument["allowed"] != nil)
        #expect(error?.detailsDocument["path"]?.stringValue == fixture.at("source/pipe"))
        try System.unlink(fixture.at("source/pipe"))

        try System.check("mknod", "socket") { mknod(fixture.at("source/socket"), S_IFSOCK | 0o600, 0) }
        error = await failure { () throws(StorageError) in _ = try await capture(hooks: hooks) }
        #expect(error?.message.contains("socket") == true && error?.code == .invalidArgument)
        try System.unlink(fixture.at("source/socket"))

        let name: [CChar] = Array(fixture.at("source/bad").utf8CString.dropLast()) + [-1, 0]
        let made = name.withUnsafeBufferPointer { $0.baseAddress.map { mkdir($0, 0o755) } }
        #expect(made == 0)
        error = await failure { () throws(StorageError) in _ = try await capture(hooks: hooks) }
        #expect(error?.message.contains("UTF-8") == true && error?.code == .invalidArgument)
        #expect(touched.next() == 0)
        try expectNothingLeft()
        // Such a name does not stop a removal.
        try TreeRemoval.remove(fixture.at("source"))
        #expect(try !System.exists(fixture.at("source")))
    }

    @Test func `refuses sources that overlap the run`() async throws {
        try fixture.file("run/a")
        try fixture.file("run/.raystorage/trash/x/a")
        for source in ["run", "", "run/.raystorage/trash/x", "run/.raystorage"] {
            let error = await failure { () throws(StorageError) in _ = try await capture(source) }
            #expect(error?.code == .invalidArgument)
        }
        #expect(await failure { () throws(StorageError) in _ = try await capture("absent") }?.code == .notFound)
        #expect(await failure { () throws(StorageError) in _ = try await capture("run/a") }?.code == .invalidArgument)
        try expectNothingLeft()
    }

    @Test func `copies a committed checkpoint but does not take it over`() async throws {
        try fixture.file("run/.raystorage/run.json")
        try fixture.file("run/checkpoint_1/.raystorage/manifest.json")
        try fixture.file("run/checkpoint_1/a")
        let error = await failure { () throws(StorageError) in _ = try await capture("run/checkpoint_1", handOver: true)
        }
        #expect(error?.code == .invalidArgument && error?.message.contains("committed") == true)
        #expect(try await capture("run/checkpoint_1").fileCount == 1)
    }

    @Test(arguments: [20 << 20, 300 << 20]) func `finds a file that is cut short between two blocks`(size: Int)
        async throws
    {
        try fixture.sparse("source/big", size: size, [(0, [1]), (9 << 20, [2]), (size - 1, [3])])
        try fixture.file("source/other")
        let path = fixture.at("source/big")
        let hooks = TransferHooks(beforeBlock: { name, offset in
            if name == path, offset == 8 << 20 { truncate(path, 9 << 20) }
        })
        let error = await failure { () throws(StorageError) in _ = try await capture(hooks: hooks) }
        #expect(error?.code == .precondition && error?.message.contains("changed while it was being captured") == true)
        #expect(error?.detailsDocument["path"]?.stringValue == path)
        try expectNothingLeft()
    }

    @Test(arguments: ["grow", "write", "replace"]) func `finds a file that is written to while it is copied`(
        how: String
    ) async throws {
        try fixture.file("source/big", [UInt8](repeating: 7, count: 100_000))
        let (path, other) = (fixture.at("source/big"), fixture.at("other"))
        try fixture.file("other", [UInt8](repeating: 8, count: 100_000))
        let hooks = TransferHooks(beforeBlock: { _, _ in
            switch how {
            case "grow": truncate(path, 100_001)
            case "write":
                // A time that differs, whatever the clock's grain.
                var times = (timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0))
                withUnsafePointer(to: &times) {
                    $0.withMemoryRebound(to: timespec.self, capacity: 2) { _ = utimensat(AT_FDCWD, path, $0, 0) }
                }
            default: Glibc.rename(other, path)
            }
        })
        let error = await failure { () throws(StorageError) in
            let captured = try await capture(hooks: hooks)
            // The file that was read is whole when it was replaced by name: both outcomes are right.
            if how == "replace" { throw StorageError(.precondition, "\(captured.bytes)") }
        }
        #expect(error?.code == .precondition)
    }

    @Test func `leaves nothing behind when it is cancelled`() async throws {
        try fixture.file("source/big", [UInt8](repeating: 7, count: 30 << 20))
        let progress = Progress()
        let hooks = TransferHooks(beforeBlock: { _, _ in progress.cancel() })
        let error = await failure { () throws(StorageError) in _ = try await capture(progress: progress, hooks: hooks) }
        #expect(error?.code == .cancelled)
        try expectNothingLeft()
        #expect(try System.exists(fixture.at("source/big")))
    }

    @Test func `keeps holes and does not read them`() async throws {
        let size = 1 << 40
        try fixture.sparse("source/huge", size: size, [(0, [1]), (size / 2, [2])])
        try fixture.sparse("source/hole", size: 50 << 20, [])
        let result = try await capture()
        let copy = try System.status(attempt + "/huge")
        #expect(copy?.size == size && (copy?.blocks ?? .max) < 1000)
        #expect(try System.status(attempt + "/hole")?.blocks == 0)
        let sums = result.files.first { $0.path == "huge" }?.sums
        var expected = CRC32C.updateZeros(CRC32C.of([1]), count: size / 2 - 1)
        expected = CRC32C.updateZeros(CRC32C.combine(expected, CRC32C.of([2]), secondLength: 1), count: size / 2 - 1)
        #expect(sums?.crc32c == expected)
        #expect(try await seal(nil).first { $0.path == "huge" }?.crc32c == expected)
    }

    @Test func `copies what has several names even when it is handed over`() async throws {
        try fixture.file("source/ro/a", [1, 2, 3])
        try fixture.file("source/b")
        try System.check("link", "a") { Glibc.link(fixture.at("source/ro/a"), fixture.at("kept")) }
        try System.check("chmod", "ro") { chmod(fixture.at("source/ro"), 0o555) }
        let before = try await fixture.lines("source")
        let captured = try await capture(handOver: true)
        #expect(captured.method == .renamed)
        #expect(try await TreeFixture.lines(attempt) == before)
        try fixture.overwrite("kept", at: 0, [9])
        #expect(try fixture.bytes("run/.raystorage/attempts/1-0-ab/ro/a") == [1, 2, 3])
        #expect(try await seal(captured).map(\.crc32c) == seal(nil).map(\.crc32c))
    }

    @Test func `copies what it cannot rename and says so`() async throws {
        let other = try TreeFixture(in: "/dev/shm")
        try other.file("source/a")
        let result = try await Capture.run(
            source: other.at("source"), into: attempt, handOver: true, runDirectory: fixture.at("run"),
            progress: Progress())
        #expect(result.method == .copied && result.removesSourceAfterCommit)
        #expect(try System.exists(other.at("source/a")) && System.exists(attempt + "/a"))
    }

    @Test func `gives a directory back when taking it over fails`() async throws {
        try fixture.file("source/a", [UInt8](repeating: 1, count: 1000))
        try System.check("link", "a") { Glibc.link(fixture.at("source/a"), fixture.at("kept")) }
        try fixture.directory("source/.raystorage")
        let before = try await fixture.lines("source")
        let progress = Progress()
        let hooks = TransferHooks(beforeBlock: { _, _ in progress.cancel() })
        // One block is read after the cancellation was looked for; the next look is at the next file.
        try fixture.file("source/b", [UInt8](repeating: 1, count: 1000))
        try System.check("link", "b") { Glibc.link(fixture.at("source/b"), fixture.at("kept2")) }
        _ = before
        let whole = try await fixture.lines("source")
        let error = await failure { () throws(StorageError) in
            _ = try await capture(handOver: true, progress: progress, hooks: hooks)
        }
        #expect(error?.code == .cancelled)
        #expect(try await fixture.lines("source") == whole)
        #expect(try fixture.names("source") == ["a", "b", ".raystorage"])
        try expectNothingLeft()
    }

    @Test func `takes a private directory's content out of privacy`() async throws {
        try fixture.file("source/a")
        chmod(fixture.at("source"), 0o700)
        let plain = try System.status(fixture.at("run/.raystorage/attempts"))?.mode
        _ = try await capture(handOver: true)
        #expect(try System.status(attempt)?.mode == plain)
    }

    @Test func `finds what changed between capture and seal`() async throws {
        try fixture.file("source/a", [1, 2, 3])
        let captured = try await capture(handOver: true)
        let path = attempt + "/a"
        let hooks = TransferHooks(beforeBlock: { _, _ in truncate(path, 2) })
        let error = await failure { () throws(StorageError) in _ = try await seal(captured, hooks: hooks) }
        #expect(error?.code == .precondition && error?.message.contains("sealed") == true)
    }

    @Test(arguments: [true, false]) func `finds entries that come or go after a hand-over`(comes: Bool) async throws {
        try fixture.file("source/a")
        try fixture.file("source/z")
        let captured = try await capture(handOver: true)
        if comes { try fixture.file("run/.raystorage/attempts/1-0-ab/more") } else { try System.unlink(attempt + "/z") }
        let error = await failure { () throws(StorageError) in _ = try await seal(captured) }
        #expect(error?.code == .precondition && error?.message.contains("came or went") == true)
    }

    @Test func `takes a failed fsync for final`() async throws {
        try fixture.file("source/a")
        try fixture.file("source/b")
        let captured = try await capture()
        let hooks = TransferHooks(sync: { $0.hasSuffix("/b") ? EIO : 0 })
        let error = await failure { () throws(StorageError) in _ = try await seal(captured, hooks: hooks) }
        #expect(error?.code == .io && error?.detailsDocument["errno_name"]?.stringValue == "EIO")
        #expect(error?.detailsDocument["path"]?.stringValue == attempt + "/b")
    }

    @Test func `goes as deep as the kernel does`() async throws {
        let deep = Array(repeating: "d", count: 1900).joined(separator: "/")
        try fixture.directory("source")
        let root = try RootDirectory(fixture.at("source"))
        var path = ""
        for _ in 0..<1900 {
            path += path.isEmpty ? "d" : "/d"
            try root.makeDirectory(path, mode: 0o755)
        }
        #expect(path == deep)
        #expect(try await capture().files.count == 1900)
        try TreeRemoval.remove(attempt)
        try expectNothingLeft()
    }
}
