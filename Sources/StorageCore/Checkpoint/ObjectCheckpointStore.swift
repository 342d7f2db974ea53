internal import Glibc
internal import Synchronization

/// Commit, abort and un-commit of checkpoints on object stores. Data and manifest lie under their final keys from the start
/// and mean nothing; the one record of an attempt decides. Captured and sealed it is in a workspace on this machine,
/// which stays until the commit is published, so that everything can be tried again by whoever comes next.
final class ObjectCheckpointStore: CheckpointStore {
    let runID: String
    let objects: any ObjectStore
    let workspace: String
    let durability: Durability
    /// Of the epoch that acts; nil for those who only look and collect.
    let epoch: Int?
    /// Of uploads in memory; nil: what is usual.
    private let inflightBytes: Int?
    private let log: DecisionLog
    private let local: FileCheckpointStore
    private let makeAddress: @Sendable (String) -> String
    private let known = Mutex<[AttemptID: KnownDecision]>([:])

    /// `backend` and `objects` are at the run's root.
    init(
        runID: String, objects: any ObjectStore, backend: any StorageBackend, workspace: String,
        durability: Durability, epoch: Int?, inflightBytes: Int? = nil, address: @escaping @Sendable (String) -> String
    ) {
        self.runID = runID
        self.objects = objects
        self.workspace = workspace
        self.durability = durability
        self.epoch = epoch
        self.inflightBytes = inflightBytes
        log = DecisionLog(backend: backend, runID: runID)
        local = FileCheckpointStore(root: workspace, runID: runID, durability: durability)
        makeAddress = address
    }

    var root: String { objects.root }
    var uploads: Bool { true }
    func address(_ physicalName: String) -> String { makeAddress(physicalName) }

    func files(_ physicalName: String, _ progress: Progress = Progress()) -> ObjectFiles {
        ObjectFiles(store: objects, prefix: physicalName + "/", progress: progress)
    }

    func isOccupied(_ physicalName: String) async throws(StorageError) -> Bool {
        try await !objects.list(physicalName + "/", delimited: true, progress: Progress()).isEmpty
    }

    func isOurs(_ directory: String, _ attempt: AttemptID) throws(StorageError) -> Bool {
        try local.isOurs(directory, attempt)
    }

    /// What is known by now of how attempts ended.
    var decisions: [Decision] { known.withLock { $0.values.map(\.decision) } }

    func learn(_ decisions: [KnownDecision]) {
        known.withLock { known in for decision in decisions { known[decision.decision.attempt] = decision } }
    }

    // MARK: - Attempts

    func upload(_ attempt: AttemptID, as physicalName: String, progress: Progress) async throws(StorageError) {
        let directory = directory(attempt)
        guard let manifest = try Manifest.read(directory: directory) else {
            throw StorageError(
                .precondition, "\(quoted(directory)) is not sealed", details: [("path", .string(directory))])
        }
        // Before the first byte: whoever finds this attempt knows that it must win the record before it gives up.
        try writeMarker(attempt, physicalName)
        let files = files(physicalName, progress)
        try await files.upload(
            manifest.files, from: directory, journal: local(RunLayout.uploadJournal(attempt)),
            order: attempt.sequence, inflightBytes: inflightBytes)
        try await uploadSidecar(directory, files, progress)
    }

    private func uploadSidecar(
        _ directory: String, _ files: ObjectFiles, _ progress: Progress
    ) async throws(StorageError) {
        let path = Path.join(directory, FileTree.sidecarName)
        guard try System.status(path)?.kind == .file else { return }
        let bytes = try OpenFile(path, O_RDONLY | O_NOFOLLOW).readAll(limit: 64 << 20)
        _ = try await objects.put(
            files.key(FileTree.sidecarName), .bytes(bytes), crc32c: CRC32C.of(bytes), condition: .always,
            progress: progress)
    }

