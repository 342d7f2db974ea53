/// Our own copy of what is committed, `.raystorage/index.json`. Ray drops our part of the snapshot when it writes it:
/// what is listed here and missing in a snapshot of Ray's was evicted by Ray.
struct CheckpointIndex: Sendable, Equatable {
    static let fileName = "index.json"
    static let schema = 1

    /// One committed checkpoint, with what listings show without opening its manifest.
    struct Entry: Sendable, Equatable {
        var attempt: AttemptID
        var name: String
        var physicalName: String
        var metrics: JSONValue
        var bytes: Int
        var files: Int
        /// Seconds since 1970.
        var createdAt: Double

        var sequence: ReportSequence { attempt.sequence }
    }

    var runID: String
    /// In any order; written as given.
    var entries: [Entry]
    /// Attempts that were committed once and are not any more. Also told by a claim without a directory, so that the
    /// caller may keep only the last ones.
    var evicted: [AttemptID]

    /// The document on one line.
    var encoded: [UInt8] {
        JSONValue.make([
            "schema": JSONValue(Self.schema), "run_id": .string(runID),
            "entries": .array(
                entries.map { entry in
                    .make([
                        "attempt": .string(entry.attempt.description), "name": .string(entry.name),
                        "physical_name": .string(entry.physicalName), "epoch": JSONValue(entry.sequence.epoch),
                        "index": JSONValue(entry.sequence.index), "bytes": JSONValue(entry.bytes),
                        "files": JSONValue(entry.files), "created_at": .number(entry.createdAt),
                        "metrics": entry.metrics,
                    ])
                }),
            "evicted": .array(evicted.map { .string($0.description) }),
        ]).compactBytes
    }

    init(runID: String, entries: [Entry], evicted: [AttemptID] = []) {
        self.runID = runID
        self.entries = entries
        self.evicted = evicted
    }

    /// Reads an index. Fails with CHECKSUM on anything else, with NOT_SUPPORTED when a newer raystorage wrote it.
    init(decoding bytes: some Sequence<UInt8>, path: String) throws(StorageError) {
        let document = try Record(bytes, path: path)
        try document.checkSchema(Self.schema)
        runID = try document.string("run_id")
        entries = []
        for record in try document.records("entries") {
            guard let attempt = try record.attempt("attempt") else { throw record.damaged("attempt", "is missing") }
            entries.append(
                Entry(
                    attempt: attempt, name: try record.string("name"),
                    physicalName: try record.string("physical_name"),
                    metrics: record.member("metrics") ?? .object([]), bytes: try record.count("bytes"),
                    files: try record.count("files"), createdAt: try record.number("created_at")))
        }
        evicted = try document.attempts("evicted")
    }
}
