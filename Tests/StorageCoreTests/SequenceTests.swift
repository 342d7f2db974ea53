import Testing

@testable import StorageCore

@Suite struct SequenceTests {
    @Test func `orders by epoch, then by index`() {
        let places = [(2, 0), (1, 10), (1, 9), (10, 0)].map { ReportSequence(epoch: $0.0, index: $0.1) }
        #expect(places.sorted().map { [$0.epoch, $0.index] } == [[1, 9], [1, 10], [2, 0], [10, 0]])
    }

    @Test(arguments: ["1-0-0123456789abcdef", "12-345-f", "1099511627776-1099511627776-a"])
    func `an attempt id reads back as it was written`(text: String) throws {
        #expect(AttemptID(text)?.description == text)
    }

    @Test(arguments: [
        "", "1-2", "1-2-", "1-2-g", "1-2-A", "+1-2-a", "01-2-a", "1-02-a", "1-2-a-b", "-1-2-a", "1--2-a", " 1-2-a",
        "1-2-a\n", "0-2-a", "9223372036854775808-0-a", "1099511627777-0-a", "1-1099511627777-a", "1-2-a~", "١-2-a",
        "1-2-a/..", "1-00-a",
    ])
    func `anything else is no attempt id`(text: String) {
        #expect(AttemptID(text) == nil)
    }
}
