/// A JSON document that we or Ray wrote, read with errors that say which file and which member is wrong. Members that
/// nobody asks for are ignored, so that an older library reads what a newer one wrote.
struct Record: Sendable {
    /// The file, for errors.
    let path: String
    private let value: JSONValue
    /// Where in the document this object is, for errors.
    private let place: String

    /// Parses a document that must be one JSON object. Fails with CHECKSUM, as the bytes are not what was written.
    init(_ bytes: some Sequence<UInt8>, path: String) throws(StorageError) {
        let value: JSONValue
        do throws(JSONSyntaxError) {
            value = try JSONParser.parse(bytes)
        } catch {
            throw Self.damaged(path, "\(error.reason) expected at byte \(error.offset)")
        }
        try self.init(value, path: path, place: "document")
    }

    init(_ value: JSONValue, path: String, place: String) throws(StorageError) {
        guard value.objectValue != nil else { throw Self.damaged(path, "\(place) is no object") }
        self.path = path
        self.value = value
        self.place = place
    }

    static func damaged(_ path: String, _ reason: String) -> StorageError {
        StorageError(
            .checksum, "\(quoted(path)) is damaged: \(reason)",
            details: [("path", .string(path)), ("reason", .string(reason))])
    }

    func damaged(_ key: String, _ reason: String) -> StorageError {
        Self.damaged(path, "\(quoted(key)) of \(place) \(reason)")
    }

    /// The member as it is; nil when it is missing or null.
    func member(_ key: String) -> JSONValue? {
        let value = value[key]
        return value == .null ? nil : value
    }

    func string(_ key: String) throws(StorageError) -> String {
        guard let text = member(key)?.stringValue else { throw damaged(key, "is no text") }
        return text
    }

    /// A whole number of at least zero.
    func count(_ key: String) throws(StorageError) -> Int {
        guard let number = member(key)?.intValue, number >= 0 else { throw damaged(key, "is no count") }
        return number
    }

    func number(_ key: String) throws(StorageError) -> Double {
        guard let number = member(key)?.doubleValue else { throw damaged(key, "is no number") }
        return number
    }

    /// The elements of a list, none when it is missing or null.
    func list(_ key: String) throws(StorageError) -> [JSONValue] {
        guard let value = member(key) else { return [] }
        guard let elements = value.arrayValue else { throw damaged(key, "is no list") }
        return elements
    }

    /// The objects of a list, none when it is missing or null.
    func records(_ key: String) throws(StorageError) -> [Record] {
        var records: [Record] = []
        for (index, element) in try list(key).enumerated() {
            records.append(try Record(element, path: path, place: "\(key)[\(index)]"))
        }
        return records
    }

    func record(_ key: String) throws(StorageError) -> Record? {
        guard let value = member(key) else { return nil }
        return try Record(value, path: path, place: key)
    }

    /// An attempt's id; nil when it is missing or null.
    func attempt(_ key: String) throws(StorageError) -> AttemptID? {
        guard let value = member(key) else { return nil }
        guard let attempt = value.stringValue.flatMap({ AttemptID($0) }) else { throw damaged(key, "is no attempt id") }
        return attempt
    }

    /// A list of attempts' ids, none when it is missing.
    func attempts(_ key: String) throws(StorageError) -> [AttemptID] {
        var attempts: [AttemptID] = []
        for element in try list(key) {
            guard let attempt = element.stringValue.flatMap({ AttemptID($0) }) else {
                throw damaged(key, "holds no attempt id")
            }
            attempts.append(attempt)
        }
        return attempts
    }

    /// Refuses a document whose `schema` is newer than what this library knows, with NOT_SUPPORTED.
    func checkSchema(_ newest: Int) throws(StorageError) {
        let schema = try count("schema")
        guard schema > newest else { return }
        throw StorageError(
            .notSupported,
            "\(quoted(path)) has schema \(schema), written by a newer raystorage; this one knows \(newest)",
            details: [("path", .string(path)), ("schema", JSONValue(schema)), ("allowed", JSONValue(newest))])
    }
}
