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

extension RestorePlan {
    /// Plain objects: directories are those that their keys tell of.
    init(foreign found: [[UInt8]: ObjectSummary], _ address: String) throws(StorageError) {
        let directories = PathBytes.directories(of: found.keys)
        var files: [FilePass.Input] = []
        var forks = ForkYield()
        for (key, object) in found {
            forks.step()
            let path = String(decoding: key, as: UTF8.self)
            let isMark = ForeignObjects.isMark(object, path)
            if !isMark { try ForeignObjects.refuseFullMark(object, path, address) }
            if let why = ManifestReader.refusal(of: isMark ? Path.withoutSlash(path) : path) {
                throw StorageError(
                    .invalidArgument, "cannot restore \(quoted(address)): the key \(quoted(path)) \(why)",
                    details: [("path", .string(address)), ("file", .string(path))])
            }
            if !isMark { files.append(FilePass.Input(path, object)) }
        }
        var made = directories.map { path in
            TreeBuilder.Directory(path: String(decoding: path, as: UTF8.self), mode: 0o755, modifiedNanoseconds: 0)
        }
        PathBytes.sort(&made) { $0.path }
        builder = TreeBuilder(directories: made, links: [])
        PathBytes.sort(&files) { $0.path }
        self.files = files
        guard let file = files.first(where: { directories.contains(Array($0.path.utf8)) }) else { return }
        let inside = files.first { $0.path.utf8.starts(with: "\(file.path)/".utf8) }?.path ?? file.path + "/…"
        throw StorageError(
            .invalidArgument,
            "cannot restore \(quoted(address)): its keys \(quoted(file.path)) and \(quoted(inside)) cannot both be files of"
                + " a directory",
            details: [("path", .string(address)), ("files", .array([.string(file.path), .string(inside)]))])
    }
}

extension FilePass.Input {
    /// To fetch an object of which no more is known.
    init(_ path: String, _ object: ObjectSummary) {
        self.init(
            path: path, size: object.size, mayHaveHoles: false, mode: 0o644,
            modifiedNanoseconds: Int64(min(max(object.modifiedAt, 0), 9e9) * 1e9), signature: nil, expectedBlocks: nil)
    }
}
