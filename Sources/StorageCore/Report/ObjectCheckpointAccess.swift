internal import Glibc

/// What can be done with one checkpoint on an object store by its address. The way goes from its manifest to the decision
/// of its attempt: what was not committed, or is not any more, is not found (P1).
struct ObjectCheckpointAccess: Sendable {
    /// At the checkpoint.
    let storage: Storage
    let objects: any ObjectStore
    let environment: Environment

    private var address: String { storage.path.uri }
    /// A file's, as texts have it: without the options of the address.
    private func address(of file: String) -> String { Path.join(objects.root, file) }
    private var name: String { Path.name(storage.path.directory) }
    /// What eviction in this process waits for.
    var pin: String { objects.root }

    private var run: Storage? {
        let directory = storage.path.directory
        guard !directory.isEmpty else { return nil }
        let parent = Path.parent(directory)
        return storage.at(parent == "." ? "" : parent)
    }

    private func files(_ progress: Progress) -> ObjectFiles {
        ObjectFiles(store: objects, prefix: "", progress: progress)
    }

    // MARK: - What it is

    struct Content: Sendable {
        /// nil: somebody else's files.
        var manifest: Manifest?
        var manifestBytes: [UInt8] = []
        /// Of our own in their place: what a reader asks again when something is missing.
        var attempt: AttemptID?
        var runID: String?
    }

    func look(_ progress: Progress) async throws(StorageError) -> Content {
        guard let object = try await objects.get(RunLayout.manifest, limit: Manifest.maximumBytes, progress: progress)
        else {
            return try await lookWithoutManifest(progress)
        }
        let manifest = try Manifest.parse(object.bytes, path: Path.join(objects.root, RunLayout.manifest))
        var content = Content(manifest: manifest, manifestBytes: object.bytes)
        // Elsewhere than in its place it is a copy: what it must be equal to, and nobody's decision.
        guard manifest.physicalName.utf8.elementsEqual(name.utf8), let run,
            try await RunReader(backend: run.backend).runID() == manifest.runID
        else { return content }
        content.attempt = manifest.attempt
        content.runID = manifest.runID
        try await checkCommitted(content, crc32c: CRC32C.of(object.bytes))
        return content
    }

    private func lookWithoutManifest(_ progress: Progress) async throws(StorageError) -> Content {
        let top = try await objects.list("", delimited: true, progress: progress)
        let isThere = !top.isEmpty
        // Checkpoints have such a folder, too.
        let mayBeRun = top.prefixes.contains(RunLayout.own + "/")
        if Storage.isRayRun(top.objects.map(\.key) + top.prefixes) { throw storage.isNoCheckpoint() }
        if mayBeRun, try await storage.hasRecord() { throw storage.isNoCheckpoint() }
        if let run, let runID = try await RunReader(backend: run.backend).runID() {
            var state = try await RunReader(backend: run.backend).epochs()
            state.runID = runID
            _ = try await RunReader(backend: run.backend).readDecisions(into: &state)
            let decided = state.decisions.last { $0.decision.physicalName.utf8.elementsEqual(name.utf8) }
            if decided?.decision.state == .committed {
                throw StorageError(
                    .checksum, "\(quoted(address)) has no manifest: it is damaged",
                    details: [("path", .string(address))])
            }
            // Ours, and not whole: never handed out as somebody's plain files.
            let isUndecided = state.undecided.contains { $0.utf8.elementsEqual(name.utf8) }
            if decided != nil || isUndecided { throw absent(decided?.decision.state) }
            if !isThere { throw absent(nil) }
        }
        guard isThere else {
            throw StorageError(
                .notFound, "there is no checkpoint at \(quoted(address))", details: [("path", .string(address))])
        }
        return Content()
    }

    private func checkCommitted(_ content: Content, crc32c: UInt32?) async throws(StorageError) {
        guard let run, let runID = content.runID, let attempt = content.attempt else { return }
        let known = try await DecisionLog(backend: run.backend, runID: runID).read(attempt)
        guard let decision = known?.decision, decision.state == .committed else { throw absent(known?.decision.state) }
        guard crc32c == nil || decision.manifestCRC32C == crc32c else {
            throw StorageError(
                .checksum, "the manifest of \(quoted(address)) is not the one that was committed",
                details: [("path", .string(address))])
        }
    }

    private func absent(_ state: Decision.State?) -> StorageError {
        let why =
            switch state {
            case .evicted?: "it was evicted"
            case .aborted?: "it was given up"
            default: "it was evicted or never committed"
            }
        return StorageError(
            .notFound, "the checkpoint \(quoted(address)) does not exist (any more): \(why)",
            details: [("path", .string(address))])
    }

    /// Reads while this process does not evict it. What a trainer elsewhere evicts meanwhile is not found, rather than
    /// damaged or half there.
    private func reading<Value>(
        _ content: Content, _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        try await Pins.holding(pin) { () async throws(StorageError) -> Value in
            do throws(StorageError) { return try await body() } catch {
                if [.notFound, .checksum, .precondition].contains(error.code) {
                    try await checkCommitted(content, crc32c: nil)
                }
                throw error
            }
        }
    }

