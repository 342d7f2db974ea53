internal import CStorage

/// Why and where a text is not JSON.
public struct JSONSyntaxError: Error, Sendable, Equatable {
    /// What was expected.
    public let reason: String
    /// Bytes from the start.
    public let offset: Int
}

/// A strict parser of RFC 8259 plus the literals `NaN`, `Infinity` and `-Infinity`, bounded in depth.
public struct JSONParser {
    /// Nesting beyond this is refused: our own documents need 6, and recursion must not end a trainer's stack.
    public static let maximumDepth = 128

    private let bytes: UnsafeBufferPointer<UInt8>
    private var position = 0
    /// Where forks are let through next.
    private var nextYield = ForkYield.bytes

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// Parses one document that fills the whole text.
    public static func parse(_ bytes: some Sequence<UInt8>) throws(JSONSyntaxError) -> JSONValue {
        try withBytes(bytes) { parser throws(JSONSyntaxError) in
            let value = try parser.value(depth: 0)
            try parser.end()
            return value
        }
    }

    /// Parses one document that fills the whole text.
    public static func parse(_ text: String) throws(JSONSyntaxError) -> JSONValue { try parse(text.utf8) }

    /// Checks a document without building it; returns whether it is an object.
    public static func validate(_ bytes: some Sequence<UInt8>) throws(JSONSyntaxError) -> Bool {
        try withBytes(bytes) { parser throws(JSONSyntaxError) in
            parser.skipSpace()
            let isObject = parser.peek == UInt8(ascii: "{")
            try parser.skipValue(depth: 0)
            try parser.end()
            return isObject
        }
    }

    /// The members of an object up to the one called `key`, which need not be complete: the head of a document whose
    /// bulk comes last. A text that ends before that key is an error.
    static func parseHead(_ bytes: [UInt8], upTo key: String) throws(JSONSyntaxError) -> [JSONMember] {
        try withBytes(bytes) { parser throws(JSONSyntaxError) in
            parser.skipSpace()
            guard parser.take("{") else { throw parser.failure("an object") }
            var members: [JSONMember] = []
            while true {
                parser.skipSpace()
                guard parser.peek == UInt8(ascii: "\"") else { throw parser.failure("a key") }
                let name = try parser.string()
                if name == key { return members }
                parser.skipSpace()
                guard parser.take(":") else { throw parser.failure("':'") }
                members.append(JSONMember(name, try parser.value(depth: 1)))
                parser.skipSpace()
                guard parser.take(",") else { throw parser.failure("','") }
            }
        }
    }

    private static func withBytes<Value>(
        _ bytes: some Sequence<UInt8>, _ body: (inout JSONParser) throws(JSONSyntaxError) -> Value
    ) throws(JSONSyntaxError) -> Value {
        func run(_ buffer: UnsafeBufferPointer<UInt8>) -> Result<Value, JSONSyntaxError> {
            var parser = JSONParser(buffer)
            do throws(JSONSyntaxError) { return .success(try body(&parser)) } catch { return .failure(error) }
        }
        if let result = bytes.withContiguousStorageIfAvailable(run) { return try result.get() }
        return try Array(bytes).withUnsafeBufferPointer(run).get()
    }

    private var peek: UInt8 { position < bytes.count ? bytes[position] : 0 }

    private func failure(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(reason: reason, offset: position) }

    private mutating func letForksPass() {
        guard position >= nextYield else { return }
        nextYield = position + ForkYield.bytes
        cs_fork_yield()
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func end() throws(JSONSyntaxError) {
        skipSpace()
        if position != bytes.count { throw failure("end of text") }
    }

    private mutating func take(_ literal: StaticString) -> Bool {
        let count = literal.utf8CodeUnitCount
        guard position + count <= bytes.count else { return false }
        for index in 0..<count where bytes[position + index] != literal.utf8Start[index] { return false }
        position += count
        return true
    }

    private mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        if depth > Self.maximumDepth { throw failure("at most \(Self.maximumDepth) levels of nesting") }
        letForksPass()
        skipSpace()
        switch peek {
        case UInt8(ascii: "{"):
            var members: [JSONMember] = []
            try object(depth: depth) { parser, key throws(JSONSyntaxError) in
                members.append(JSONMember(key, try parser.value(depth: depth + 1)))
            }
            return .object(members)
        case UInt8(ascii: "["):
            var elements: [JSONValue] = []
            try array { parser throws(JSONSyntaxError) in elements.append(try parser.value(depth: depth + 1)) }
            return .array(elements)
        case UInt8(ascii: "\""):
            return .string(try string())
        default:
            return try scalar()
        }
    }

    private mutating func skipValue(depth: Int) throws(JSONSyntaxError) {
        if depth > Self.maximumDepth { throw failure("at most \(Self.maximumDepth) levels of nesting") }
        letForksPass()
        skipSpace()
        switch peek {
        case UInt8(ascii: "{"):
            try object(depth: depth, keys: false) { parser, _ throws(JSONSyntaxError) in
                try parser.skipValue(depth: depth + 1)
            }
        case UInt8(ascii: "["):
            try array { parser throws(JSONSyntaxError) in try parser.skipValue(depth: depth + 1) }
        case UInt8(ascii: "\""):
            _ = try scanString()
        default:
            _ = try scalar()
        }
    }

