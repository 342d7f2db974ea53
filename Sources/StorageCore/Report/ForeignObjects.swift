/// Objects below a prefix that no manifest tells of.
enum ForeignObjects {
    /// Those that are to be restored.
    static func wanted(
        _ found: [[UInt8]: ObjectSummary], _ selection: FileSelection?, _ address: String
    ) throws(StorageError) -> [[UInt8]: ObjectSummary] {
        try NestedRuns.refuse(found.keys.lazy.map { String(decoding: $0, as: UTF8.self) }, in: address)
        return try selection?.choose(found, of: address) ?? found
    }

    /// Whether one stands for a directory: how consoles and file system tools make them.
    static func isMark(_ object: ObjectSummary, _ path: String) -> Bool {
        object.size == 0 && path.utf8.last == UInt8(ascii: "/")
    }

    /// Content under the name of a directory has no place in a file system, and is never left out in silence.
    static func refuseFullMark(
        _ object: ObjectSummary, _ path: String, _ address: String
    ) throws(StorageError) {
        guard path.isEmpty || path.utf8.last == UInt8(ascii: "/") else { return }
        throw StorageError(
            .invalidArgument,
            "cannot restore \(quoted(address)): the key \(quoted(object.key)) ends in \"/\", as a directory's does, and has"
                + " \(object.size) bytes of content; no file can have such a name",
            details: [("path", .string(address)), ("file", .string(path)), ("size", JSONValue(object.size))])
    }
}
