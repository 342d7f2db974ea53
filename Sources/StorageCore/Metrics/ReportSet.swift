/// Which reports have been seen. Small for the numbers of a trainer, which come nearly in order and nearly without
/// gaps: a million of them are mostly one range.
struct ReportSet: Sendable, Equatable {
    /// By epoch: the indices as ranges that are sorted and do not touch.
    private var ranges: [Int: [Range<Int>]] = [:]

    /// Adds a report; false when it was there.
    @discardableResult
    mutating func insert(_ sequence: ReportSequence) -> Bool {
        let index = sequence.index
        // A damaged line must not overflow the range behind it.
        guard index >= 0, index < Int.max else { return false }
        var known = ranges.removeValue(forKey: sequence.epoch) ?? []
        defer { ranges[sequence.epoch] = known }
        let next = Self.place(of: index, in: known)
        let before = next - 1
        if before >= 0, known[before].contains(index) { return false }
        let joinsBefore = before >= 0 && known[before].upperBound == index
        let joinsNext = next < known.count && known[next].lowerBound == index + 1
        switch (joinsBefore, joinsNext) {
        case (true, true):
            known.replaceSubrange(before...next, with: [known[before].lowerBound..<known[next].upperBound])
        case (true, false): known[before] = known[before].lowerBound..<(index + 1)
        case (false, true): known[next] = index..<known[next].upperBound
        case (false, false): known.insert(index..<(index + 1), at: next)
        }
        return true
    }

    /// Whether a report was added.
    func contains(_ sequence: ReportSequence) -> Bool {
        guard let known = ranges[sequence.epoch] else { return false }
        let before = Self.place(of: sequence.index, in: known) - 1
        return before >= 0 && known[before].contains(sequence.index)
    }

    /// The place of the first range that begins behind the index.
    private static func place(of index: Int, in ranges: [Range<Int>]) -> Int {
        // Mostly the last one is meant.
        if let last = ranges.last, last.lowerBound <= index { return ranges.count }
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].lowerBound <= index { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
