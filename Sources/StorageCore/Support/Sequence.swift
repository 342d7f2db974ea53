/// The place of a report in a run's history: the epoch (launch of the job, from 1), then the number of the `report()`
/// call within it (from 0, metrics-only ones included). The order of everything.
public struct ReportSequence: Comparable, Hashable, Sendable {
    /// The launch of the job on this run, from 1.
    public var epoch: Int
    /// The number of the `report()` call within the epoch, from 0.
    public var index: Int

    /// Creates a place; nothing is checked.
    public init(epoch: Int, index: Int) {
        self.epoch = epoch
        self.index = index
    }

    /// Earlier epochs first, then earlier calls.
    public static func < (left: ReportSequence, right: ReportSequence) -> Bool {
        (left.epoch, left.index) < (right.epoch, right.index)
    }
}

extension ReportSequence {
    /// No epoch or index is larger: what a damaged document says must not overflow our sums.
    static let limit = 1 << 40
}

/// One try to store the checkpoint of one report, `<epoch>-<index>-<nonce of the epoch>` in file names and documents.
/// The nonce tells a removed and re-created run from its predecessor.
public struct AttemptID: Hashable, Sendable, CustomStringConvertible {
    /// The report that it stores.
    public var sequence: ReportSequence
    /// The random nonce of the epoch, lower-case hexadecimal digits.
    public var nonce: String

    /// Creates an id; nothing is checked.
    public init(sequence: ReportSequence, nonce: String) {
        self.sequence = sequence
        self.nonce = nonce
    }

    /// Reads an id, nil unless the text is exactly what `description` gives. A second spelling of one id would be a
    /// second directory for one attempt, so signs, leading zeros and capitals are no id.
    public init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard parts.count == 3, let epoch = Decimal.strict(parts[0]), let index = Decimal.strict(parts[1]) else {
            return nil
        }
        guard 1...ReportSequence.limit ~= epoch, index <= ReportSequence.limit, !parts[2].isEmpty,
            parts[2].allSatisfy(Decimal.isLowerHex)
        else { return nil }
        self.init(
            sequence: ReportSequence(epoch: epoch, index: index), nonce: String(decoding: parts[2], as: UTF8.self))
    }

    /// `<epoch>-<index>-<nonce>`
    public var description: String { "\(sequence.epoch)-\(sequence.index)-\(nonce)" }
}

/// Digits in names and ids, read without tolerance.
enum Decimal {
    /// A number without sign or leading zeros that fits an Int, else nil.
    static func strict(_ text: some Collection<UInt8>) -> Int? {
        guard let first = text.first, text.count == 1 || first != UInt8(ascii: "0") else { return nil }
        return digits(text)
    }

    /// A number that may have leading zeros and fits an Int, else nil.
    static func digits(_ text: some Collection<UInt8>) -> Int? {
        guard !text.isEmpty else { return nil }
        var value = 0
        for byte in text {
            guard isDigit(byte) else { return nil }
            let (tens, tooLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow) = tens.addingReportingOverflow(Int(byte) - 0x30)
            if tooLarge || overflow { return nil }
            value = sum
        }
        return value
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    static func isLowerHex(_ byte: UInt8) -> Bool { isDigit(byte) || (byte >= 0x61 && byte <= 0x66) }

    /// At least `width` digits, filled with zeros in front.
    static func padded(_ value: Int, _ width: Int) -> String {
        let digits = String(value)
        let missing = width - digits.utf8.count
        return missing > 0 ? String(repeating: "0", count: missing) + digits : digits
    }
}
