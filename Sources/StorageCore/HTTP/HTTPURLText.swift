extension HTTPURL {
    /// Takes `http(s)://host[:port][/path][?query]` apart; path and query stay as they are encoded. nil for anything else: user
    /// names, fragments, blanks, hosts that are none.
    init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count <= 8192, bytes.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "#") }),
            let colon = bytes.firstIndex(of: UInt8(ascii: ":")), bytes[colon...].starts(with: "://".utf8)
        else { return nil }
        scheme = String(decoding: bytes[..<colon], as: UTF8.self).lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let rest = bytes[(colon + 3)...]
        let end = rest.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? rest.endIndex
        let authority = rest[..<end]
        let mark = rest[end...].firstIndex(of: UInt8(ascii: "?")) ?? rest.endIndex
        path = String(decoding: rest[end..<mark], as: UTF8.self)
        if path.isEmpty { path = "/" }
        query = mark < rest.endIndex ? String(decoding: rest[(mark + 1)...], as: UTF8.self) : ""

        var hostEnd = authority.endIndex
        if authority.first == UInt8(ascii: "[") {
            guard let close = authority.firstIndex(of: UInt8(ascii: "]")) else { return nil }
            hostEnd = close + 1
            let address = authority[(authority.startIndex + 1)..<close]
            let isAddress = address.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x46, 0x61...0x66, UInt8(ascii: ":"), UInt8(ascii: "."): true
                default: false
                }
            }
            guard isAddress, address.contains(UInt8(ascii: ":")) else { return nil }
        } else {
            hostEnd = authority.firstIndex(of: UInt8(ascii: ":")) ?? authority.endIndex
            let isName = authority[..<hostEnd].allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
            guard isName, hostEnd > authority.startIndex else { return nil }
        }
        host = String(decoding: authority[..<hostEnd], as: UTF8.self).lowercased()
        port = nil
        guard hostEnd < authority.endIndex else { return }
        let digits = authority[(hostEnd + 1)...]
        guard authority[hostEnd] == UInt8(ascii: ":"), digits.allSatisfy({ (0x30...0x39).contains($0) }),
            (1...5).contains(digits.count), let number = Int(String(decoding: digits, as: UTF8.self)),
            (1...65_535).contains(number)
        else { return nil }
        port = number
    }
}
