/// The parse behind `StoragePath.resolve`, with errors that never repeat a secret.
struct StoragePathParser {
    let text: String
    /// Which argument or variable the text came from.
    let source: String

    /// Options that a URI of each store may carry; pyarrow's (and so Ray's) names among them.
    static func allowedKeys(_ scheme: StoragePath.Scheme) -> [String] {
        switch scheme {
        case .file: []
        case .s3: S3Option.uriKeys
        case .gs: ["scheme", "endpoint_override", "project_id"]
        }
    }

    func parse(home: () -> String?) throws(StorageError) -> StoragePath {
        if text.isEmpty { throw refusal("is empty") }
        if text.utf8.contains(0) { throw refusal("holds a NUL") }
        if text.utf8.first == UInt8(ascii: "/") { return try local(text) }
        if text.utf8.first == UInt8(ascii: "~") { return try local(expanded(home)) }
        guard let (name, rest) = Self.split(text, at: "://") else { throw refusal("is not an absolute path") }
        guard let scheme = StoragePath.Scheme(rawValue: name) else {
            throw refusal("has an unknown scheme")
        }
        if rest.utf8.contains(UInt8(ascii: "#")) { throw refusal("holds a '#'; write it as %23") }
        let parts = Self.split(rest, at: "?")
        if scheme == .file { return try file(parts?.0 ?? rest, hasQuery: parts != nil) }
        return try store(scheme, parts?.0 ?? rest, parts?.1 ?? "")
    }

    private func expanded(_ home: () -> String?) throws(StorageError) -> String {
        let rest = String(text.unicodeScalars.dropFirst())
        guard rest.isEmpty || rest.utf8.first == UInt8(ascii: "/") else {
            throw refusal("names another user's home; write its path")
        }
        guard let home = home(), home.utf8.first == UInt8(ascii: "/") else {
            throw refusal("needs a home directory, and neither HOME nor the password file has an absolute one")
        }
        return home + rest
    }

    private func local(_ path: String) throws(StorageError) -> StoragePath {
        let parts = path.utf8.split(separator: UInt8(ascii: "/"))
            .map { String(decoding: $0, as: UTF8.self) }.filter { $0 != "." }
        if parts.contains("..") {
            throw refusal("holds '..', which means different places when links are about; resolve it first")
        }
        return StoragePath(scheme: .file, directory: "/" + parts.joined(separator: "/"))
    }

    private func file(_ location: String, hasQuery: Bool) throws(StorageError) -> StoragePath {
        if hasQuery { throw refusal("has options behind '?', and file:// knows none; write a '?' as %3F") }
        guard location.utf8.first == UInt8(ascii: "/") else {
            throw refusal("names a host; write file:///path, with three slashes")
        }
        return try local(decoded(location))
    }

    private func store(
        _ scheme: StoragePath.Scheme, _ location: String, _ options: String
    ) throws(StorageError) -> StoragePath {
        let (bucket, rest) = Self.split(location, at: "/") ?? (location, "")
        if bucket.utf8.starts(with: "arn:".utf8) {
            throw refusal("names the bucket by an ARN; write its name, or of an access point the alias (…-s3alias)")
        }
        // A secret key may hold a '/', so what stands before it can be the start of key:secret.
        if bucket.utf8.contains(where: { $0 == UInt8(ascii: "@") || $0 == UInt8(ascii: ":") }) {
            throw refusal("holds credentials or a port; give credentials by the environment or storage_options")
        }
        guard Self.isBucket(bucket) else { throw refusal("has no valid bucket name behind \(scheme.rawValue)://") }
        var prefix = try decoded(rest)
        while prefix.utf8.last == UInt8(ascii: "/") { prefix.unicodeScalars.removeLast() }
        let parts = prefix.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let isPlain = parts.allSatisfy { !$0.isEmpty && !$0.elementsEqual(".".utf8) && !$0.elementsEqual("..".utf8) }
        if !prefix.isEmpty, !isPlain { throw refusal("holds an empty component, '.' or '..' in its prefix") }
        return StoragePath(
            scheme: scheme, directory: prefix, bucket: bucket, query: try query(scheme, options))
    }

