/// Percent-encoding of URIs (RFC 3986), on the bytes of UTF-8.
enum PercentEncoding {
    /// The plain text, nil when a `%` is not followed by two hexadecimal digits or the bytes are not UTF-8.
    static func decode(_ text: String) -> String? {
        var plain: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                plain.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else {
                return nil
            }
            plain.append(high << 4 | low)
        }
        return String(validating: plain, as: UTF8.self)
    }

    /// The text with everything encoded but letters, digits, `-`, `.`, `_`, `~` and the ASCII characters to keep.
    static func encode(_ text: String, keeping: String = "") -> String {
        let kept = Array("-._~".utf8) + Array(keeping.utf8)
        var output: [UInt8] = []
        output.reserveCapacity(text.utf8.count)
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: output.append(byte)
            case _ where kept.contains(byte): output.append(byte)
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                output.append(contentsOf: (byte < 16 ? "%0" : "%").utf8)
                output.append(contentsOf: digits.utf8)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}
