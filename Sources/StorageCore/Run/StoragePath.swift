/// Where runs are kept, from what a user writes: `/abs`, `~/x`, `file:///x`, `s3://bucket/prefix?…`, `gs://bucket/prefix`.
///
/// Local paths are made plain without looking at the disk: `//`, `.` and a trailing `/` go. `..` is refused, because
/// what it means depends on symbolic links, and a guess would put checkpoints somewhere else. The characters `?`, `#`
/// and `%` are ordinary in a plain path and special in a URI.
public struct StoragePath: Sendable, Equatable {
    /// The kind of store.
    public enum Scheme: String, Sendable, CaseIterable {
        /// A directory of this machine, or of a network file system mounted here.
        case file
        /// Amazon S3 and what speaks its protocol.
        case s3
        /// Google Cloud Storage.
        case gs
    }

    /// One `key=value` behind the `?` of a URI, decoded.
    public struct QueryItem: Sendable, Equatable {
        /// One of the scheme's allowed keys.
        public let key: String
        /// The value, percent-decoded.
        public let value: String
    }

    /// The kind of store.
    public let scheme: Scheme
    /// The absolute path without `.`, `..`, empty components and trailing `/`; for a store the prefix, likewise, without
    /// leading `/` and empty for the whole bucket.
    public let directory: String
    /// The bucket, empty for a file system.
    public let bucket: String
    /// What to show to people and what opens the same place again; never holds a secret.
    public let uri: String
    /// The store's options in the order given.
    public let query: [QueryItem]

    /// The forms that are taken, for error texts.
    public static let allowed =
        "an absolute path, ~/path, file:///path, s3://bucket/prefix?region=…&endpoint_override=… or gs://bucket/prefix"
    /// Where runs go that do not say.
    public static let fallback = "~/ray_results"
    /// The variables that are asked when there is no argument, first one first.
    public static let variables = ["RAYSTORAGE_STORAGE_PATH", "RAY_STORAGE"]

    /// Resolves the argument, else the environment's (`RAYSTORAGE_STORAGE_PATH`, `RAY_STORAGE`), else `~/ray_results`.
    ///
    /// `~` is `HOME`, else the home directory of the password file. Fails with INVALID_ARGUMENT (details `allowed`, and
    /// `name` without anything that may be a secret). Nothing on disk is looked at.
    public static func resolve(_ text: String?, environment: Environment) throws(StorageError) -> StoragePath {
        try resolve(text, environment: environment, passwordFileHome: HomeDirectory.ofPasswordFile)
    }

    static func resolve(
        _ text: String?, environment: Environment, passwordFileHome: () -> String?
    ) throws(StorageError) -> StoragePath {
        var source = "storage_path"
        var chosen = text
        for name in variables where chosen == nil {
            chosen = environment.variable(name)
            if chosen != nil { source = name }
        }
        let parser = StoragePathParser(text: chosen ?? fallback, source: source)
        return try parser.parse { environment.variable("HOME") ?? passwordFileHome() }
    }

    /// The place of one more component below this one, a run's directory for example. The name is not checked.
    public func appending(_ name: String) -> StoragePath {
        let below = directory.isEmpty ? name : Path.join(directory, name)
        return StoragePath(scheme: scheme, directory: below, bucket: bucket, query: query)
    }

    init(scheme: Scheme, directory: String, bucket: String = "", query: [QueryItem] = []) {
        self.scheme = scheme
        self.directory = directory
        self.bucket = bucket
        self.query = query
        guard scheme != .file else {
            uri = directory
            return
        }
        var text = "\(scheme.rawValue)://\(bucket)"
        if !directory.isEmpty { text += "/" + PercentEncoding.encode(directory, keeping: "/") }
        for (index, item) in query.enumerated() {
            text += (index == 0 ? "?" : "&") + item.key + "=" + PercentEncoding.encode(item.value, keeping: "/:")
        }
        uri = text
    }
}