    private func query(
        _ scheme: StoragePath.Scheme, _ options: String
    ) throws(StorageError) -> [StoragePath.QueryItem] {
        let allowed = Self.allowedKeys(scheme)
        var items: [StoragePath.QueryItem] = []
        for part in options.utf8.split(separator: UInt8(ascii: "&")) {
            guard let (key, value) = Self.split(String(decoding: part, as: UTF8.self), at: "=") else {
                throw refusal("has an option without '='")
            }
            let option = scheme == .s3 ? S3Option.named(key) : nil
            if let option { try option.checkPlace() }
            guard allowed.contains(key) else {
                // The key only: the value of an unknown one may be a secret.
                let list = allowed.joined(separator: ", ")
                throw StorageError(
                    .invalidArgument,
                    "\(source) \(quoted(Self.shown(text))) has the unknown option \(quoted(key)); allowed are \(list)",
                    details: [
                        ("name", .string(source)), ("value", .string(key)),
                        ("allowed", .array(allowed.map { .string($0) })),
                    ])
            }
            if items.contains(where: { $0.key == key }) { throw refusal("has the option \(key) twice") }
            let plain = try decoded(value)
            if plain.utf8.contains(UInt8(ascii: "@")) {
                throw refusal("holds credentials in \(key); give them by the environment or storage_options")
            }
            if let option { _ = try option.value(of: .string(plain)) }
            items.append(StoragePath.QueryItem(key: key, value: plain))
        }
        return items
    }

    private func decoded(_ part: String) throws(StorageError) -> String {
        guard let plain = PercentEncoding.decode(part) else {
            throw refusal("holds a '%' that two hexadecimal digits of UTF-8 do not follow; write it as %25")
        }
        if plain.utf8.contains(0) { throw refusal("holds a NUL") }
        return plain
    }

    /// Bucket names of both stores: 3 to 222 of lower-case letters, digits, `-`, `_` and `.`, not at the ends.
    private static func isBucket(_ name: String) -> Bool {
        let isAlphanumeric = { (byte: UInt8) in Decimal.isDigit(byte) || (0x61...0x7A).contains(byte) }
        guard let first = name.utf8.first, let last = name.utf8.last, isAlphanumeric(first), isAlphanumeric(last)
        else { return false }
        let others = "-_.".utf8
        return (3...222).contains(name.utf8.count)
            && name.utf8.allSatisfy { isAlphanumeric($0) || others.contains($0) }
    }

    /// What stands before and behind the first mark, nil without one.
    private static func split(_ text: String, at mark: String) -> (String, String)? {
        let bytes = Array(text.utf8)
        let mark = Array(mark.utf8)
        guard bytes.count >= mark.count else { return nil }
        for start in 0...(bytes.count - mark.count) where bytes[start..<(start + mark.count)].elementsEqual(mark) {
            let rest = bytes[(start + mark.count)...]
            return (String(decoding: bytes[..<start], as: UTF8.self), String(decoding: rest, as: UTF8.self))
        }
        return nil
    }

    private func refusal(_ problem: String) -> StorageError {
        let shown = Self.shown(text)
        return StorageError(
            .invalidArgument, "\(source) \(quoted(shown)) \(problem); allowed is \(StoragePath.allowed)",
            details: [
                ("name", .string(source)), ("value", .string(shown)), ("allowed", .string(StoragePath.allowed)),
            ])
    }

    /// The text for an error (P11): of a URI neither what may be `user:password@` nor values of options. Generous,
    /// because a misspelt URI is where a password gets out.
    static func shown(_ text: String) -> String {
        guard let first = text.utf8.first, first != UInt8(ascii: "/"), first != UInt8(ascii: "~") else {
            return short(text)
        }
        let (scheme, rest) = split(text, at: "://") ?? ("", text)
        var location = rest
        for mark in ["?", "#"] { if let (before, _) = split(location, at: mark) { location = before + mark + "…" } }
        let isSuspicious = rest.utf8.contains(UInt8(ascii: "@")) || location.utf8.contains(UInt8(ascii: ":"))
        if scheme.isEmpty { return isSuspicious ? "…" : short(location) }
        let isScheme = scheme.utf8.allSatisfy { $0 >= 0x2B && $0 <= 0x7A && $0 != UInt8(ascii: ":") && $0 != 0x40 }
        return (isScheme ? short(scheme) : "…") + "://" + (isSuspicious ? "…" : short(location))
    }

    private static func short(_ text: String) -> String {
        text.utf8.count <= 300 ? text : String(text.unicodeScalars.prefix(100)) + "…"
    }
}
