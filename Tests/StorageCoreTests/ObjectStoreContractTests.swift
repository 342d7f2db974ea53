import Testing

@testable import StorageCore

/// What every object store must do alike. Runs on the reference, and on each server of `RAYSTORAGE_TEST_S3`.
@Suite struct ObjectStoreContractTests {
    private let progress = Progress()

    @Test(arguments: ObjectStoreFixture.all)
    func `an object is there with its bytes, size and version, and then it is not`(_ fixture: ObjectStoreFixture)
        async throws
    {
        let store = try fixture.open()
        let absent = try await store.bytes("a/b")
        #expect(absent == nil)
        let absentHead = try await store.head("a/b", progress: progress)
        #expect(absentHead == nil)
        guard case .stored(let version) = try await store.put("a/b", [1, 2, 3]) else {
            Issue.record("refused")
            return
        }
        let object = try await store.get("a/b", limit: 10, progress: progress)
        #expect(object == StoredObject(bytes: [1, 2, 3], version: version))
        let summary = try #require(try await store.head("a/b", progress: progress))
        #expect(summary.size == 3 && summary.version == version)
        #expect(abs(summary.modifiedAt - Environment.system.now()) < 100)
        // Both to the second, and not rounded alike.
        let time = try #require(try await store.time("a/", progress: progress))
        #expect(time > summary.modifiedAt - 2)
        try await store.put("a/b", [4])
        let replaced = try await store.bytes("a/b")
        #expect(replaced == [4])
        try await store.delete(["a/b"], progress: progress)
        let gone = try await store.bytes("a/b")
        #expect(gone == nil)
        try await store.delete(["a/b"], progress: progress)
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `an empty object is an object`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        try await store.put("empty", [])
        let bytes = try await store.bytes("empty", limit: 0)
        #expect(bytes == [])
        let size = try await store.head("empty", progress: progress)?.size
        #expect(size == 0)
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `more than the limit is an error, and exactly the limit is not`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        try await store.put("big", [UInt8](repeating: 7, count: 100))
        let bytes = try await store.bytes("big", limit: 100)
        #expect(bytes?.count == 100)
        await #expect(throws: StorageError.self) { try await store.bytes("big", limit: 99) }
    }

    static let oddNames = [
        "a b", " a", "a ", "a+b", "a%b", "a%20b", "a%2Fb", "ä", "a\u{308}", "模型/重み", "🧨", "a&b<c>\"d'", "a;b=c", "a?b",
        "a#b", "a@b:c,d", "(x)!*'", "$[b]{c}|^`", "back\\slash", "~tilde", "...dots", "a..", "a.", "tab\tand\nline\r",
        "-", "_", "a=b&c=d", "ctl\u{1}\u{1f}", "\u{7f}", "\u{feff}bom", "%", "+", "&amp;", "<Error>",
    ]

