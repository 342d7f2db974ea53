import Testing

@testable import StorageCore

@Suite struct ManifestTests {
    static func file(_ path: String, _ bytes: [UInt8] = []) -> FileRecord {
        let crc = CRC32C.of(bytes)
        return FileRecord(
            path: path, kind: .file, size: bytes.count, mode: 0o644, modifiedNanoseconds: 1_700_000_000_123_456_789,
            crc32c: crc, blocks: bytes.isEmpty ? [] : [crc])
    }

    static func directory(_ path: String) -> FileRecord {
        FileRecord(
            path: path, kind: .directory, size: 0, mode: 0o755, modifiedNanoseconds: -5, crc32c: 0, blocks: [])
    }

    static func link(_ path: String, _ target: String) -> FileRecord {
        var record = directory(path)
        record.kind = .symlink(target: target)
        record.mode = 0o777
        return record
    }

    static func manifest(_ files: [FileRecord]) throws -> Manifest {
        Manifest(
            runID: "00112233445566778899aabbccddeeff",
            attempt: AttemptID(sequence: ReportSequence(epoch: 2, index: 7), nonce: "ab12"), name: "best",
            physicalName: "best", createdAt: 1_700_000_000.25, durability: .fsync, ranks: [0],
            metrics: try JSONParser.parse(#"{"loss":NaN,"files":[1],"a/b":{"files":[2]}}"#), files: files)
    }

    @Test func `reads back what it wrote`() throws {
        let files = [
            Self.directory("d"), Self.file("d/\u{E9}", [1]), Self.file("d/e\u{301}", [2]), Self.file("empty"),
            Self.file("new\nline \"%\\", [3]), Self.link("l", "d/\u{E9}"),
        ]
        let manifest = try Self.manifest(files)
        let again = try Manifest.parse(manifest.document, path: "m")
        #expect(again.files == files && again.document == manifest.document)
        #expect(again.attempt == manifest.attempt && again.ranks == [0] && again.createdAt == 1_700_000_000.25)
        let head = try JSONParser.parseHead(Array(manifest.document.prefix(600)), upTo: "files")
        #expect(ManifestSummary(.object(head))?.bytes == 3 && ManifestSummary(.object(head))?.files == 5)
    }

    @Test func `keeps the blocks of large files`() throws {
        let size = 2 * CRC32C.blockSize + 1
        let blocks: [UInt32] = [1, 0xFFFF_FFFF, 3]
        let record = FileRecord(
            path: "big", kind: .file, size: size, mode: 0o600, modifiedNanoseconds: 0,
            crc32c: CRC32C.combine(blocks: blocks, size: size), blocks: blocks)
        #expect(try Manifest.parse(Self.manifest([record]).document, path: "m").files == [record])
        for (damage, to) in [("00000001", "00000002"), ("\"size\":\(size)", "\"size\":\(size + CRC32C.blockSize)")] {
            let text = String(decoding: try Self.manifest([record]).document, as: UTF8.self)
            #expect(text.contains(damage))
            #expect(throws: StorageError.self) {
                try Manifest.parse(Array(text.replacing(damage, with: to).utf8), path: "m")
            }
        }
    }

    @Test(arguments: [
        "", "/etc/passwd", "../x", "a/../../x", "a/..", ".", "./a", "a//b", "a/", ".raystorage", ".raystorage/x",
        "a\u{0}b", String(repeating: "n", count: 256), String(repeating: "a/", count: 2100) + "a",
    ])
    func `refuses a path that could leave`(path: String) throws {
        let document = try Self.manifest([Self.file(path, [1])]).document
        let error = #expect(throws: StorageError.self) { try Manifest.parse(document, path: "the-manifest") }
        #expect(error?.code == .checksum && error?.message.contains("the-manifest") == true)
    }

    @Test(arguments: [
        [link("l", "/etc")], [link("l", "..")], [link("l", "")], [directory("d"), link("d/l", "../../x")],
        [directory("d"), link("d/u", ".."), link("l", "d/u/../x")],
        // Below a link, below a file, below nothing, twice.
        [link("l", "d"), file("l/x")], [file("f", [1]), file("f/x")], [file("a/b")], [file("a"), file("a")],
    ])
    func `refuses a tree that could lead elsewhere`(files: [FileRecord]) throws {
        let document = try Self.manifest(files).document
        #expect(throws: StorageError.self) { try Manifest.parse(document, path: "m") }
    }

    @Test(arguments: [
        ("\"schema\":1", "\"schema\":2"), ("\"bytes\":1,", "\"bytes\":2,"), ("\"file_count\":1", "\"file_count\":0"),
        ("\"size\":1", "\"size\":-1"), ("\"size\":1", "\"size\":99999999999999999"), ("\"644\"", "\"4755\""),
        ("\"644\"", "\"x\""), ("2-7-ab12", "2-7"), ("\"path\":\"a\"", "\"path\":1"), ("fsync", "maybe"),
        ("\"path\"", "\"kind\":\"fifo\",\"path\""), ("]}", "]"), ("\"crc32c\":\"", "\"crc32c\":\"+"),
        ("\"block_size\":8388608", "\"block_size\":1"),
    ])
    func `refuses what is damaged or later`(from: String, to: String) throws {
        let text = String(decoding: try Self.manifest([Self.file("a", [1])]).document, as: UTF8.self)
        #expect(text.contains(from))
        #expect(throws: StorageError.self) {
            try Manifest.parse(Array(text.replacing(from, with: to).utf8), path: "m")
        }
    }

    @Test func `writes a manifest once and takes a repetition for its own`() async throws {
        let fixture = try TreeFixture()
        try fixture.directory("c/.raystorage")
        try fixture.file("c/.raystorage/sealing.json", Array("{\"cut off".utf8))
        #expect(try Manifest.readPrepared(directory: fixture.at("c")) == nil)
        let manifest = try Self.manifest([])
        #expect(try Manifest.read(directory: fixture.at("c")) == nil)
        try Seal.writeManifest(manifest, directory: fixture.at("c"), durability: .fsync)
        try Seal.writeManifest(manifest, directory: fixture.at("c"), durability: .none)
        #expect(try fixture.names("c/.raystorage") == ["manifest.json"])
        var other = manifest
        other.name = "other"
        #expect(throws: StorageError.self) {
            try Seal.writeManifest(other, directory: fixture.at("c"), durability: .none)
        }
        #expect(try Manifest.read(directory: fixture.at("c"))?.name == "best")
        // What was prepared and did not become the manifest goes on saying so.
        #expect(try Manifest.readPrepared(directory: fixture.at("c"))?.name == "other")
    }
}
