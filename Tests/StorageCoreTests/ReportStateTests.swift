import Testing

@testable import StorageCore

@Suite struct ReportStateTests {
    /// Rows: from; columns: to, in the order of the numbers.
    private static let table: [ReportState: String] = [
        //            PCSUCFDU
        .pending: "  .x...xx.",
        .captured: " ..x..xx.",
        .sealed: "   ...x.xx.",
        .uploading: "....xxxx",
        .committed: "........",
        .failed: "   ........",
        .dropped: "  ........",
        .unknown: "  ........",
    ]

    @Test(arguments: ReportState.allCases, ReportState.allCases)
    func `a report goes only where the table says`(from: ReportState, to: ReportState) throws {
        let row = Array(try #require(Self.table[from]).utf8.filter { $0 != 0x20 })
        #expect(row.count == ReportState.allCases.count)
        #expect(from.mayBecome(to) == (row[Int(to.rawValue)] == UInt8(ascii: "x")))
    }

    @Test(arguments: ReportState.allCases) func `final means that nothing follows`(state: ReportState) {
        #expect(state.isFinal == !ReportState.allCases.contains { state.mayBecome($0) })
    }

    @Test func `names and numbers are those of the C header`() {
        #expect(
            ReportState.allCases.map(\.name)
                == ["PENDING", "CAPTURED", "SEALED", "UPLOADING", "COMMITTED", "FAILED", "DROPPED", "UNKNOWN"])
        #expect(ReportState.allCases.map(\.rawValue) == Array(0..<8))
    }

    // MARK: - Outcome

    @Test(arguments: StorageError.Code.all, [false, true])
    func `before its commit begins a report fails, or is dropped when cancelled`(
        code: StorageError.Code, isRetryable: Bool
    ) {
        let error = StorageError(code, "", isRetryable: isRetryable)
        #expect(ReportOutcome.state(after: error, commitHadBegun: false) == (code == .cancelled ? .dropped : .failed))
    }

    @Test(arguments: StorageError.Code.all, [false, true])
    func `once its commit has begun an error that may pass leaves it unknown`(
        code: StorageError.Code, isRetryable: Bool
    ) {
        let error = StorageError(code, "", isRetryable: isRetryable)
        let isUnknown = code == .cancelled || (isRetryable && code != .superseded)
        #expect(ReportOutcome.state(after: error, commitHadBegun: true) == (isUnknown ? .unknown : .failed))
    }

    @Test(arguments: StorageError.Code.all, [false, true])
    func `every outcome is one that the report may become`(code: StorageError.Code, isRetryable: Bool) {
        let error = StorageError(code, "", isRetryable: isRetryable)
        for state in [ReportState.pending, .captured, .sealed, .uploading] {
            #expect(state.mayBecome(ReportOutcome.state(after: error, commitHadBegun: state == .uploading)))
        }
    }
}

@Suite struct AdmissionTests {
    @Test func `takes as many as fit and one more for each that leaves`() {
        var admission = Admission(maxPending: 2, maxBytes: 10)
        let first = [admission.enter(), admission.enter(), admission.enter()]
        #expect(first == [true, true, false] && admission.pending == 2)
        admission.leave()
        let again = [admission.enter(), admission.enter()]
        #expect(again == [true, false])
    }

    @Test func `takes bytes up to the limit and gives them back`() {
        var admission = Admission(maxPending: 9, maxBytes: 10)
        let taken = [
            admission.take(bytes: 6), admission.take(bytes: 5), admission.take(bytes: 4), admission.take(bytes: 1),
        ]
        #expect(taken == [true, false, true, false] && admission.bytes == 10)
        admission.give(bytes: 6)
        let again = admission.take(bytes: 6)
        #expect(again && admission.bytes == 10)
    }

    @Test func `a checkpoint that is alone fits however large, and then nothing else`() {
        var admission = Admission(maxPending: 9, maxBytes: 10)
        let taken = [admission.take(bytes: 1000), admission.take(bytes: 1)]
        #expect(taken == [true, false])
        admission.give(bytes: 1000)
        let again = admission.take(bytes: 1)
        #expect(again)
    }

    @Test func `an empty checkpoint always fits`() {
        var admission = Admission(maxPending: 9, maxBytes: 10)
        let taken = [admission.take(bytes: 10), admission.take(bytes: 0)]
        #expect(taken == [true, true])
    }

    @Test func `huge numbers do not overflow`() {
        var admission = Admission(maxPending: 1, maxBytes: .max)
        let taken = [admission.take(bytes: 5), admission.take(bytes: .max)]
        #expect(taken == [true, false])
    }
}
