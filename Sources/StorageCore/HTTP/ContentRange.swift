/// `Content-Range` of an answer: which bytes it holds, and of how many.
struct ContentRange: Sendable, Equatable {
    var bytes: Range<Int>
    /// nil: the server does not know (`*`).
    var total: Int?

    /// `bytes 0-9/100`; nil for anything else.
    init?(_ header: String) {
        let unit = "bytes "
        guard header.utf8.starts(with: unit.utf8) else { return nil }
        let parts = header.utf8.dropFirst(unit.utf8.count).split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let ends = parts[0].split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard ends.count == 2, let first = Decimal.digits(ends[0]), let last = Decimal.digits(ends[1]), first <= last,
            last < Int.max
        else { return nil }
        bytes = first..<(last + 1)
        if parts[1].elementsEqual("*".utf8) { return }
        guard let total = Decimal.digits(parts[1]), total > last else { return nil }
        self.total = total
    }
}