    // MARK: - Reading

    func manifestDocument(_ progress: Progress) async throws(StorageError) -> JSONValue {
        let content = try await look(progress)
        guard content.manifest != nil else {
            throw StorageError(
                .notFound, "\(quoted(address)) has no manifest: it was not written by raystorage",
                details: [("path", .string(address))])
        }
        return try JSONDocument.parse(content.manifestBytes, path: address)
    }

    func download(
        _ selection: FileSelection?, to destination: String, verify: Bool, progress: Progress
    ) async throws(StorageError) -> JSONValue {
        let content = try await look(progress)
        return try await reading(content) { () async throws(StorageError) -> JSONValue in
            let result = try await restore(content, selection, to: destination, verify: verify, progress)
            return .make([
                "path": .string(result.path), "files": JSONValue(result.fileCount), "bytes": JSONValue(result.bytes),
                "verified": .bool(result.verified),
            ])
        }
    }

    private func restore(
        _ content: Content, _ selection: FileSelection? = nil, to destination: String, verify: Bool,
        _ progress: Progress
    ) async throws(StorageError) -> Restore.Result {
        if selection != nil { try RestorePlace(destination).refuseParts() }
        let files = files(progress)
        let listed = selection?.listedPrefix ?? ""
        var foreign: [[UInt8]: ObjectSummary] = [:]
        var records = content.manifest?.files
        var sidecar: [UInt8]?
        if let all = records {
            if selection?.mayMean(FileTree.sidecarName) != false { sidecar = try await self.sidecar(progress) }
            if let selection {
                let chosen = try selection.choose(all, withSidecar: sidecar != nil, of: address)
                records = chosen.records
                if !chosen.sidecar { sidecar = nil }
            }
        } else {
            foreign = try ForeignObjects.wanted(try await files.list(listed), selection, address)
        }
        var plan = try plan(records, foreign, verify: verify)
        let data = plan.files
        if let sidecar { plan.files.append(FilePass.Input(sidecar: sidecar)) }
        return try await Restore.run(
            plan, to: destination, verified: content.manifest != nil && verify, progress: progress
        ) { root throws(StorageError) in
            try plan.builder.begin(in: root, progress: progress)
            do throws(StorageError) { try await files.download(data, into: root) } catch {
                // Of another size than was listed: it was replaced.
                if content.manifest == nil, error.code == .checksum {
                    try checkUnchanged(foreign, try await files.list(listed))
                }
                throw error
            }
            if let sidecar { try write(sidecar, into: root, progress) }
            if content.manifest == nil { try checkUnchanged(foreign, try await files.list(listed)) }
            try plan.builder.makeLinks(in: root, progress: progress)
        }
    }

    /// No CRC tells a mixture of two versions of a foreign file, as of one that its owner always writes anew.
    private func checkUnchanged(
        _ before: [[UInt8]: ObjectSummary], _ after: [[UInt8]: ObjectSummary]
    ) throws(StorageError) {
        for (key, object) in before {
            let now = after[key]
            if now?.size == object.size, now?.version == object.version, now?.modifiedAt == object.modifiedAt {
                continue
            }
            let path = String(decoding: key, as: UTF8.self)
            throw StorageError(
                .precondition,
                "\(quoted(address(of: path))) was replaced while it was read; nothing was restored",
                details: [("path", .string(address)), ("file", .string(path))])
        }
    }

    /// In one request: it may be replaced at any time, and no CRC would tell a mixture.
    private func sidecar(_ progress: Progress) async throws(StorageError) -> [UInt8]? {
        try await objects.get(FileTree.sidecarName, limit: 64 << 20, progress: progress)?.bytes
    }

