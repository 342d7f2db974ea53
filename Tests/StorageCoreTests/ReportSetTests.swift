import Testing

@testable import StorageCore

@Suite struct ReportSetTests {
    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64]) func `knows what was added, in any order`(seed: UInt64) {
        var random = SeededRandom(seed)
        var set = ReportSet()
        var known = Set<ReportSequence>()
        for _ in 0..<2000 {
            let report = ReportSequence(epoch: random.below(3), index: random.below(400))
            let wasNew = set.insert(report)
            #expect(wasNew == known.insert(report).inserted)
            let other = ReportSequence(epoch: random.below(3), index: random.below(402) - 1)
            #expect(set.contains(other) == known.contains(other))
        }
    }

    @Test func `the order of arrival does not show`() {
        var (forwards, backwards) = (ReportSet(), ReportSet())
        for index in 0..<100 where index != 50 {
            forwards.insert(ReportSequence(epoch: 1, index: index))
            backwards.insert(ReportSequence(epoch: 1, index: 99 - index))
        }
        forwards.insert(ReportSequence(epoch: 1, index: 50))
        backwards.insert(ReportSequence(epoch: 1, index: 49))
        #expect(forwards == backwards)
    }

    @Test(arguments: [-1, Int.min, Int.max]) func `numbers of damaged lines are not taken`(index: Int) {
        var set = ReportSet()
        let isTaken = set.insert(ReportSequence(epoch: 1, index: index))
        #expect(!isTaken)
        #expect(!set.contains(ReportSequence(epoch: 1, index: index)))
    }
}
