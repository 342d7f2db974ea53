import Testing

@testable import StorageCore

@Suite struct ObjectBackendTests {
    private func summary(_ key: String, at time: Double) -> ObjectSummary {
        ObjectSummary(key: key, size: 0, version: "", modifiedAt: time)
    }

    @Test func `a claim that is alone, or beside dead ones only, may write`() {
        let own = summary("c/5", at: 1000)
        #expect(ObjectClaim.verdict(on: [own], own: "c/5") == .alone)
        #expect(ObjectClaim.verdict(on: [own, summary("c/1", at: 939)], own: "c/5") == .alone)
        #expect(ObjectClaim.verdict(on: [own, summary("c/1", at: 940)], own: "c/5") == .withdraw)
        #expect(ObjectClaim.verdict(on: [own, summary("c/1", at: 1100)], own: "c/5") == .withdraw)
    }

    @Test func `of several claims the smallest waits and the others withdraw`() {
        let claims = ["c/1", "c/2", "c/3"].map { summary($0, at: 1000) }
        #expect(ObjectClaim.verdict(on: claims, own: "c/1") == .wait)
        #expect(ObjectClaim.verdict(on: claims, own: "c/2") == .withdraw)
        #expect(ObjectClaim.verdict(on: claims, own: "c/9") == .lost)
    }

    @Test func `P4 a create whose answer is lost is found to be our own`() async throws {
        let lost = Once()
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .after, call.operation == .put else { return }
            try await lost.run { () throws(StorageError) in throw StorageError(.network, "lost") }
        })
        let backend = ObjectBackend(store, environment: .system)
        await #expect(throws: StorageError.self) { try await backend.create("a", [1]) }
        let again = try await backend.create("a", [1])
        #expect(again)
        let others = try await backend.create("a", [2])
        #expect(!others)
        #expect(store.contents == ["a": [1]])
    }

    @Test func `a create of the same length by somebody else is refused`() async throws {
        let backend = ObjectBackend(MemoryObjectStore(), environment: .system)
        _ = try await backend.replace("a", [1, 2, 3], ifVersion: nil)
        let created = try await backend.create("a", [1, 2, 4])
        #expect(!created)
    }

    @Test func `lists names that Swift calls equal apart, and no directory markers`() async throws {
        let backend = ObjectBackend(MemoryObjectStore(), environment: .system)
        let composed = "d/\u{e9}"
        let decomposed = "d/e\u{301}"
        for key in [composed, decomposed, "d/", "d/x/"] {
            _ = try await backend.replace(key, Array(key.utf8), ifVersion: nil)
        }
        let names = try await backend.list("d/")
        #expect(names.map { Array($0.utf8) } == [Array("e\u{301}".utf8), Array("x/".utf8), Array("\u{e9}".utf8)])
        let bytes = try await backend.read(decomposed, limit: 100)?.bytes
        #expect(bytes == Array(decomposed.utf8))
    }

    @Test func `a damaged upload is refused by its checksum`() async throws {
        let store = MemoryObjectStore()
        let error = await #expect(throws: StorageError.self) {
            try await store.put("a", .bytes([1]), crc32c: 7, condition: .always, progress: Progress())
        }
        #expect(error?.code == .checksum)
        #expect(store.contents.isEmpty)
    }
}
