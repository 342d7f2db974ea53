/// How an attempt on an object store ended: the content of `.raystorage/decisions/<attempt>.json`, which exactly one writer
/// can create. A committed one carries what listings show, so that nobody opens manifests for them.
struct Decision: Sendable, Equatable {
    enum State: String, Sendable {
        case committed
        /// It is not to become a checkpoint: whoever writes files for it wakes up too late.
        case aborted
        /// It was committed once. The record stays, because a late duplicate of the write that committed it would bring
        /// the checkpoint back otherwise.
        case evicted
    }

    static let schema = 1
    /// Larger records are refused: metrics are the only part that grows.
    static let maximumBytes = 64 << 20

    var state: State
    var runID: String
    var attempt: AttemptID
    var physicalName: String
    /// Of a committed one.
    var summary: ManifestSummary?
    /// Of the manifest's bytes, of one that was committed.
    var manifestCRC32C: UInt32?
    /// The epoch that took it over from another one's evictor; it makes the record another one and says nothing more.
    var securedBy: Int?

    init(
        _ state: State, runID: String, attempt: AttemptID, physicalName: String, summary: ManifestSummary? = nil,
        manifestCRC32C: UInt32? = nil
    ) {
        self.state = state
        self.runID = runID
        self.attempt = attempt
        self.physicalName = physicalName
        self.summary = summary
        self.manifestCRC32C = manifestCRC32C
    }

    var document: JSONValue {
        var members: [JSONMember] = [
            JSONMember("schema", JSONValue(Self.schema)), JSONMember("state", .string(state.rawValue)),
            JSONMember("run_id", .string(runID)), JSONMember("attempt", .string(attempt.description)),
            JSONMember("physical_name", .string(physicalName)),
        ]
        if let manifestCRC32C { members.append(JSONMember("manifest_crc32c", JSONValue(Int(manifestCRC32C)))) }
        if let securedBy { members.append(JSONMember("secured_by", JSONValue(securedBy))) }
        if let summary {
            members += [
                JSONMember("name", .string(summary.name)),
                JSONMember("created_at", summary.createdAt.map { .number($0) } ?? .null),
                JSONMember("bytes", summary.bytes.map { JSONValue($0) } ?? .null),
                JSONMember("file_count", summary.files.map { JSONValue($0) } ?? .null),
                JSONMember("metrics", summary.metrics),
            ]
        }
        return .object(members)
    }

    /// Reads a record. Fails with CHECKSUM on anything else, with NOT_SUPPORTED when a newer raystorage wrote it.
    init(decoding bytes: [UInt8], path: String) throws(StorageError) {
        let value: JSONValue
        do throws(JSONSyntaxError) { value = try JSONParser.parse(bytes) } catch {
            throw Record.damaged(path, "\(error.reason) expected at byte \(error.offset)")
        }
        let record = try Record(value, path: path, place: "document")
        try record.checkSchema(Self.schema)
        guard let state = State(rawValue: try record.string("state")) else {
            throw record.damaged("state", "is none that this library knows")
        }
        guard let attempt = try record.attempt("attempt") else { throw record.damaged("attempt", "is missing") }
        self.init(
            state, runID: try record.string("run_id"), attempt: attempt,
            physicalName: try record.string("physical_name"))
        guard CheckpointName.isPhysical(physicalName) else { throw record.damaged("physical_name", "is no directory") }
        manifestCRC32C = record.member("manifest_crc32c")?.intValue.flatMap { UInt32(exactly: $0) }
        securedBy = record.member("secured_by")?.intValue
        summary = ManifestSummary(value)
        if state == .committed, summary == nil || manifestCRC32C == nil {
            throw record.damaged("document", "is not whole")
        }
    }
}

/// A decision as it was read, and the version that it was read at.
struct KnownDecision: Sendable, Equatable {
    var decision: Decision
    var version: String
}

/// The decisions of a run.
struct DecisionLog: Sendable {
    let backend: any StorageBackend
    let runID: String

    /// One record; nil when nothing was decided.
    func read(_ attempt: AttemptID) async throws(StorageError) -> KnownDecision? {
        let key = RunLayout.decision(attempt)
        guard let object = try await backend.read(key, limit: Decision.maximumBytes) else { return nil }
        let decision = try Decision(decoding: object.bytes, path: backend.path(key))
        guard decision.runID == runID, decision.attempt == attempt else {
            throw Record.damaged(backend.path(key), "is of another run or attempt")
        }
        return KnownDecision(decision: decision, version: object.version)
    }

    /// All of them, or those of some reports, in the order of their reports: one LIST, and the records in parallel. Damaged
    /// ones are left out with a warning: nothing can be said about their checkpoints.
    func readAll(where isWanted: (ReportSequence) -> Bool = { _ in true }) async throws(StorageError) -> [KnownDecision]
    {
        let attempts = try await backend.list(RunLayout.decisions).compactMap { name in
            name.utf8.count > 5 && name.hasSuffix(".json") ? AttemptID(String(name.dropLast(5))) : nil
        }.filter { isWanted($0.sequence) }
        let found = Slots<KnownDecision>(count: attempts.count)
        try await Engine.shared.forEach(Array(attempts.indices), limit: 32) { index throws(StorageError) in
            do throws(StorageError) {
                if let known = try await read(attempts[index]) { found.set(index, known) }
            } catch {
                guard error.code == .checksum || error.code == .notSupported else { throw error }
                Log.shared.write(.warning, error.while_("leaving out a checkpoint").message)
            }
        }
        return found.takeAll().compactMap { $0 }.sorted { $0.decision.attempt.sequence < $1.decision.attempt.sequence }
    }

    /// Decides, or finds what was decided before. The writer of the same decision counts as its first.
    func decide(_ decision: Decision) async throws(StorageError) -> KnownDecision {
        let key = RunLayout.decision(decision.attempt)
        for _ in 0..<3 {
            let bytes = decision.document.compactBytes
            if let version = try await backend.exchange(key, bytes, over: nil) {
                return KnownDecision(decision: decision, version: version)
            }
            if let known = try await read(decision.attempt) { return known }
        }
        throw StorageError(
            .precondition, "\(quoted(backend.path(key))) comes and goes",
            details: [("path", .string(backend.path(key)))],
            isRetryable: true)
    }

    /// Replaces a decision by another one of the same attempt. nil: it is not the one any more that was known.
    func replace(_ known: KnownDecision, by decision: Decision) async throws(StorageError) -> KnownDecision? {
        let key = RunLayout.decision(decision.attempt)
        let bytes = decision.document.compactBytes
        guard let version = try await backend.exchange(key, bytes, over: known.version) else { return nil }
        return KnownDecision(decision: decision, version: version)
    }
}
