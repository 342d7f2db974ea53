import Glibc
import Testing

@testable import StorageCore

/// Numbers from listings and documents are not ours: absurd ones are errors or the largest number, never a trap (P12).
@Suite struct AbsurdSizeTests {
    @Test func `sums of sizes end at the largest number`() {
        #expect(ByteSum.of([]) == 0)
        #expect(ByteSum.of([1, 2, 3]) == 6)
        #expect(ByteSum.of([.max, 1, .max]) == .max)
        #expect(ByteSum.of([.min, -1]) == .min)
    }

    /// A store that says of every object that it is as large as a number can be.
    private func opener(_ fixture: RunFixture) -> Storage.Opener {
        let store = HookedObjectStore(
            fixture.memory,
            revise: { listing in for place in listing.objects.indices { listing.objects[place].size = .max } })
        return Storage.Opener { _, _, _, _ throws(StorageError) in store }
    }

    @Test func `P12 gc adds up the sizes of a broken listing`() async throws {
        let fixture = try RunFixture(.objects)
        let first = try await fixture.open()
        let attempt = try await fixture.leave(first, 0, .sealed)
        let name = CheckpointName.automatic(attempt.sequence)
        try await first.checkpoints.upload(attempt, as: name, progress: Progress())
        fixture.memory.place("storage/run/\(name)/more", [1])
        try fixture.kill(first)
        let collection = try GarbageCollection(fixture.root, environment: .system, opener: opener(fixture))
        let document = try await collection.run(now: true, dryRun: true, progress: Progress())
        let sizes = try #require(document["removed"]?.arrayValue).compactMap { $0["bytes"]?.intValue }
        #expect(sizes == [.max])
    }

    @Test func `P12 the sizes of a run's checkpoints are added up, whatever their records say`() async throws {
        let fixture = try RunFixture(.objects)
        let opened = try await fixture.open()
        for index in 0..<2 {
            let attempt = try #require(try await fixture.commit(opened, index).attempt)
            let text = try fixture.text(RunLayout.decision(attempt))
            try #require(text.contains("\"bytes\":1,"))
            try fixture.write(
                RunLayout.decision(attempt), text.replacing("\"bytes\":1,", with: "\"bytes\":\(Int.max),"))
        }
        try fixture.kill(opened)
        let storage = try RunResult("\(fixture.bucket)/storage", environment: .system, opener: fixture.opener)
        let runs = try #require(try await storage.listing()["runs"]?.arrayValue)
        #expect(runs.map { $0["bytes"] } == [JSONValue(Int.max)])
    }

    @Test func `P12 a restore of more bytes than any disk takes is refused before anything is made`() async throws {
        let fixture = try RunFixture(.objects)
        // Somebody else's files: nothing but the listing says how large they are.
        for name in ["a", "b"] { fixture.memory.place("storage/theirs/\(name)", [1]) }
        let target = fixture.tree.at("target")
        let access = try CheckpointAccess(
            "\(fixture.bucket)/storage/theirs", environment: .system, opener: opener(fixture))
        let error = await #expect(throws: StorageError.self) {
            try await access.download(to: target, verify: true, progress: Progress())
        }
        #expect(error?.code == .invalidArgument && error?.detailsDocument["allowed"] == .integer(1 << 47))
        #expect(try !System.exists(target))
    }

    @Test(arguments: [[Int.max], [1 << 46, 1 << 46, 1], [.max, .max]])
    func `P6 the ranges of a download are few enough to be listed`(sizes: [Int]) async throws {
        let fixture = try TransferFixture()
        let inputs = sizes.enumerated().map { index, size in
            FilePass.Input(
                path: "f\(index)", size: size, mayHaveHoles: false, mode: 0o644, modifiedNanoseconds: 0,
                signature: nil, expectedBlocks: nil)
        }
        let root = try RootDirectory(try fixture.tree.directory("target"))
        let error = await #expect(throws: StorageError.self) {
            try await ObjectDownload.run(
                store: MemoryObjectStore(), prefix: "p/", files: inputs, into: root, gate: fixture.gate,
                progress: Progress())
        }
        #expect(error?.code == .invalidArgument)
        #expect(try System.list(fixture.tree.at("target")).isEmpty)
    }

    @Test func `the parts of any file and any part size lie inside it`() {
        for size in [0, 1, 1 << 46, Int.max] {
            for partBytes in [1 << 20, 1 << 62, Int.max] {
                let plan = PartPlan(size: size, partBytes: partBytes)
                for index in [0, plan.count - 1, plan.count, Int.max] {
                    let range = plan.range(index)
                    #expect(range.lowerBound <= range.upperBound && range.upperBound <= size)
                }
                #expect(plan.range(plan.count - 1).upperBound == size)
            }
        }
    }

    @Test(arguments: [0, -1, 1, CRC32C.blockSize + 1]) func `nothing goes on from parts that are no whole blocks`(
        partBytes: Int
    ) async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let files = try await fixture.seal().filter { $0.kind == .file }
        do {
            let journal = try UploadJournal(fixture.journal, place: "memory://bucket/ckpt/", files: files)
            try journal.begin(0, .init(key: "ckpt/large.bin", upload: "u", partBytes: partBytes))
        }
        let past = try UploadJournal(fixture.journal, place: "memory://bucket/ckpt/", files: files).past
        #expect(past.multiparts.isEmpty && past.orphans.map(\.upload) == ["u"])
    }

    @Test func `progress counts on beyond the largest number`() {
        let progress = Progress()
        for _ in 0..<3 {
            progress.expect(bytes: .max, files: .max)
            progress.advance(bytes: .max, files: .max)
        }
        #expect(!progress.isCancelled)
    }
}
