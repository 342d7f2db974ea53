/// A request in the one form that client and server compute alike (SigV4, step 1).
struct CanonicalRequest: Sendable, Equatable {
    /// `host;x-amz-date`
    let signedHeaders: String
    private let head: String
    /// By name, in the order of their bytes.
    private let headers: [HTTPHeader]
    private let tail: String

    init(_ request: HTTPRequest, payload: String, rules: SigV4Signer.Rules, unsigned: Set<String>) {
        var headers: [HTTPHeader] = []
        headers.reserveCapacity(request.headers.count + 1)
        var hasHost = false
        for header in request.headers {
            let name = header.name.lowercased()
            if unsigned.contains(name) { continue }
            hasHost = hasHost || name == "host"
            headers.append(HTTPHeader(name, Self.folded(header.value)))
        }
        if !hasHost { headers.append(HTTPHeader("host", request.url.signedAuthority)) }
        // Stable: several values of one name stay in their order.
        headers.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        self.headers = Self.joined(headers)
        signedHeaders = self.headers.map(\.name).joined(separator: ";")

        var path = request.url.path.isEmpty ? "/" : request.url.path
        if rules.normalizesPath { path = Self.normalized(path) }
        if rules.encodesPathTwice { path = PercentEncoding.encode(path, keeping: "/") }
        head = "\(request.method)\n\(path)\n\(Self.query(request.url.query))\n"
        tail = "\n\(signedHeaders)\n\(payload)"
    }

    /// What is hashed. Holds the session token.
    var text: String { text { $0.value } }
    /// The same for people, without secrets.
    var shown: String { text { HTTPHeader.isSecret($0.name) ? "…" : $0.value } }

    private func text(_ value: (HTTPHeader) -> String) -> String {
        var text = head
        text.reserveCapacity(1024)
        for header in headers {
            text += header.name
            text += ":"
            text += value(header)
            text += "\n"
        }
        return text + tail
    }

    /// One header for several of the same name.
    private static func joined(_ sorted: [HTTPHeader]) -> [HTTPHeader] {
        var joined: [HTTPHeader] = []
        joined.reserveCapacity(sorted.count)
        for header in sorted {
            if let last = joined.last, last.name == header.name {
                joined[joined.count - 1].value += "," + header.value
            } else {
                joined.append(header)
            }
        }
        return joined
    }

    /// Parameters sorted by encoded name, then value; all but unreserved characters encoded, once.
    static func query(_ wire: String) -> String {
        if wire.isEmpty { return "" }
        let parameters = wire.utf8.split(separator: UInt8(ascii: "&")).map { parameter in
            let parts = parameter.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            return (name: encodedOnce(parts[0]), value: parts.count > 1 ? encodedOnce(parts[1]) : "")
        }
        return parameters.sorted { left, right in
            if left.name == right.name { return left.value.utf8.lexicographicallyPrecedes(right.value.utf8) }
            return left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
        }.map { "\($0.name)=\($0.value)" }.joined(separator: "&")
    }

    /// Encodes what is not encoded, and writes `%7e` and `%2f` as AWS does: `~` and `%2F`.
    private static func encodedOnce(_ wire: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        func value(_ byte: UInt8) -> UInt8? {
            switch byte {
            case 0x30...0x39: byte - 0x30
            case 0x41...0x46: byte - 0x41 + 10
            case 0x61...0x66: byte - 0x61 + 10
            default: nil
            }
        }
        var output: [UInt8] = []
        var rest = Array(wire)[...]
        while var byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, let high = value(rest[rest.startIndex]),
                let low = value(rest[rest.startIndex + 1])
            {
                byte = high << 4 | low
                rest = rest.dropFirst(2)
            }
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                output.append(byte)
            default: output += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// Without white space at the ends, and one space for each run of it inside.
    static func folded(_ value: String) -> String {
        let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0D).contains(byte) }
        guard value.utf8.contains(where: isSpace) else { return value }
        let words = value.utf8.split(whereSeparator: isSpace)
        return words.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }

    /// RFC 3986, 5.2.4, and one slash for several.
    static func normalized(_ path: String) -> String {
        var segments: [String] = []
        var endsInDirectory = true
        for part in path.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            endsInDirectory = part.isEmpty || part == "." || part == ".."
            if part == ".." { _ = segments.popLast() }
            if !endsInDirectory { segments.append(String(part)) }
        }
        guard !segments.isEmpty else { return "/" }
        return "/" + segments.joined(separator: "/") + (endsInDirectory ? "/" : "")
    }
}

extension HTTPURL {
    /// The `Host` header: without the port that the scheme has anyway.
    var signedAuthority: String {
        switch (scheme, port) {
        case ("http", 80), ("https", 443): host
        default: authority
        }
    }
}
