import Testing

@testable import StorageCore

@Suite struct NameTests {
    private let attempt = AttemptID(sequence: ReportSequence(epoch: 3, index: 7), nonce: "00ff")

    @Test func `default names sort as reports do`() {
        let places = [(1, 0), (1, 999_999_999), (2, 0), (10, 5), (999_999, 0)]
        let names = places.map { CheckpointName.automatic(ReportSequence(epoch: $0.0, index: $0.1)) }
        #expect(names == names.sorted())
        #expect(names[0] == "checkpoint_000001_000000000")
        #expect(names.allSatisfy(CheckpointName.isAutomatic))
        #expect(CheckpointName.sequence(ofAutomatic: names[3]) == ReportSequence(epoch: 10, index: 5))
    }

    @Test func `an epoch beyond six digits still has one name`() {
        let sequence = ReportSequence(epoch: 1_234_567, index: 1_234_567_890)
        #expect(CheckpointName.automatic(sequence) == "checkpoint_1234567_1234567890")
        #expect(CheckpointName.sequence(ofAutomatic: "checkpoint_1234567_1234567890") == sequence)
        #expect(!CheckpointName.isAutomatic("checkpoint_0000001_000000000"))
    }

    @Test(arguments: [
        "", ".", "..", ".hidden", "a/b", "/abs", "../evil", "a\0b", "a\nb", "a\u{7F}", "a\u{85}b", "x~1-2-ab", "~",
        "checkpoint_manager_snapshot.json", "result.json", "Result.JSON", "progress.csv", ".raystorage",
        ".validate_storage_marker", "trainer.pkl", "experiment_state-2026.json", "checkpoint_000001_000000000",
        "Checkpoint_000001_000000000", "checkpoint_000000_000000000",
    ])
    func `refuses a checkpoint name that could leave the run or collide`(name: String) {
        let error = #expect(throws: StorageError.self) { try CheckpointName.validate(name) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.detailsDocument["name"] == "checkpoint_dir_name")
        #expect(error?.detailsDocument["value"] == .string(name))
        #expect(error?.detailsDocument["allowed"] == .string(CheckpointName.allowed))
    }

    @Test(arguments: [
        "a", "best model", "checkpoint_000001", "checkpoint_epoch=3", "größe-模型", "100%", "a.b", "-x",
        "checkpoint_2026-11-23_09-13-39.006320", "checkpoint_1_2", "results.json",
    ])
    func `takes any other checkpoint name`(name: String) throws {
        try CheckpointName.validate(name)
    }

    @Test func `counts bytes, not characters`() throws {
        try CheckpointName.validate(String(repeating: "a", count: 200))
        try CheckpointName.validate(String(repeating: "é", count: 100))
        #expect(throws: StorageError.self) { try CheckpointName.validate(String(repeating: "a", count: 201)) }
        #expect(throws: StorageError.self) { try CheckpointName.validate(String(repeating: "é", count: 101)) }
        #expect(throws: StorageError.self) { try RunName.validate(String(repeating: "é", count: 101)) }
    }

    @Test func `an error shows only the start of a very long name`() {
        let error = #expect(throws: StorageError.self) {
            try CheckpointName.validate(String(repeating: "é", count: 50_000))
        }
        #expect((error?.message.utf8.count ?? .max) < 500)
    }

    @Test func `only the first claim gets the bare name`() {
        #expect(CheckpointName.physical(name: "best", attempt: attempt, isFirstClaim: true) == "best")
        #expect(CheckpointName.physical(name: "best", attempt: attempt, isFirstClaim: false) == "best~3-7-00ff")
        #expect(CheckpointName.attempt(ofPhysical: "best~3-7-00ff") == attempt)
        #expect(CheckpointName.attempt(ofPhysical: "best") == nil)
        #expect(CheckpointName.attempt(ofPhysical: "best~3-7") == nil)
    }

    @Test(arguments: ["", ".", "..", ".x", "a/b", "../x", "/x", "a\0", "a\tb", "~", "~root"])
    func `refuses a run name that could leave the storage path`(name: String) {
        let error = #expect(throws: StorageError.self) { try RunName.validate(name) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.detailsDocument["allowed"] == .string(RunName.allowed))
    }

    @Test func `the default run name holds local time and four digits`() throws {
        let time = LocalTime(year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5)
        let name = RunName.automatic(now: 1, randomHex: "0a1b") { _ in time }
        #expect(name == "raystorage_run-2026-01-02_03-04-05-0a1b")
        try RunName.validate(name)
        try RunName.validate("bert-large~v2 50%")
        #expect(RunName.automatic(.system) != RunName.automatic(.system))
    }

    @Test func `a broken clock gives a time all the same`() {
        for seconds in [Double.nan, .infinity, -.infinity, 1e300] { #expect(LocalTime.system(seconds).month >= 1) }
    }
}