    func commit(_ attempt: AttemptID, as physicalName: String) async throws(StorageError) -> CommitOutcome {
        let path = Path.join(directory(attempt), RunLayout.manifest)
        let bytes = try OpenFile(path, O_RDONLY | O_NOFOLLOW).readAll(limit: Manifest.maximumBytes)
        guard let summary = try ManifestSummary.read(directory: directory(attempt)), summary.attempt == attempt else {
            throw StorageError(.checksum, "\(quoted(path)) is damaged", details: [("path", .string(path))])
        }
        let crc = CRC32C.of(bytes)
        _ = try await objects.put(
            "\(physicalName)/\(RunLayout.manifest)", .bytes(bytes), crc32c: crc, condition: .always,
            progress: Progress())
        let decided = try await log.decide(
            Decision(
                .committed, runID: runID, attempt: attempt, physicalName: physicalName, summary: summary,
                manifestCRC32C: crc))
        learn([decided])
        if decided.decision.state == .committed { return .committed }
        // Whoever won has deleted what was there then.
        try await files(physicalName).remove()
        return .aborted
    }

    func forget(_ attempt: AttemptID) async throws(StorageError) {
        // The journal first: without it and without a directory nobody takes the attempt for captured.
        try System.unlink(local(RunLayout.captured(attempt)))
        try TreeRemoval.remove(directory(attempt))
        try removeMarker(attempt)
    }

    func outcome(_ attempt: AttemptID) async throws(StorageError) -> CommitOutcome? {
        // Without it not a byte was sent.
        guard try marker(attempt) != nil, let decided = try await log.read(attempt) else { return nil }
        learn([decided])
        return decided.decision.state == .aborted ? .aborted : .committed
    }

    func abort(_ attempt: AttemptID) async throws(StorageError) -> Bool {
        // What stays when the store does not answer is the marker: the next open goes on from it.
        let physicalName = try marker(attempt)
        var isAborted = try local.abort(attempt)
        if let physicalName {
            isAborted = try await abort(attempt, physicalName: physicalName)
            try removeMarker(attempt)
        }
        return isAborted
    }

    /// Wins the record and no more: true when the attempt can become a checkpoint no longer. What was captured stays.
    func giveUp(
        _ attempt: AttemptID, environment: Environment, progress: Progress
    ) async throws(StorageError) -> Bool {
        guard let physicalName = try marker(attempt) else { return true }
        let log = DecisionLog(
            backend: ObjectBackend(objects, environment: environment, progress: progress), runID: runID)
        return try await decideAborted(attempt, physicalName, log) == .aborted
    }

    /// What stands in the record after an abort was tried.
    private func decideAborted(
        _ attempt: AttemptID, _ physicalName: String, _ log: DecisionLog
    ) async throws(StorageError) -> Decision.State {
        let decided = try await log.decide(
            Decision(.aborted, runID: runID, attempt: attempt, physicalName: physicalName))
        learn([decided])
        return decided.decision.state
    }

    /// Wins the record, and only then deletes: a commit that is still on its way to the store must find it.
    @discardableResult
    func abort(
        _ attempt: AttemptID, physicalName: String, log: DecisionLog? = nil, progress: Progress = Progress()
    ) async throws(StorageError) -> Bool {
        if try await decideAborted(attempt, physicalName, log ?? self.log) == .committed { return false }
        // Of our own uploads the journal knows more than a store may let us list.
        try await files(physicalName, progress).remove(journal: local(RunLayout.uploadJournal(attempt)))
        return true
    }

    func giveBack(_ attempt: AttemptID, to source: String) async throws(StorageError) {
        let physicalName = try marker(attempt)
        if let physicalName {
            guard try await abort(attempt, physicalName: physicalName) else {
                throw StorageError(
                    .alreadyExists, "\(attempt) is committed: it cannot be given back",
                    details: [("path", .string(address(physicalName)))])
            }
        }
        try local.giveBack(attempt, to: source)
        try removeMarker(attempt)
    }