    @Test(arguments: ObjectStoreFixture.all)
    func `odd names come back as they are, by HEAD, listing and deletion`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let hasSlashes = fixture.quirks.contains("backslash-is-slash")
        let hasNoControls = fixture.quirks.contains("no-control-characters")
        let names = Self.oddNames.filter { name in
            if hasNoControls, name.utf8.contains(where: { $0 < 0x20 }) { return false }
            return !hasSlashes || !name.utf8.contains(UInt8(ascii: "\\"))
        }
        for name in names { try await store.put("odd/\(name)", Array(name.utf8)) }
        for name in names {
            let bytes = try await store.bytes("odd/\(name)")
            #expect(bytes == Array(name.utf8), "\(name.debugDescription)")
            let head = try await store.head("odd/\(name)", progress: progress)
            #expect(head?.size == name.utf8.count, "\(name.debugDescription)")
        }
        let listing = try await store.list("odd/", delimited: false, progress: progress)
        let listed = listing.objects.map { Array($0.key.utf8.dropFirst(4)) }
        let expected = names.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
        #expect(listed == expected)
        try await store.delete(names.map { "odd/\($0)" }, progress: progress)
        let rest = try await store.list("odd/", delimited: false, progress: progress)
        #expect(rest == ObjectListing())
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `a key that no store can hold is refused before anything is sent`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        guard store is S3Store else { return }
        for key in ["", "a\0b", String(repeating: "x", count: 1025)] {
            let error = await #expect(throws: StorageError.self) { try await store.put(key, [1]) }
            #expect(error?.code == .invalidArgument)
        }
    }

    // MARK: - Conditions

    @Test(arguments: ObjectStoreFixture.all)
    func `P1 creates once, whatever the store can`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let known = try await store.probe(progress: progress)
        #expect(known == store.capabilities)
        guard known.createsConditionally else {
            let error = await #expect(throws: StorageError.self) { try await store.put("once", [1], .ifAbsent) }
            #expect(error?.code == .notSupported)
            let nothing = try await store.bytes("once")
            #expect(nothing == nil)
            return
        }
        let first = try await store.put("once", [1], .ifAbsent)
        #expect(first != .refused)
        let other = try await store.put("once", [2], .ifAbsent)
        #expect(other == .refused)
        // The same bytes are our own: an earlier try of which the answer was lost.
        let again = try await store.put("once", [1], .ifAbsent)
        #expect(again == first)
        let bytes = try await store.bytes("once")
        #expect(bytes == [1])
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `P1 of many creators exactly one wins`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        guard try await store.probe(progress: progress).createsConditionally else { return }
        let winners = try await withThrowingTaskGroup(of: UInt8?.self) { group in
            for index in UInt8(0)..<16 {
                group.addTask { try await store.put("race", [index], .ifAbsent) == .refused ? nil : index }
            }
            return try await group.reduce(into: [UInt8]()) { winners, index in
                if let index { winners.append(index) }
            }
        }
        #expect(winners.count == 1)
        let bytes = try await store.bytes("race")
        #expect(bytes == winners)
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `replaces only the version that is there`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        guard try await store.probe(progress: progress).replacesConditionally else { return }
        guard case .stored(let first) = try await store.put("v", [1]) else { return }
        guard case .stored(let second) = try await store.put("v", [2], .ifVersion(first)) else {
            Issue.record("the version that is there was refused")
            return
        }
        #expect(first != second)
        let stale = try await store.put("v", [3], .ifVersion(first))
        #expect(stale == .refused)
        try await store.delete(["v"], progress: progress)
        let gone = try await store.put("v", [4], .ifVersion(second))
        #expect(gone == .refused)
        let bytes = try await store.bytes("v")
        #expect(bytes == nil)
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `a probe leaves nothing behind`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        _ = try await store.probe(progress: progress)
        let listing = try await store.list("", delimited: false, progress: progress)
        #expect(listing == ObjectListing())
    }

    // MARK: - Integrity

    @Test(arguments: ObjectStoreFixture.all)
    func `P5 bytes that are not those of the checksum are refused, where the store compares`(
        _ fixture: ObjectStoreFixture
    ) async throws {
        let store = try fixture.open()
        try await store.put("good", [1, 2, 3])
        guard store.capabilities.checksCRC32C else { return }
        let error = await #expect(throws: StorageError.self) {
            try await store.put("bad", .bytes([1, 2, 3]), crc32c: 7, condition: .always, progress: progress)
        }
        #expect(error?.code == .checksum)
        let bytes = try await store.bytes("bad")
        #expect(bytes == nil)
    }

    // MARK: - Ranges

    @Test(arguments: ObjectStoreFixture.all)
    func `ranges go to their offsets, with the checksum of each block`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let content = SeededRandom.bytes(CRC32C.blockSize + 100_000)
        try await store.put("r", content)
        let file = try scratchFile()
        let range = 1000..<(content.count - 7)
        let checksums = try await store.get(
            "r", range: range, version: nil, into: file, shift: -1000, progress: progress)
        let read = try file.readAll(limit: 64 << 20)
        #expect(read == Array(content[range]))
        let block = CRC32C.blockSize
        #expect(
            checksums == [
                CRC32C.of(Array(content[1000..<1000 + block])),
                CRC32C.of(Array(content[(1000 + block)..<range.upperBound])),
            ])
        let none = try await store.get("r", range: 5..<5, version: nil, into: file, shift: 0, progress: progress)
        #expect(none == [])
        // A file as the source, from the middle.
        let body = HTTPBody.file(file, offset: 10, length: 50)
        _ = try await store.put(
            "s", body, crc32c: CRC32C.of(Array(content[1010..<1060])), condition: .always, progress: progress)
        let part = try await store.bytes("s")
        #expect(part == Array(content[1010..<1060]))
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `a range of an object that changed, ended or went is a typed error`(_ fixture: ObjectStoreFixture) async throws
    {
        let store = try fixture.open()
        let file = try scratchFile()
        guard case .stored(let version) = try await store.put("c", [1, 2, 3]) else { return }
        let good = try await store.get("c", range: 0..<3, version: version, into: file, shift: 0, progress: progress)
        #expect(good == [CRC32C.of([1, 2, 3])])
        try await store.put("c", [4, 5, 6, 7])
        func code(_ key: String, _ range: Range<Int>, _ version: String?) async -> StorageError.Code? {
            do throws(StorageError) {
                _ = try await store.get(key, range: range, version: version, into: file, shift: 0, progress: progress)
                return nil
            } catch { return error.code }
        }
        if !fixture.quirks.contains("no-if-match-on-get") { #expect(await code("c", 0..<3, version) == .precondition) }
        #expect(await code("absent", 0..<3, nil) == .notFound)
        #expect(await code("absent", 0..<0, nil) == .notFound)
        #expect(await code("c", 10..<13, nil) == .checksum)
        #expect(await code("c", 2..<13, nil) != nil)
        // Grown: the beginning is there, and is not the whole.
        for (size, expected) in [(4, nil), (3, .checksum)] as [(Int, StorageError.Code?)] {
            let error = await failure { () async throws(StorageError) in
                _ = try await store.get(
                    "c", range: 0..<3, of: size, version: nil, into: file, shift: 0, progress: progress)
            }
            #expect(error?.code == expected)
        }
    }

    // MARK: - Uploads in parts

    @Test(arguments: ObjectStoreFixture.all)
    func `an upload in parts becomes an object when it is completed`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let content = SeededRandom.bytes((10 << 20) + 12_345)
        let crc = CRC32C.of(content)
        let upload = try await store.startMultipart("m/x y", progress: progress).upload
        let open = try await store.multiparts("m/", progress: progress)
        #expect(open.map(\.key) == ["m/x y"] && open.map(\.upload) == [upload])
        if !fixture.quirks.contains("fixed-initiated-time") {
            #expect(abs((open.first?.startedAt ?? 0) - Environment.system.now()) < 100)
        }
        let elsewhere = try await store.multiparts("n/", progress: progress)
        #expect(elsewhere == [])
        // The last one first; one of them twice.
        var parts: [UploadedPart] = []
        for number in [3, 1, 2, 1] {
            let bytes = Array(content[((number - 1) * (5 << 20))..<min(number * (5 << 20), content.count)])
            let part = try await store.putPart(
                "m/x y", upload: upload, number: number, .bytes(bytes), crc32c: CRC32C.of(bytes), progress: progress)
            parts.removeAll { $0.number == number }
            parts.append(part)
        }
        parts.sort { $0.number < $1.number }
        let invisible = try await store.head("m/x y", progress: progress)
        #expect(invisible == nil)
        let listed = try #require(try await store.listParts("m/x y", upload: upload, progress: progress))
        #expect(listed.map(\.number) == [1, 2, 3])
        #expect(listed.map(\.size) == parts.map(\.size))
        #expect(listed.map(\.etag) == parts.map(\.etag))
        for (part, own) in zip(listed, parts) where part.crc32c != nil { #expect(part.crc32c == own.crc32c) }
        if fixture.quirks.contains("wrong-checksum-of-parts") {
            // A store that attests other bytes is not believed when it says that all is well.
            let error = await #expect(throws: StorageError.self) {
                try await store.completeMultipart(
                    "m/x y", upload: upload, parts: parts, size: content.count, crc32c: crc, progress: progress)
            }
            #expect(error?.code == .checksum)
            return
        }
        try await store.completeMultipart(
            "m/x y", upload: upload, parts: parts, size: content.count, crc32c: crc, progress: progress)
        let read = try await store.bytes("m/x y", limit: 64 << 20)
        #expect(read == content)
        // Its answer was lost: the same again is the same success.
        try await store.completeMultipart(
            "m/x y", upload: upload, parts: parts, size: content.count, crc32c: crc, progress: progress)
        let rest = try await store.multiparts("m/", progress: progress)
        #expect(rest == [])
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `an upload that was given up is gone, and giving up is no error twice`(_ fixture: ObjectStoreFixture)
        async throws
    {
        let store = try fixture.open()
        let upload = try await store.startMultipart("g", progress: progress).upload
        let part = try await store.putPart(
            "g", upload: upload, number: 1, .bytes([1]), crc32c: CRC32C.of([1]), progress: progress)
        try await store.abortMultipart("g", upload: upload, progress: progress)
        try await store.abortMultipart("g", upload: upload, progress: progress)
        let parts = try await store.listParts("g", upload: upload, progress: progress)
        #expect(parts == nil)
        let open = try await store.multiparts("", progress: progress)
        #expect(open == [])
        let error = await #expect(throws: StorageError.self) {
            try await store.completeMultipart(
                "g", upload: upload, parts: [part], size: 1, crc32c: CRC32C.of([1]), progress: progress)
        }
        #expect(error?.code == .notFound)
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `P5 an upload whose sum is wrong is no success`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let upload = try await store.startMultipart("w", progress: progress).upload
        let part = try await store.putPart(
            "w", upload: upload, number: 1, .bytes([1, 2]), crc32c: CRC32C.of([1, 2]), progress: progress)
        await #expect(throws: StorageError.self) {
            try await store.completeMultipart(
                "w", upload: upload, parts: [part], size: 3, crc32c: CRC32C.of([1, 2, 3]), progress: progress)
        }
        try await store.abortMultipart("w", upload: upload, progress: progress)
    }

    // MARK: - Listings

    @Test(arguments: ObjectStoreFixture.all)
    func `more than a page is listed whole, sorted, and deleted`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let keys = (0..<1105).map { "many/\(1105 - $0)/k" } + ["many/z", "many!", "manz"]
        try await Engine.shared.forEach(keys, limit: 16) { key throws(StorageError) in try await store.put(key, [1]) }
        let all = try await store.list("many/", delimited: false, progress: progress)
        let expected = keys.filter { $0.hasPrefix("many/") }.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        #expect(all.objects.map(\.key) == expected)
        #expect(all.prefixes == [])
        let below = try await store.list("many/", delimited: true, progress: progress)
        #expect(below.objects.map(\.key) == ["many/z"])
        #expect(below.prefixes == expected.filter { $0.hasSuffix("/k") }.map { String($0.dropLast()) })
        let halfName = try await store.list("many", delimited: true, progress: progress)
        #expect(halfName.objects.map(\.key) == ["many!"] && halfName.prefixes == ["many/"])
        try await store.delete(keys + ["many/absent"], progress: progress)
        let rest = try await store.list("", delimited: false, progress: progress)
        #expect(rest == ObjectListing())
    }

    @Test(arguments: ObjectStoreFixture.all)
    func `what was cancelled ends with that`(_ fixture: ObjectStoreFixture) async throws {
        let store = try fixture.open()
        let cancelled = Progress()
        cancelled.cancel()
        let error = await #expect(throws: StorageError.self) {
            try await store.put("x", .bytes([1]), crc32c: CRC32C.of([1]), condition: .always, progress: cancelled)
        }
        #expect(error?.code == .cancelled)
    }
}

extension SeededRandom {
    /// That many bytes, always the same.
    static func bytes(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        var random = SeededRandom(seed)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        while bytes.count < count { withUnsafeBytes(of: random.next()) { bytes.append(contentsOf: $0) } }
        return Array(bytes.prefix(count))
    }
}
