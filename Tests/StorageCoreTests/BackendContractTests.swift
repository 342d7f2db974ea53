import Testing

@testable import StorageCore

/// What every backend must do alike; a new backend is added to `Kind` and nothing else.
@Suite struct BackendContractTests {
    enum Kind: CaseIterable { case memory, local, localWithoutSync, objects, objectsWithoutConditions }

    func withBackend(_ kind: Kind, _ body: (any StorageBackend) async throws -> Void) async throws {
        switch kind {
        case .memory: try await body(MemoryBackend())
        case .objects:
            try await body(ObjectBackend(MemoryObjectStore(), environment: .system))
        case .objectsWithoutConditions:
            var capabilities = MemoryObjectStore.usual
            capabilities.createsConditionally = false
            capabilities.replacesConditionally = false
            let store = MemoryObjectStore(capabilities: capabilities)
            try await body(ObjectBackend(store, environment: .system))
            let claims = store.contents.keys.filter { $0.contains("/claims/") }
            #expect(claims.isEmpty)
        case .local, .localWithoutSync:
            let root = "/tmp/raystorage-test-\(Environment.system.randomHex(8))"
            try System.makeDirectories(root)
            defer { try? System.removeTree(root) }
            let durability: Durability = kind == .local ? .fsync : .none
            try await body(
                LocalBackend(root: root, durability: durability, temporaryTag: "test", environment: .system))
        }
    }

    @Test(arguments: Kind.allCases) func `creates once and gives back the same bytes`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            let found1 = try await backend.read("a/b", limit: 10)
            #expect(found1 == nil)
            let found2 = try await backend.create("a/b", [1, 2, 3])
            #expect(found2)
            let found3 = try await backend.read("a/b", limit: 10)?.bytes
            #expect(found3 == [1, 2, 3])
            let found4 = try await backend.create("a/b", [9])
            #expect(found4 == false)
            let found5 = try await backend.read("a/b", limit: 10)?.bytes
            #expect(found5 == [1, 2, 3])
        }
    }

    @Test(arguments: Kind.allCases) func `takes a repeated create of the same bytes for its own`(kind: Kind)
        async throws
    {
        try await withBackend(kind) { backend in
            let found6 = try await backend.create("claim", [7])
            #expect(found6)
            let found7 = try await backend.create("claim", [7])
            #expect(found7)
        }
    }

    @Test(arguments: Kind.allCases) func `lets exactly one of many creators win`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            let wins = await withTaskGroup(of: Bool.self) { group in
                for index in 0..<16 {
                    group.addTask { (try? await backend.create("race", [UInt8(index)])) ?? false }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(wins == 1)
        }
    }

    @Test(arguments: Kind.allCases) func `replaces, posts, lists and deletes`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            let found8 = try await backend.replace("d/x", [1], ifVersion: nil)
            #expect(found8)
            let found9 = try await backend.replace("d/x", [2], ifVersion: nil)
            #expect(found9)
            try await backend.post("d/mail", [1, 2, 3])
            try await backend.post("d/mail", [4])
            let found10 = try await backend.read("d/mail", limit: 10)?.bytes
            #expect(found10 == [4])
            _ = try await backend.create("d/sub/y", [3])
            let found11 = try await backend.list("d/")
            #expect(found11 == ["mail", "sub/", "x"])
            let found12 = try await backend.list("none/")
            #expect(found12 == [])
            let found13 = try await backend.delete("d/x")
            #expect(found13)
            let found14 = try await backend.delete("d/x")
            #expect(found14 == false)
            let found15 = try await backend.read("d/x", limit: 10)
            #expect(found15 == nil)
        }
    }

    @Test(arguments: Kind.allCases) func `replaces only the version asked for, where it can`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            guard backend.capabilities.replacesConditionally else { return }
            _ = try await backend.create("s", [1])
            let version = try #require(try await backend.read("s", limit: 10)?.version)
            let found16 = try await backend.replace("s", [2], ifVersion: version)
            #expect(found16)
            let found17 = try await backend.replace("s", [3], ifVersion: version)
            #expect(found17 == false)
            let found18 = try await backend.read("s", limit: 10)?.bytes
            #expect(found18 == [2])
        }
    }

    @Test(arguments: Kind.allCases) func `refuses an object above the limit`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            _ = try await backend.create("big", [UInt8](repeating: 1, count: 100))
            await #expect(throws: StorageError.self) { try await backend.read("big", limit: 99) }
        }
    }
}
