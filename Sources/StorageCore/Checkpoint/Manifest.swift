/// What a checkpoint holds, as it was reported: `<checkpoint>/.raystorage/manifest.json`, written after the last data
/// file. A manifest counts only where run id and physical name match its place.
struct Manifest: Sendable {
    static let schema = 1
    /// Larger documents are refused: about ten million entries.
    static let maximumBytes = 1 << 30

    /// Of the run, 32 hexadecimal digits.
    var runID: String
    var attempt: AttemptID
    /// What the user calls it.
    var name: String
    /// What its directory is called.
    var physicalName: String
    /// Seconds since 1970.
    var createdAt: Double
    var durability: Durability
    /// The ranks whose files it holds.
    var ranks: [Int]
    /// As reported, an object.
    var metrics: JSONValue
    /// In the order of the bytes of their paths; directories included, `.metadata.json` not.
    var files: [FileRecord]

    /// Of all files.
    var bytes: Int { ByteSum.of(files.lazy.map(\.size)) }
    /// Entries that are no directories.
    var fileCount: Int { files.reduce(0) { $0 + ($1.kind == .directory ? 0 : 1) } }
}