    private func write(_ sidecar: [UInt8], into root: RootDirectory, _ progress: Progress) throws(StorageError) {
        progress.expect(bytes: sidecar.count, files: 1)
        let name = FileTree.sidecarName
        let descriptor = try root.open(name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
        let file = OpenFile(owning: descriptor.release(), path: root.full(name))
        try file.write(sidecar)
        try file.close()
        progress.advance(bytes: sidecar.count, files: 1)
    }

    /// `records` nil: somebody else's objects.
    private func plan(
        _ records: [FileRecord]?, _ foreign: [[UInt8]: ObjectSummary], verify: Bool
    ) throws(StorageError) -> RestorePlan {
        guard let records else { return try RestorePlan(foreign: foreign, address) }
        let inputs = records.filter { $0.kind == .file }.map { FilePass.Input($0, verify: verify) }
        return RestorePlan(builder: TreeBuilder(records), files: inputs)
    }

    /// A copy of this machine's own, shared by its processes, until the lease is released.
    func acquire(
        stagingDirectory: String?, progress: Progress
    ) async throws(StorageError) -> JSONValue {
        let content = try await look(progress)
        let host = try HostIdentity.open(stagingDirectory, environment: environment)
        // What nobody has a manifest of may change: a copy for each user.
        var name = "unverified-\(environment.randomHex(8))"
        if let manifest = content.manifest {
            let crc = String(CRC32C.of(content.manifestBytes), radix: 16)
            name = "\(manifest.runID)-\(manifest.attempt)-\(crc)"
        }
        let lease = try await reading(content) { () async throws(StorageError) -> NodeCache.Lease in
            try await NodeCache(staging: host.directory).acquire(name: name, progress: progress) {
                path throws(StorageError) in
                _ = try await restore(content, to: path, verify: true, progress)
            }
        }
        let id = Leases.shared.add(environment) { lease.release() }
        return .make(["path": .string(lease.path), "lease": .string(id)])
    }

    // MARK: - Verifying

    /// Compares sizes with one listing, then contents with what the store attests, and reads the rest.
    func verify(_ progress: Progress) async throws(StorageError) -> JSONValue {
        let content: Content
        do throws(StorageError) { content = try await look(progress) } catch {
            guard error.code == .checksum else { throw error }
            return document([(RunLayout.manifest, error.message)], nil, verified: true)
        }
        guard let manifest = content.manifest else { return document([], nil, verified: false) }
        let problems = try await reading(content) { () async throws(StorageError) -> [(String, String)] in
            let found = try await differences(manifest, progress)
            // Evicted meanwhile is not damaged.
            if !found.isEmpty { try await checkCommitted(content, crc32c: nil) }
            return found
        }
        return document(problems, manifest, verified: true)
    }

    private func differences(
        _ manifest: Manifest, _ progress: Progress
    ) async throws(StorageError) -> [(String, String)] {
        progress.phase = "verify"
        let files = files(progress)
        var found = try await files.list()
        found[Array(FileTree.sidecarName.utf8)] = nil
        var problems: [(String, String)] = []
        var rest: [FileRecord] = []
        var forks = ForkYield()
        for record in manifest.files where record.kind == .file {
            forks.step()
            let path = quoted(address(of: record.path))
            guard let object = found.removeValue(forKey: Array(record.path.utf8)) else {
                problems.append((record.path, "\(path) is missing"))
                continue
            }
            if object.size == record.size {
                rest.append(record)
            } else {
                problems.append((record.path, "\(path) has \(object.size) bytes, \(record.size) were reported"))
            }
        }
        for (key, object) in found {
            let path = String(decoding: key, as: UTF8.self)
            if ForeignObjects.isMark(object, path) { continue }
            problems.append((path, "\(quoted(address(of: path))) was not reported"))
        }
        let damaged = Slots<String>(count: rest.count)
        let trouble = FirstFailure()
        try await files.compare(rest) { index, error in
            if error.code == .checksum || error.code == .notFound {
                damaged.set(index, error.message)
            } else {
                trouble.record(error, at: index)
            }
        }
        if let error = trouble.error { throw error }
        for (record, problem) in zip(rest, damaged.takeAll()) {
            if let problem { problems.append((record.path, problem)) }
        }
        PathBytes.sort(&problems) { $0.0 }
        return problems
    }

    private func document(_ problems: [(String, String)], _ manifest: Manifest?, verified: Bool) -> JSONValue {
        .make([
            "path": .string(address), "ok": .bool(problems.isEmpty), "verified": .bool(verified),
            "files": manifest.map { JSONValue($0.fileCount) } ?? .null,
            "bytes": manifest.map { JSONValue($0.bytes) } ?? .null,
            "problems": .array(
                problems.prefix(Verify.maximumProblems).map {
                    .make(["file": .string($0.0), "problem": .string($0.1)])
                }),
        ])
    }

    // MARK: - Metadata

    func metadata(_ progress: Progress) async throws(StorageError) -> JSONValue {
        _ = try await look(progress)
        guard let object = try await objects.get(RunLayout.metadata, limit: 64 << 20, progress: progress) else {
            return .object([])
        }
        return try JSONDocument.parse(object.bytes, path: Path.join(objects.root, RunLayout.metadata))
    }

    func setMetadata(_ document: JSONValue, _ progress: Progress) async throws(StorageError) {
        _ = try await look(progress)
        let bytes = document.compactBytes
        _ = try await objects.put(
            RunLayout.metadata, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: .always, progress: progress)
    }
}

extension FilePass.Input {
    /// To fetch a file of a manifest.
    init(_ record: FileRecord, verify: Bool) {
        self.init(
            path: record.path, size: record.size, mayHaveHoles: false, mode: record.mode,
            modifiedNanoseconds: record.modifiedNanoseconds, signature: nil,
            expectedBlocks: verify ? record.blocks : nil)
    }

    /// For the sidecar, whose bytes are there.
    fileprivate init(sidecar: [UInt8]) {
        self.init(
            path: FileTree.sidecarName, size: sidecar.count, mayHaveHoles: false, mode: 0o644, modifiedNanoseconds: 0,
            signature: nil, expectedBlocks: nil)
    }
}