    func unfinished() throws(StorageError) -> [AttemptID] {
        var found = Set(try local.unfinished())
        let folder = local(RunLayout.uploads)
        if try System.status(folder) != nil {
            for name in try System.list(folder) where name.utf8.count > 5 && name.hasSuffix(".json") {
                if let attempt = AttemptID(String(name.dropLast(5))) { found.insert(attempt) }
            }
        }
        return found.sorted { $0.sequence < $1.sequence }
    }

    // MARK: - The marker

    /// The directory on the store that may hold something of an attempt; nil: nothing was sent.
    private func marker(_ attempt: AttemptID) throws(StorageError) -> String? {
        let path = local(RunLayout.upload(attempt))
        guard try System.status(path) != nil else { return nil }
        let bytes = try OpenFile(path, O_RDONLY).readAll(limit: 64 << 10)
        if let name = (try? JSONParser.parse(bytes))?["physical_name"]?.stringValue, CheckpointName.isPhysical(name) {
            return name
        }
        // Torn by a power cut. The directory's own manifest tells as well.
        return try ManifestSummary.read(directory: directory(attempt))?.physicalName
    }

    private func removeMarker(_ attempt: AttemptID) throws(StorageError) {
        // Last the marker, by which the journal is found again.
        try System.unlink(local(RunLayout.uploadJournal(attempt)))
        try System.unlink(local(RunLayout.upload(attempt)))
    }

    private func writeMarker(_ attempt: AttemptID, _ physicalName: String) throws(StorageError) {
        let path = local(RunLayout.upload(attempt))
        if try System.status(path) != nil { return }
        try System.makeDirectories(Path.parent(path), mode: 0o700)
        let temporary = "\(path).tmp"
        let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        try file.write(JSONValue.make(["physical_name": .string(physicalName)]).compactBytes)
        if durability == .fsync { try file.sync() }
        try file.close()
        try System.rename(temporary, to: path)
        if durability == .fsync { try System.syncDirectory(Path.parent(path)) }
    }

    // MARK: - Checkpoints

    func uncommit(_ attempt: AttemptID, physicalName: String) async throws(StorageError) -> Bool {
        // Only over the record that we know: a later epoch that relies on this checkpoint has made it another one.
        var current = known.withLock { $0[attempt] }
        if current == nil { current = try await log.read(attempt) }
        guard let found = current else { return false }
        guard found.decision.state == .committed else { return found.decision.state == .evicted }
        var evicted = found.decision
        evicted.state = .evicted
        if let replaced = try await log.replace(found, by: evicted) {
            learn([replaced])
            return true
        }
        guard let now = try await log.read(attempt) else { return false }
        if now.decision.state == .committed {
            throw StorageError(
                .precondition, "\(quoted(address(physicalName))) is needed by a later epoch",
                details: [("path", .string(address(physicalName)))])
        }
        learn([now])
        return true
    }

    func restoreFromTrash(_ attempt: AttemptID, physicalName: String) async throws(StorageError) -> Bool {
        for _ in 0..<3 {
            guard let found = try await log.read(attempt), found.decision.state != .aborted else { return false }
            if found.decision.state == .evicted, try await !isWhole(found.decision) { return false }
            var committed = found.decision
            committed.state = .committed
            committed.securedBy = epoch
            if let replaced = try await log.replace(found, by: committed) {
                learn([replaced])
                return true
            }
        }
        return false
    }

    /// Whether every file of a checkpoint is there with its size.
    private func isWhole(_ decision: Decision) async throws(StorageError) -> Bool {
        do throws(StorageError) {
            try await compare(decision, Progress())
            return true
        } catch {
            if error.code == .checksum { return false }
            throw error
        }
    }

    func trashed() async throws(StorageError) -> [AttemptID] {
        let evicted = known.withLock { $0.values.filter { $0.decision.state == .evicted }.map(\.decision) }
        if evicted.isEmpty { return [] }
        let there = Set(
            try await objects.list("", delimited: true, progress: Progress()).prefixes.map { Array($0.utf8) })
        return evicted.filter { there.contains(Array(($0.physicalName + "/").utf8)) }.map(\.attempt)
            .sorted { $0.sequence < $1.sequence }
    }

