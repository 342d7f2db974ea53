/// Part of an object store: everything below one prefix, under keys relative to it.
struct ObjectStoreView: ObjectStore {
    private let store: any ObjectStore
    /// Empty, or ends in `/`.
    private let prefix: String

    /// `directory` is empty or a prefix without slashes at its ends.
    init(_ store: any ObjectStore, _ directory: String) {
        self.store = store
        prefix = directory.isEmpty ? "" : directory + "/"
    }

    var root: String { prefix.isEmpty ? store.root : Path.join(store.root, Path.withoutSlash(prefix)) }
    var queueName: String { store.queueName }
    var wishes: TransferWishes { store.wishes }
    var counters: StoreCounters { store.counters }
    var capabilities: ObjectStoreCapabilities { store.capabilities }

    func probe(progress: Progress) async throws(StorageError) -> ObjectStoreCapabilities {
        try await store.probe(progress: progress)
    }

    func get(_ key: String, limit: Int, progress: Progress) async throws(StorageError) -> StoredObject? {
        try await store.get(prefix + key, limit: limit, progress: progress)
    }

    func get(
        _ key: String, range: Range<Int>, of size: Int?, version: String?, into file: OpenFile, shift: Int,
        progress: Progress
    ) async throws(StorageError) -> [UInt32] {
        try await store.get(
            prefix + key, range: range, of: size, version: version, into: file, shift: shift, progress: progress)
    }

    func head(_ key: String, progress: Progress) async throws(StorageError) -> ObjectSummary? {
        guard var summary = try await store.head(prefix + key, progress: progress) else { return nil }
        summary.key = key
        return summary
    }

    func attested(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (summary: ObjectSummary, crc32c: UInt32?)? {
        guard var found = try await store.attested(prefix + key, progress: progress) else { return nil }
        found.summary.key = key
        return found
    }

    func put(
        _ key: String, _ content: HTTPBody, crc32c: UInt32, condition: WriteCondition, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        try await store.put(prefix + key, content, crc32c: crc32c, condition: condition, progress: progress)
    }

    var announcesChecksums: Bool { store.announcesChecksums }
    var encryption: String { store.encryption }

    func startMultipart(_ key: String, progress: Progress) async throws(StorageError) -> BegunMultipart {
        try await store.startMultipart(prefix + key, progress: progress)
    }

    func putPart(
        _ key: String, upload: String, number: Int, _ content: HTTPBody, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) -> UploadedPart {
        try await store.putPart(
            prefix + key, upload: upload, number: number, content, crc32c: crc32c, progress: progress)
    }

    func listParts(_ key: String, upload: String, progress: Progress) async throws(StorageError) -> [UploadedPart]? {
        try await store.listParts(prefix + key, upload: upload, progress: progress)
    }

    func completeMultipart(
        _ key: String, upload: String, parts: [UploadedPart], size: Int, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) {
        try await store.completeMultipart(
            prefix + key, upload: upload, parts: parts, size: size, crc32c: crc32c, progress: progress)
    }

    func abortMultipart(_ key: String, upload: String, progress: Progress) async throws(StorageError) {
        try await store.abortMultipart(prefix + key, upload: upload, progress: progress)
    }

    func multiparts(_ prefix: String, progress: Progress) async throws(StorageError) -> [OpenMultipart] {
        var uploads = try await store.multiparts(self.prefix + prefix, progress: progress)
        for place in uploads.indices { uploads[place].key = relative(uploads[place].key) }
        return uploads
    }

    func list(_ prefix: String, delimited: Bool, progress: Progress) async throws(StorageError) -> ObjectListing {
        var listing = try await store.list(self.prefix + prefix, delimited: delimited, progress: progress)
        for place in listing.objects.indices { listing.objects[place].key = relative(listing.objects[place].key) }
        listing.prefixes = listing.prefixes.map(relative)
        // A mark that other tools make for the directory itself; content is none.
        listing.objects.removeAll { $0.key.isEmpty && $0.size == 0 }
        return listing
    }

    func delete(_ keys: [String], progress: Progress) async throws(StorageError) {
        try await store.delete(keys.map { prefix + $0 }, progress: progress)
    }

    func time(_ prefix: String, progress: Progress) async throws(StorageError) -> Double? {
        try await store.time(self.prefix + prefix, progress: progress)
    }

    private func relative(_ key: String) -> String {
        String(decoding: key.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
    }
}
