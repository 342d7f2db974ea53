/// The value of one option, checked against the table.
enum S3OptionValue: Sendable, Equatable {
    case text(String)
    case boolean(Bool)
    case integer(Int)
    case seconds(Double)
}

extension S3Option {
    /// The options of a URI's query and of a `storage_options` document, which wins where both name one. Unknown keys, wrong
    /// values and keys that must not stand in a URI are INVALID_ARGUMENT with what is allowed; a value is shown only when it
    /// cannot be a secret.
    static func values(
        query: [(key: String, value: String)], storageOptions: JSONValue?
    ) throws(StorageError) -> [String: S3OptionValue] {
        var values: [String: S3OptionValue] = [:]
        for (key, value) in query {
            let option = try known(key, keys: uriKeys, source: "the URI")
            try option.checkPlace()
            values[key] = try option.value(of: .string(value))
        }
        switch storageOptions {
        case nil, .null: break
        case .object(let members):
            for member in members {
                let option = try known(member.key, keys: all.map(\.key), source: "storage_options")
                if member.value == .null { continue }
                values[member.key] = try option.value(of: member.value)
            }
        default:
            throw refusal("storage_options", "storage_options must be an object of options", allowed: "an object")
        }
        return values
    }

    /// Refuses what must not stand in a URI.
    func checkPlace() throws(StorageError) {
        guard place == .storageOptions else { return }
        throw Self.refusal(
            key, "\(key) must not stand in a URI, which ends up in logs and documents; give it in storage_options",
            allowed: "storage_options")
    }

    private static func known(_ key: String, keys: [String], source: String) throws(StorageError) -> S3Option {
        if let option = named(key) { return option }
        let shown = key.utf8.count <= 100 ? key : String(key.unicodeScalars.prefix(100)) + "…"
        throw refusal(
            shown, "\(source) holds the unknown option \(quoted(shown)); allowed are \(keys.joined(separator: ", "))",
            allowed: .array(keys.map { .string($0) }))
    }

    private static func refusal(_ key: String, _ message: String, allowed: JSONValue) -> StorageError {
        StorageError(.invalidArgument, message, details: [("name", .string(key)), ("allowed", allowed)])
    }

    /// Reads one value, given as text (a URI has nothing else) or in JSON's own types.
    func value(of given: JSONValue) throws(StorageError) -> S3OptionValue {
        guard let value = read(given) else {
            var message = "\(key) must be \(allowed)"
            if kind != .secret, let text = given.stringValue ?? Self.plain(given) {
                message +=
                    ", not " + quoted(text.utf8.count <= 100 ? text : String(text.unicodeScalars.prefix(100)) + "…")
            }
            throw Self.refusal(key, message, allowed: .string(allowed))
        }
        return value
    }

    private static func plain(_ value: JSONValue) -> String? {
        switch value {
        case .bool, .integer, .number, .rawNumber: value.compact
        default: nil
        }
    }

    private func read(_ given: JSONValue) -> S3OptionValue? {
        let text = given.stringValue
        switch kind {
        case .text, .secret:
            guard let text, !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
            return .text(text)
        case .choice(let values):
            return values.first { $0 == text }.map { .text($0) }
        case .boolean:
            if case .bool(let value) = given { return .boolean(value) }
            switch text?.lowercased() {
            case "true", "1": return .boolean(true)
            case "false", "0": return .boolean(false)
            default: return nil
            }
        case .integer(let range):
            let number = given.intValue ?? text.flatMap { Decimal.strict(Array($0.utf8)[...]) }
            return number.flatMap { range.contains($0) ? .integer($0) : nil }
        case .seconds(let range):
            if case .bool = given { return nil }
            let number = given.doubleValue ?? text.flatMap { Double($0) }
            return number.flatMap { range.contains($0) ? .seconds($0) : nil }
        }
    }
}
