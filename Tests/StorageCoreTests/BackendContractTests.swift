import Testing

@testable import StorageCore

/// What every backend must do alike; a new backend is added to `Kind` and nothing else.
@Suite struct BackendContractTests {
    enum Kind: CaseIterable { case memory, local, localWithoutSync }

    func withBackend(_ kind: Kind, _ body: (any StorageBackend) async throws -> Void) async throws {
        switch kind {
        case .memory: try await body(MemoryBackend())
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
            #expect(try await backend.read("a/b", limit: 10) == nil)
            #expect(try await backend.create("a/b", [1, 2, 3]))
            #expect(try await backend.read("a/b", limit: 10)?.bytes == [1, 2, 3])
            #expect(try await backend.create("a/b", [9]) == false)
            #expect(try await backend.read("a/b", limit: 10)?.bytes == [1, 2, 3])
        }
    }

    @Test(arguments: Kind.allCases) func `takes a repeated create of the same bytes for its own`(kind: Kind)
        async throws
    {
        try await withBackend(kind) { backend in
            #expect(try await backend.create("claim", [7]))
            #expect(try await backend.create("claim", [7]))
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
            #expect(try await backend.replace("d/x", [1], ifVersion: nil))
            #expect(try await backend.replace("d/x", [2], ifVersion: nil))
            try await backend.post("d/mail", [1, 2, 3])
            try await backend.post("d/mail", [4])
            #expect(try await backend.read("d/mail", limit: 10)?.bytes == [4])
            _ = try await backend.create("d/sub/y", [3])
            #expect(try await backend.list("d/") == ["mail", "sub/", "x"])
            #expect(try await backend.list("none/") == [])
            #expect(try await backend.delete("d/x"))
            #expect(try await backend.delete("d/x") == false)
            #expect(try await backend.read("d/x", limit: 10) == nil)
        }
    }

    @Test(arguments: Kind.allCases) func `replaces only the version asked for, where it can`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            guard backend.capabilities.replacesConditionally else { return }
            _ = try await backend.create("s", [1])
            let version = try #require(try await backend.read("s", limit: 10)?.version)
            #expect(try await backend.replace("s", [2], ifVersion: version))
            #expect(try await backend.replace("s", [3], ifVersion: version) == false)
            #expect(try await backend.read("s", limit: 10)?.bytes == [2])
        }
    }

    @Test(arguments: Kind.allCases) func `refuses an object above the limit`(kind: Kind) async throws {
        try await withBackend(kind) { backend in
            _ = try await backend.create("big", [UInt8](repeating: 1, count: 100))
            await #expect(throws: StorageError.self) { try await backend.read("big", limit: 99) }
        }
    }
}