    func purge(_ attempt: AttemptID) async throws(StorageError) {
        _ = try await purge(attempt, log: log, progress: Progress())
    }

    /// Whether it has removed the files, so that the record may go.
    func purge(
        _ attempt: AttemptID, log: DecisionLog, progress: Progress
    ) async throws(StorageError) -> Bool {
        guard let found = try await log.read(attempt) else { return false }
        learn([found])
        // Put back by a later epoch: it stays.
        if found.decision.state == .committed { return false }
        try await files(found.decision.physicalName, progress).remove()
        return true
    }

    // MARK: - Looking

    func summary(_ physicalName: String) async throws(StorageError) -> ManifestSummary? {
        let key = "\(physicalName)/\(RunLayout.manifest)"
        guard let object = try await objects.get(key, limit: Manifest.maximumBytes, progress: Progress()) else {
            return nil
        }
        return (try? JSONParser.parseHead(object.bytes, upTo: "files")).flatMap { ManifestSummary(.object($0)) }
    }

    func inspect(
        _ entry: CheckpointEntry, deeply: Bool, staging: String, progress: Progress
    ) async throws(StorageError) {
        guard let attempt = entry.attempt else {
            if try await files(entry.physicalName, progress).list().isEmpty {
                throw StorageError(.checksum, "\(quoted(address(entry.physicalName))) does not exist")
            }
            return
        }
        var found = try await log.read(attempt)
        if let evicted = found, evicted.decision.state == .evicted,
            try await restoreFromTrash(attempt, physicalName: entry.physicalName)
        {
            found = known.withLock { $0[attempt] }
        }
        guard let found, found.decision.state == .committed else {
            throw StorageError(.checksum, "\(quoted(address(entry.physicalName))) is not committed any more")
        }
        try await compare(found.decision, deeply: deeply, progress)
    }

    /// Whether every file is there with its size; `deeply`: with its content.
    private func compare(_ decision: Decision, deeply: Bool = false, _ progress: Progress) async throws(StorageError) {
        let manifest = try await manifest(decision, progress)
        let files = files(decision.physicalName, progress)
        let found = try await files.list()
        for record in manifest.files where record.kind == .file {
            let path = Path.join(Path.join(root, decision.physicalName), record.path)
            func damage(_ what: String) -> StorageError {
                StorageError(
                    .checksum, "\(quoted(path)) \(what)",
                    details: [("path", .string(path)), ("file", .string(record.path))])
            }
            guard let object = found[Array(record.path.utf8)] else { throw damage("is missing") }
            if object.size != record.size {
                throw damage("has \(object.size) bytes, \(record.size) were reported")
            }
        }
        guard deeply else { return }
        let failure = FirstFailure()
        try await files.compare(manifest.files.filter { $0.kind == .file }) { failure.record($1, at: $0) }
        if var error = failure.error {
            // Gone since it was listed.
            if error.code == .notFound { error.code = .checksum }
            throw error
        }
    }

    /// The manifest that was committed, to the bit.
    func manifest(_ decision: Decision, _ progress: Progress) async throws(StorageError) -> Manifest {
        let key = "\(decision.physicalName)/\(RunLayout.manifest)"
        let path = Path.join(root, key)
        guard let object = try await objects.get(key, limit: Manifest.maximumBytes, progress: progress) else {
            throw StorageError(.checksum, "\(quoted(path)) is missing", details: [("path", .string(path))])
        }
        guard decision.manifestCRC32C == nil || CRC32C.of(object.bytes) == decision.manifestCRC32C else {
            throw StorageError(
                .checksum, "\(quoted(path)) is not the manifest that was committed", details: [("path", .string(path))])
        }
        return try Manifest.parse(object.bytes, path: path)
    }
}

extension ObjectListing {
    var isEmpty: Bool { objects.isEmpty && prefixes.isEmpty }
}
