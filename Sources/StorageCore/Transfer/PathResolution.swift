internal import CStorage
internal import Glibc

extension Path {
    /// `realpath`: absolute, without links, `.` and `..`.
    static func resolved(_ path: String) throws(StorageError) -> String {
        guard let pointer = cs_realpath(path, nil) else { throw .system(errno, "realpath", path) }
        defer { free(pointer) }
        guard
            let text = String(
                validating: UnsafeBufferPointer(start: pointer, count: strlen(pointer)).map { UInt8(bitPattern: $0) },
                as: UTF8.self)
        else {
            throw StorageError(
                .invalidArgument, "the path \(quoted(path)) is not UTF-8", details: [("path", .string(path))])
        }
        return text
    }

    /// Whether `inner` is `outer` or lies below it; both resolved.
    static func contains(_ outer: String, _ inner: String) -> Bool {
        if outer == "/" { return true }
        let outer = Array(outer.utf8)
        let inner = Array(inner.utf8)
        return inner.starts(with: outer) && (inner.count == outer.count || inner[outer.count] == UInt8(ascii: "/"))
    }
}
