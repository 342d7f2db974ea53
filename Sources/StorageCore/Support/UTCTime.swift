/// An instant in UTC to the second, and the texts that protocols have for it. No locale and no time zone of the process.
struct UTCTime: Sendable, Equatable {
    var year: Int
    var month: Int
    var day: Int
    var hour: Int
    var minute: Int
    var second: Int

    /// Years 1 to 9999; what lies outside is cut to that.
    init(secondsSince1970: Double) {
        let bounded = max(-62_135_596_800, min(253_402_300_799, secondsSince1970.isNaN ? 0 : secondsSince1970))
        let seconds = Int(bounded.rounded(.down))
        let (days, rest) = seconds.flooredDivision(by: 86_400)
        (year, month, day) = Self.civil(days)
        (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60)
    }

    private init(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
        (self.year, self.month, self.day) = (year, month, day)
        (self.hour, self.minute, self.second) = (hour, minute, second)
    }

    /// Seconds since 1970.
    var secondsSince1970: Double {
        Double(Self.days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }

    /// `20150830`
    var basicDate: String { Self.padded(year, 4) + Self.padded(month) + Self.padded(day) }
    /// `20150830T123600Z`
    var basic: String { "\(basicDate)T\(Self.padded(hour))\(Self.padded(minute))\(Self.padded(second))Z" }
    /// `2015-08-30T12:36:00Z`
    var extended: String {
        "\(Self.padded(year, 4))-\(Self.padded(month))-\(Self.padded(day))"
            + "T\(Self.padded(hour)):\(Self.padded(minute)):\(Self.padded(second))Z"
    }

    /// Reads RFC 3339 and what AWS and its tools write for it: `2021-09-21T18:41:26Z`, with a fraction, an offset
    /// (`+00:00`, `+0000`), `UTC` or nothing (then UTC), or a space for the `T`. Seconds since 1970, nil otherwise.
    static func parse(iso8601 text: String) -> Double? {
        var reader = Reader(text)
        guard let year = reader.number(4), reader.take("-"), let month = reader.number(2), reader.take("-"),
            let day = reader.number(2), reader.take("T") || reader.take("t") || reader.take(" "),
            let hour = reader.number(2), reader.take(":"), let minute = reader.number(2), reader.take(":"),
            let second = reader.number(2)
        else { return nil }
        var fraction = 0.0
        if reader.take(".") || reader.take(",") {
            var scale = 0.1
            var digits = 0
            while let digit = reader.number(1) {
                fraction += Double(digit) * scale
                scale /= 10
                digits += 1
                if digits > 18 { return nil }
            }
            if digits == 0 { return nil }
        }
        var offset = 0
        if !reader.isAtEnd, !reader.take("Z"), !reader.take("z"), !reader.take("UTC") {
            let isEast = reader.take("+")
            guard isEast || reader.take("-"), let hours = reader.number(2) else { return nil }
            let hasColon = reader.take(":")
            let minutes = reader.number(2)
            guard minutes != nil || !hasColon, hours < 24, minutes ?? 0 < 60 else { return nil }
            offset = (hours * 3600 + (minutes ?? 0) * 60) * (isEast ? 1 : -1)
        }
        guard reader.isAtEnd, let time = checked(year, month, day, hour, minute, second) else { return nil }
        return time.secondsSince1970 + fraction - Double(offset)
    }

    /// Reads a `Date` header in any of the three forms of RFC 7231: `Sun, 06 Nov 1994 08:49:37 GMT`, and the two old
    /// ones. Seconds since 1970, nil otherwise.
    static func parse(httpDate text: String) -> Double? {
        var reader = Reader(text)
        guard let weekday = reader.word(), weekday.count >= 3 else { return nil }
        let time: UTCTime?
        if reader.take(", ") {
            guard let day = reader.number(2), reader.take(" ") || reader.take("-"), let month = reader.month(),
                reader.take(" ") || reader.take("-"), var year = reader.number(2)
            else { return nil }
            if let rest = reader.number(2) {
                year = year * 100 + rest
            } else {
                year += year < 70 ? 2000 : 1900
            }
            guard reader.take(" "), let clock = reader.clock(), reader.take(" GMT") || reader.take(" UTC") else {
                return nil
            }
            time = checked(year, month, day, clock.0, clock.1, clock.2)
        } else {
            guard reader.take(" "), let month = reader.month(), reader.take(" "),
                let day = reader.take(" ") ? reader.number(1) : reader.number(2), reader.take(" "),
                let clock = reader.clock(), reader.take(" "), let year = reader.number(4)
            else { return nil }
            time = checked(year, month, day, clock.0, clock.1, clock.2)
        }
        return reader.isAtEnd ? time?.secondsSince1970 : nil
    }

    /// A leap second counts as the one before it.
    private static func checked(
        _ year: Int, _ month: Int, _ day: Int, _ hour: Int, _ minute: Int, _ second: Int
    ) -> UTCTime? {
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard year >= 1, (1...12).contains(month), (1...lengths[month - 1]).contains(day), hour < 24, minute < 60,
            second <= 60
        else { return nil }
        return UTCTime(year: year, month: month, day: day, hour: hour, minute: minute, second: min(59, second))
    }

    /// Days since 1970 of a date of the Gregorian calendar: years begin in March, so that the leap day comes last.
    private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let shifted = month > 2 ? year : year - 1
        let (era, yearOfEra) = shifted.flooredDivision(by: 400)
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func civil(_ days: Int) -> (year: Int, month: Int, day: Int) {
        let (era, dayOfEra) = (days + 719_468).flooredDivision(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }

    private static func padded(_ value: Int, _ width: Int = 2) -> String {
        let digits = String(value)
        let missing = width - digits.utf8.count
        return missing > 0 ? String(repeating: "0", count: missing) + digits : digits
    }

    /// Takes a short text apart from the left.
    private struct Reader {
        private var rest: ArraySlice<UInt8>

        /// Nothing longer than 64 bytes is a time.
        init(_ text: String) { rest = Array(text.utf8.prefix(65))[...] }

        var isAtEnd: Bool { rest.isEmpty }

        mutating func take(_ text: StaticString) -> Bool {
            text.withUTF8Buffer { bytes in
                guard rest.starts(with: bytes) else { return false }
                rest = rest.dropFirst(bytes.count)
                return true
            }
        }

        /// Exactly that many digits.
        mutating func number(_ digits: Int) -> Int? {
            let text = rest.prefix(digits)
            guard text.count == digits, text.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
            rest = rest.dropFirst(digits)
            return text.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        }

        mutating func word() -> String? {
            let text = rest.prefix { (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) }
            rest = rest.dropFirst(text.count)
            return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
        }

        mutating func month() -> Int? {
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            return word().flatMap { names.firstIndex(of: $0) }.map { $0 + 1 }
        }

        mutating func clock() -> (Int, Int, Int)? {
            guard let hour = number(2), take(":"), let minute = number(2), take(":"), let second = number(2) else {
                return nil
            }
            return (hour, minute, second)
        }
    }
}

/// An instant as a store writes it, in a header or a document.
enum InstantText {
    /// Seconds since 1970, nil when it is neither ISO 8601 nor the date of a header.
    static func seconds(_ text: String) -> Double? { UTCTime.parse(iso8601: text) ?? UTCTime.parse(httpDate: text) }
}

extension Int {
    /// Quotient and remainder with the remainder from 0 to `divisor - 1`; `divisor` is positive.
    fileprivate func flooredDivision(by divisor: Int) -> (quotient: Int, remainder: Int) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}
