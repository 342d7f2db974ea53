internal import Glibc

/// Sends the files of a sealed directory to an object store.
///
/// Afterwards each file of the records is an object `<prefix><path>`, whole and with the CRC that was taken at sealing.
/// Directories and links are in the manifest only. A file goes from the page cache to the socket once: the CRCs of parts
/// are combined from those of blocks. Whoever calls again with the same journal, after an error or in another process after
/// a kill, sends only what the store has not acknowledged.
struct ObjectUpload: Sendable {
    private let store: any ObjectStore
    private let root: RootDirectory
    private let prefix: String
    private let files: [FileRecord]
    private let plans: [PartPlan]
    private let large: [Int: UploadingFile]
    private let journal: UploadJournal
    private let gate: TransferGate
    private let progress: Progress
    /// Ends the requests.
    private let life: Progress
    private let queue: UnitQueue
    private let job: TransferGate.Job

    /// How often a file whose upload the store has lost is begun anew.
    private static let maximumSessions = 3

    /// - `directory`: holds the files; nobody writes to it meanwhile, and each file is checked for that.
    /// - `prefix`: of the keys, ends in `/`.
    /// - `journal`: a file beside the directory, made when it is not there; to be removed after the commit.
    /// - `order`: the place of the report; older ones go first.
    /// - `terms`: what it wishes for of the gate.
    /// - `partBytes`: of files that go up in parts, rounded up to blocks of 8 MiB; larger where a file would have too many.
    ///   Files up to this, and up to 32 MiB, are one request.
    ///
    /// Errors: PRECONDITION for a file that changed, INVALID_ARGUMENT for one that is too large for the store, CANCELLED
    /// (nothing is taken back: see `ObjectFiles.remove`), IO, and those of the store.
    static func run(
        store: any ObjectStore, directory: String, files: [FileRecord], prefix: String, journal: String,
        gate: TransferGate, order: ReportSequence?, terms: TransferScheduler.Terms = .init(),
        partBytes: Int = PartPlan.usualPartBytes, progress: Progress
    ) async throws(StorageError) {
        progress.phase = "upload"
        let files = files.filter { $0.kind == .file }
        let root = try RootDirectory(directory, followLink: false)
        let journal = try UploadJournal(
            journal, place: Path.join(store.root, prefix), files: files, encryption: store.encryption)
        let past = try await UploadPast.look(
            journal.past, store: store, prefix: prefix, files: files, progress: progress)
        var plans: [PartPlan] = []
        plans.reserveCapacity(files.count)
        for (index, file) in files.enumerated() {
            if let multipart = past.multiparts[index] {
                plans.append(PartPlan(size: file.size, partBytes: multipart.partBytes))
            } else {
                plans.append(
                    try .upload(
                        size: file.size, preferred: partBytes, capabilities: store.capabilities,
                        path: root.full(file.path)))
            }
        }
        progress.expect(bytes: ByteSum.of(files.lazy.map(\.size)), files: files.count)
        for index in past.done { progress.advance(bytes: files[index].size, files: 1) }
        let units = PartPlan.order(plans).filter { !past.covers($0, plans[$0.file]) }
        let usesParts = units.contains { plans[$0.file].count > 1 }
        try await gate.job(order: order, terms: terms, progress: progress) { job, life throws(StorageError) in
            let upload = ObjectUpload(
                store: store, root: root, prefix: prefix, files: files, plans: plans,
                large: Dictionary(
                    uniqueKeysWithValues: plans.indices.lazy.filter { plans[$0].count > 1 }
                        .map { ($0, UploadingFile(plans[$0])) }),
                journal: journal, gate: gate, progress: progress, life: life, queue: UnitQueue(units), job: job)
            try await upload.queue.run(gate, job, life: life) { unit throws(StorageError) in
                try await upload.send(unit, past)
            }
        }
        guard journal.finishedCount == files.count - past.done.count else {
            throw StorageError(
                .internal, "an upload to \(quoted(Path.join(store.root, prefix))) ended before all files were sent",
                details: [("path", .string(Path.join(store.root, prefix)))])
        }
        // A try to begin an upload whose answer was lost has begun one that nobody knows.
        if usesParts || !past.isFresh { await abortUnknown(store, prefix, progress) }
        try progress.checkCancelled()
    }

    /// A convenience for the store's bill, and no reason to fail.
    private static func abortUnknown(_ store: any ObjectStore, _ prefix: String, _ progress: Progress) async {
        guard let open = try? await store.openUploads(prefix, progress: progress) else { return }
        for upload in open { try? await store.endUpload(upload.key, upload: upload.upload, progress: progress) }
    }

    // MARK: - One request

