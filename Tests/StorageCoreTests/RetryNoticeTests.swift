import Testing

@testable import StorageCore

@Suite struct RetryNoticeTests {
    private var notice = RetryNotice()

    /// Everybody fails once a second, from `since` on; when it is told of, and of how many.
    private static func told(
        _ notice: inout RetryNotice, ids: [Int] = [1], since: Int64 = 0, until: Int64
    ) -> [(now: Int64, count: Int)] {
        var told: [(Int64, Int)] = []
        for now in stride(from: since, through: until, by: 1000) {
            for id in ids {
                if let count = notice.failed(id, idle: now - since, now: now) { told.append((now, count)) }
            }
        }
        return told
    }

    @Test mutating func `the first word comes after 5 s, the next ones ever more rarely, but they come`() {
        let told = Self.told(&notice, until: 1_600_000).map { $0.now / 1000 }
        #expect(told == [5, 15, 35, 75, 155, 315, 615, 915, 1215, 1515])
    }

    @Test mutating func `many that fail side by side are told of once`() {
        let told = Self.told(&notice, ids: Array(0..<64), until: 20_000)
        #expect(told.map(\.now) == [5000, 15_000])
        #expect(told.last?.count == 64)
    }

    @Test mutating func `what passes soon is not told of, nor that it has`() {
        #expect(Self.told(&notice, until: 4000).isEmpty)
        #expect(notice.answered(1, now: 4500) == nil)
    }

    @Test mutating func `that it works again is told once, by the last one that was stuck`() {
        _ = Self.told(&notice, ids: [1, 2], until: 6000)
        #expect(notice.answered(3, now: 6500) == nil, "others never had trouble")
        #expect(notice.answered(1, now: 7000) == nil)
        #expect(notice.answered(2, now: 8000) == 8000)
        #expect(notice.answered(1, now: 9000) == nil)
    }

    @Test mutating func `one that gave up is no good news; the next answer is`() {
        _ = Self.told(&notice, until: 6000)
        notice.ended(1)
        #expect(notice.answered(2, now: 60_000) == 60_000)
    }

    @Test mutating func `trouble that comes and goes is not told of more often`() {
        var count = 0
        for round in 0..<100 as Range<Int64> {
            let since = round * 10_000
            count += Self.told(&notice, since: since, until: since + 8000).count
            _ = notice.answered(1, now: since + 9000)
        }
        // 1000 s in all: as often as of trouble that lasts.
        #expect((3...8).contains(count), "\(count)")
    }

    @Test mutating func `after a quiet while it begins anew`() {
        _ = Self.told(&notice, until: 100_000)
        _ = notice.answered(1, now: 101_000)
        let told = Self.told(&notice, since: 1_000_000, until: 1_020_000).map { $0.now - 1_000_000 }
        #expect(told == [5000, 15_000])
    }
}
