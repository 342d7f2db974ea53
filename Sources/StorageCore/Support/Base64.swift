/// Base64 of RFC 4648, section 4, with padding.
enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var place = 0
        while place < bytes.count {
            let count = min(3, bytes.count - place)
            var word = UInt32(bytes[place]) << 16
            if count > 1 { word |= UInt32(bytes[place + 1]) << 8 }
            if count > 2 { word |= UInt32(bytes[place + 2]) }
            for index in 0..<4 {
                text.append(index <= count ? alphabet[Int(word >> UInt32(18 - 6 * index) & 63)] : UInt8(ascii: "="))
            }
            place += 3
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// nil when the text is not Base64 with its padding.
    static func decode(_ text: String) -> [UInt8]? {
        let input = Array(text.utf8)
        guard input.count % 4 == 0 else { return nil }
        let padding = input.suffix(2).filter { $0 == UInt8(ascii: "=") }.count
        if padding == 2, input.last != input[input.count - 2] { return nil }
        if padding == 1, input.last != UInt8(ascii: "=") { return nil }
        var output: [UInt8] = []
        output.reserveCapacity(input.count / 4 * 3)
        var word: UInt32 = 0
        for (index, byte) in input.dropLast(padding).enumerated() {
            guard let value = value(byte) else { return nil }
            word = word << 6 | value
            if index % 4 == 3 {
                output += [UInt8(word >> 16 & 255), UInt8(word >> 8 & 255), UInt8(word & 255)]
                word = 0
            }
        }
        if padding == 1 { output += [UInt8(word >> 10 & 255), UInt8(word >> 2 & 255)] }
        if padding == 2 { output.append(UInt8(word >> 4 & 255)) }
        return output
    }

    private static func value(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