    private func send(_ unit: PartPlan.Unit, _ past: UploadPast) async throws(StorageError) {
        guard let file = large[unit.file] else { return try await sendWhole(unit.file) }
        guard let session = try await begin(unit.file, file, past) else { return }
        if session.isDone.contains(unit.part) {
            // Only the end was missing.
            if let parts = file.allParts() { try await complete(unit, file, session, parts) }
            return
        }
        let range = file.plan.range(unit.part)
        let crc = file.plan.crc32c(unit.part, blocks: files[unit.file].blocks)
        let part: UploadedPart
        do throws(StorageError) {
            part = try await gate.request(job, bytes: range.count, life: life) { progress throws(StorageError) in
                try await store.putPart(
                    key(unit.file), upload: session.upload, number: unit.part + 1,
                    .file(session.source.file, offset: range.lowerBound, length: range.count), crc32c: crc,
                    progress: progress)
            }
        } catch {
            guard error.code == .notFound else { throw session.source.reason(error, range, crc32c: crc) }
            return try beginAgain(unit, file, session, error)
        }
        let (counts, parts) = file.add(unit.part, part, to: session)
        guard counts else { return queue.putBack([unit]) }
        progress.advance(bytes: range.count)
        if let parts { try await complete(unit, file, session, parts) }
    }

    private func sendWhole(_ index: Int) async throws(StorageError) {
        let record = files[index]
        let source = try UploadSource(record, in: root)
        let body: HTTPBody = record.size == 0 ? .none : .file(source.file, offset: 0, length: record.size)
        var outcome: WriteOutcome
        do throws(StorageError) {
            outcome = try await gate.request(job, bytes: record.size, life: life) { progress throws(StorageError) in
                try await store.put(
                    key(index), body, crc32c: record.crc32c, condition: .always, progress: progress)
            }
        } catch {
            throw source.reason(error, 0..<record.size, crc32c: record.crc32c)
        }
        try source.checkUnchanged()
        var version = ""
        if case .stored(let stored) = outcome { version = stored }
        try journal.finish(index, version: version)
        progress.advance(bytes: record.size, files: 1)
    }

    private func key(_ index: Int) -> String { prefix + files[index].path }

    // MARK: - Uploads in parts

    /// The upload of a file, begun or found by whoever comes first; nil when the file is there whole.
    private func begin(
        _ index: Int, _ file: UploadingFile, _ past: UploadPast
    ) async throws(StorageError) -> UploadingFile.Session? {
        if let session = file.session { return session }
        return try await file.turn.take(life) { () async throws(StorageError) -> UploadingFile.Session? in
            if file.hasEnded { return nil }
            if let session = file.session { return session }
            let source = try UploadSource(files[index], in: root)
            if let found = past.multiparts[index], !file.hasBegun {
                progress.advance(bytes: ByteSum.of(found.parts.lazy.map(\.size)))
                return file.begin(found.upload, source, parts: found.parts)
            }
            let key = key(index)
            let begun = try await gate.request(job, bytes: 0, life: life) { progress throws(StorageError) in
                try await store.startMultipart(key, progress: progress)
            }
            try journal.begin(
                index,
                .init(
                    key: key, upload: begun.upload, partBytes: file.plan.partBytes,
                    announcesChecksums: begun.announcesChecksums))
            return file.begin(begun.upload, source, parts: [])
        }
    }

    private func complete(
        _ unit: PartPlan.Unit, _ file: UploadingFile, _ session: UploadingFile.Session, _ parts: [UploadedPart]
    ) async throws(StorageError) {
        try session.source.checkUnchanged()
        let index = unit.file
        let record = files[index]
        var failure: StorageError?
        do throws(StorageError) {
            try await gate.request(job, bytes: 0, life: life) { progress throws(StorageError) in
                try await store.completeMultipart(
                    key(index), upload: session.upload, parts: parts, size: record.size, crc32c: record.crc32c,
                    progress: progress)
            }
        } catch { failure = error }
        if let failure {
            if failure.code != .notFound {
                let reason = session.source.reason(failure, 0..<record.size, crc32c: record.crc32c)
                // The file is good: what the store made of it, or holds of it, is not.
                guard reason.code == .checksum else { throw reason }
                try journal.drop(index)
                try await store.abortMultipart(key(index), upload: session.upload, progress: life)
            }
            return try beginAgain(unit, file, session, failure)
        }
        try journal.finish(index, version: "")
        file.end()
        progress.advance(files: 1)
    }

    /// The store does not know the upload any more (a lifecycle rule, an operator) or has other bytes: all parts of the
    /// file go once more.
    ///
    /// Each part is one unit that is in the queue, in a worker's hand, or sent. Those that were sent come back to the queue
    /// here, and every worker brings back its own: a second one for a part could meet an upload that is complete.
    private func beginAgain(
        _ unit: PartPlan.Unit, _ file: UploadingFile, _ session: UploadingFile.Session, _ failure: StorageError
    ) throws(StorageError) {
        guard let (sessions, lost) = file.lose(session) else { return queue.putBack([unit]) }
        guard sessions < Self.maximumSessions else { throw failure }
        progress.advance(bytes: -ByteSum.of(lost.values.lazy.map(\.size)))
        let parts = Set(lost.keys).union([unit.part])
        queue.putBack(parts.sorted().map { PartPlan.Unit(file: unit.file, part: $0) })
    }
}
