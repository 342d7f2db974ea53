/// Keys of the store: relative to its prefix outside, whole towards S3.
struct S3KeySpace: Sendable, Equatable {
    /// Without slashes at the ends; empty: the whole bucket.
    let prefix: String
    let bucket: String

    static let maximumBytes = 1024

    /// `s3://bucket/prefix`, for people.
    var root: String { prefix.isEmpty ? "s3://\(bucket)" : "s3://\(bucket)/\(prefix)" }

    /// For error texts.
    func uri(_ key: String) -> String { key.isEmpty ? root : "\(root)/\(key)" }

    /// The whole key. Refuses what S3 cannot hold.
    func whole(_ key: String) throws(StorageError) -> String {
        let whole = prefix.isEmpty ? key : "\(prefix)/\(key)"
        if key.isEmpty || whole.utf8.contains(0) {
            throw refusal(key, key.isEmpty ? "is empty" : "holds a NUL")
        }
        if whole.utf8.count > Self.maximumBytes {
            throw refusal(key, "has \(whole.utf8.count) bytes with its prefix, and S3 takes \(Self.maximumBytes)")
        }
        return whole
    }

    /// A whole prefix, which may be empty and may end in `/`.
    func wholePrefix(_ key: String) -> String { prefix.isEmpty ? key : "\(prefix)/\(key)" }

    /// The relative key; nil when it lies outside.
    func relative(_ whole: String) -> String? {
        if prefix.isEmpty { return whole }
        let start = prefix.utf8.count + 1
        guard whole.utf8.count >= start, whole.utf8.starts(with: "\(prefix)/".utf8) else { return nil }
        return String(decoding: whole.utf8.dropFirst(start), as: UTF8.self)
    }

    private func refusal(_ key: String, _ problem: String) -> StorageError {
        StorageError(
            .invalidArgument, "the key \(quoted(key)) \(problem)",
            details: [
                ("name", .string(key)), ("path", .string(root)),
                ("allowed", .string("1 to \(Self.maximumBytes) bytes with the prefix, without NUL")),
            ])
    }
}