    private mutating func object(
        depth: Int, keys: Bool = true, _ member: (inout JSONParser, String) throws(JSONSyntaxError) -> Void
    ) throws(JSONSyntaxError) {
        position += 1
        skipSpace()
        if peek == UInt8(ascii: "}") {
            position += 1
            return
        }
        while true {
            skipSpace()
            guard peek == UInt8(ascii: "\"") else { throw failure("a key") }
            var key = ""
            if keys { key = try string() } else { _ = try scanString() }
            skipSpace()
            guard take(":") else { throw failure("':'") }
            try member(&self, key)
            skipSpace()
            if take(",") { continue }
            if take("}") { return }
            throw failure("',' or '}'")
        }
    }

    private mutating func array(
        _ element: (inout JSONParser) throws(JSONSyntaxError) -> Void
    ) throws(JSONSyntaxError) {
        position += 1
        skipSpace()
        if take("]") { return }
        while true {
            try element(&self)
            skipSpace()
            if take(",") { continue }
            if take("]") { return }
            throw failure("',' or ']'")
        }
    }

    private mutating func scalar() throws(JSONSyntaxError) -> JSONValue {
        if take("null") { return .null }
        if take("true") { return .bool(true) }
        if take("false") { return .bool(false) }
        if take("NaN") { return .number(.nan) }
        if take("Infinity") { return .number(.infinity) }
        if take("-Infinity") { return .number(-.infinity) }
        return try number()
    }

    private mutating func digits() -> Int {
        let start = position
        while position < bytes.count, bytes[position] >= 0x30, bytes[position] <= 0x39 { position += 1 }
        return position - start
    }

    private mutating func number() throws(JSONSyntaxError) -> JSONValue {
        let start = position
        _ = take("-")
        let leading = peek
        let whole = digits()
        guard whole > 0 else { throw failure("a value") }
        if leading == 0x30, whole > 1 { throw failure("a number without leading zeros") }
        var isWhole = true
        if take(".") {
            isWhole = false
            guard digits() > 0 else { throw failure("a digit") }
        }
        if take("e") || take("E") {
            isWhole = false
            if !take("+") { _ = take("-") }
            guard digits() > 0 else { throw failure("a digit") }
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isWhole { return Int64(text).map { .integer($0) } ?? .rawNumber(text) }
        guard let double = Double(text), double.isFinite else { return .rawNumber(text) }
        return .number(double)
    }

    /// Moves behind the string; returns its content's range and whether it holds escapes.
    private mutating func scanString() throws(JSONSyntaxError) -> (range: Range<Int>, escaped: Bool) {
        position += 1
        let start = position
        var escaped = false
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return (start..<(position - 1), escaped)
            case UInt8(ascii: "\\"):
                escaped = true
                position += 1
                try scanEscape()
            case 0..<0x20:
                throw failure("no control character in a string")
            default:
                position += 1
            }
        }
        throw failure("'\"'")
    }

    private mutating func scanEscape() throws(JSONSyntaxError) {
        switch peek {
        case UInt8(ascii: "u"):
            position += 1
            for _ in 0..<4 {
                guard Self.hexDigit(peek) != nil else { throw failure("four hexadecimal digits") }
                position += 1
            }
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            position += 1
        default:
            throw failure("an escape")
        }
    }

    private static func hexDigit(_ byte: UInt8) -> UInt16? {
        switch byte {
        case 0x30...0x39: UInt16(byte - 0x30)
        case 0x41...0x46: UInt16(byte - 0x41 + 10)
        case 0x61...0x66: UInt16(byte - 0x61 + 10)
        default: nil
        }
    }

    private mutating func string() throws(JSONSyntaxError) -> String {
        let (range, escaped) = try scanString()
        if !escaped { return String(decoding: bytes[range], as: UTF8.self) }
        // Escapes give UTF-16 units; a lone surrogate becomes U+FFFD, as String has no place for it.
        var units: [UInt16] = []
        var forks = ForkYield()
        var index = range.lowerBound
        var plain = index
        func flush(to end: Int) {
            if plain < end { units.append(contentsOf: String(decoding: bytes[plain..<end], as: UTF8.self).utf16) }
        }
        while index < range.upperBound {
            guard bytes[index] == UInt8(ascii: "\\") else {
                index += 1
                continue
            }
            forks.step(16)
            flush(to: index)
            switch bytes[index + 1] {
            case UInt8(ascii: "u"):
                var unit: UInt16 = 0
                for digit in 0..<4 { unit = unit << 4 | (Self.hexDigit(bytes[index + 2 + digit]) ?? 0) }
                units.append(unit)
                index += 4
            case UInt8(ascii: "b"): units.append(0x08)
            case UInt8(ascii: "f"): units.append(0x0C)
            case UInt8(ascii: "n"): units.append(0x0A)
            case UInt8(ascii: "r"): units.append(0x0D)
            case UInt8(ascii: "t"): units.append(0x09)
            case let other: units.append(UInt16(other))
            }
            index += 2
            plain = index
        }
        flush(to: range.upperBound)
        return String(decoding: units, as: UTF16.self)
    }
}
