/// The files of one checkpoint between a directory and a prefix of an object store.
struct ObjectFiles: Sendable {
    let store: any ObjectStore
    /// Ends in `/`.
    let prefix: String
    let progress: Progress

    private var gate: TransferGate { .shared(store) }

    func key(_ path: String) -> String { prefix + path }

    // MARK: - Up

    /// Sends every file of the records from the directory that holds them; what `journal` knows to be there is not sent
    /// again. `inflightBytes`: see `TransferScheduler.Terms`.
    func upload(
        _ records: [FileRecord], from directory: String, journal: String, order: ReportSequence, inflightBytes: Int?
    ) async throws(StorageError) {
        let wishes = store.wishes
        try await ObjectUpload.run(
            store: store, directory: directory, files: records, prefix: prefix, journal: journal, gate: gate,
            order: order,
            terms: .init(
                concurrency: wishes.concurrency, owner: wishes.owner, inflightBytes: inflightBytes,
                bytesPerSecond: wishes.bytesPerSecond),
            partBytes: wishes.partBytes ?? PartPlan.usualPartBytes, progress: progress)
    }

    // MARK: - Down

    /// Brings files to an empty directory whose subdirectories are there. With `verify` the CRC of every block is compared.
    func download(_ files: [FilePass.Input], into root: RootDirectory) async throws(StorageError) {
        try await ObjectDownload.run(
            store: store, prefix: prefix, files: files, into: root, gate: gate, progress: progress)
    }

    // MARK: - Looking

    /// Fetches every byte of the files and compares it, writing nothing. `onFailure`: see `ObjectDownload.check`.
    func check(
        _ records: [FileRecord], onFailure: @escaping @Sendable (Int, StorageError) -> Void
    ) async throws(StorageError) {
        let inputs = records.map { record in
            FilePass.Input(
                path: record.path, size: record.size, mayHaveHoles: false, mode: record.mode,
                modifiedNanoseconds: record.modifiedNanoseconds, signature: nil, expectedBlocks: record.blocks)
        }
        try await ObjectDownload.check(
            store: store, prefix: prefix, files: inputs, gate: gate, progress: progress, onFailure: onFailure)
    }

    /// The objects below the prefix by the bytes of their paths, without our own; of those that begin with `start`. Paths
    /// that end in `/` are other tools' marks of directories, if they are empty.
    func list(_ start: String = "") async throws(StorageError) -> [[UInt8]: ObjectSummary] {
        let listing = try await store.list(prefix + start, delimited: false, progress: progress)
        var found: [[UInt8]: ObjectSummary] = [:]
        let own = Array((FileTree.ownName + "/").utf8)
        for object in listing.objects {
            let path = Array(object.key.utf8.dropFirst(prefix.utf8.count))
            // The mark of the prefix itself, and what is ours.
            if path.isEmpty && object.size == 0 || path.starts(with: own) { continue }
            found[path] = object
        }
        return found
    }

    /// Removes every object below the prefix, and every upload to one that is found or that the journal of an upload names:
    /// for those who have given up the attempt for good. Nothing there is no error.
    func remove(journal: String? = nil) async throws(StorageError) {
        // The uploads first: one that ends meanwhile makes an object.
        for begun in try journal.map({ (path) throws(StorageError) in try UploadJournal.multiparts(path) }) ?? [] {
            try await store.endUpload(begun.key, upload: begun.upload, progress: progress)
        }
        for open in try await store.openUploads(prefix, progress: progress) {
            try await store.endUpload(open.key, upload: open.upload, progress: progress)
        }
        let keys = try await store.list(prefix, delimited: false, progress: progress).objects.map(\.key)
        // Last of all the manifest, by which people know what the rest is.
        let ordered =
            keys.filter { !$0.hasSuffix(RunLayout.manifest) } + keys.filter { $0.hasSuffix(RunLayout.manifest) }
        if !ordered.isEmpty { try await store.delete(ordered, progress: progress) }
    }
}
