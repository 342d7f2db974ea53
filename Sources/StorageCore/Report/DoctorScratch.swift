internal import Synchronization

/// What `doctor` writes to an object store. It takes away again what it knows to have made, whatever it may list.
final class DoctorScratch: Sendable {
    private struct Made {
        var keys: Set<String> = []
        /// Uploads that are open, and their keys.
        var uploads: [String: String] = [:]
    }

    let store: any ObjectStore
    /// Ends in `/`.
    let prefix: String
    private let made = Mutex(Made())

    init(_ store: any ObjectStore, prefix: String) {
        self.store = store
        self.prefix = prefix
    }

    var address: String { Path.join(store.root, prefix) }

    /// The key of an object that is about to be made: the answer may be lost, and the object there.
    func key(_ name: String) -> String {
        let key = prefix + name
        made.withLock { _ = $0.keys.insert(key) }
        return key
    }

    func put(
        _ name: String, _ bytes: [UInt8], _ condition: WriteCondition = .always, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        try await store.put(
            key(name), .bytes(bytes), crc32c: CRC32C.of(bytes), condition: condition, progress: progress)
    }

    func begin(_ name: String, progress: Progress) async throws(StorageError) -> (key: String, upload: String) {
        let key = prefix + name
        let upload = try await store.startMultipart(key, progress: progress).upload
        made.withLock { $0.uploads[upload] = key }
        return (key, upload)
    }

    /// The upload is no more.
    func ended(_ upload: String) { made.withLock { $0.uploads[upload] = nil } }

    func abort(_ key: String, upload: String, progress: Progress) async throws(StorageError) {
        try await store.abortMultipart(key, upload: upload, progress: progress)
        ended(upload)
    }

    /// Whether uploads that are listed are none but those that were begun and have not ended.
    func areOpen(_ listed: [String]) -> Bool {
        let open = made.withLock { Set($0.uploads.keys) }
        return listed.allSatisfy(open.contains)
    }

    /// Why an object that was made cannot be deleted; nil: it is gone.
    func refusal(toDelete name: String, progress: Progress) async -> StorageError? {
        do throws(StorageError) {
            try await store.delete([prefix + name], progress: progress)
            return nil
        } catch { return error }
    }

    /// Removes all that was made, and says what is left.
    func remove(progress: Progress) async throws(StorageError) -> String {
        let (keys, uploads) = made.withLock { ($0.keys.sorted(), $0.uploads) }
        for (upload, key) in uploads { try? await abort(key, upload: upload, progress: progress) }
        do throws(StorageError) { try await store.delete(keys, progress: progress) } catch {
            var refusal = error
            let left = await listed(prefix, progress)
            let word = left == nil ? "perhaps left" : "left"
            refusal.message += "; \(word) below \(quoted(address)): \(names(left ?? keys))"
            // The store's own tries of conditional writes.
            let probes = await listed(S3Store.probePrefix, progress) ?? []
            if !probes.isEmpty {
                refusal.message += ", and \(probes.count) below \(quoted(Path.join(store.root, S3Store.probePrefix)))"
            }
            refusal.details.append(details(left: (left ?? keys) + probes))
            throw refusal
        }
        if let left = await listed(prefix, progress), !left.isEmpty {
            throw StorageError(
                .precondition, "still listed below \(quoted(address)) after they were deleted: \(names(left))",
                details: [("path", .string(store.root)), details(left: left)])
        }
        let open = made.withLock { $0.uploads.count }
        if open == 0 { return "can delete; nothing is left of this check" }
        let count = open == 1 ? "1 open upload is" : "\(open) open uploads are"
        return "can delete; \(count) left below \(quoted(address))"
    }

    /// What is there below a prefix; nil where that cannot be told.
    private func listed(_ prefix: String, _ progress: Progress) async -> [String]? {
        try? await store.list(prefix, delimited: false, progress: progress).objects.map(\.key)
    }

    private func details(left keys: [String]) -> (key: String, value: JSONValue) {
        ("left", .array(keys.map { .string(Path.join(store.root, $0)) }))
    }

    private func names(_ keys: [String]) -> String {
        let few = keys.prefix(5).map { quoted(String($0.unicodeScalars.dropFirst(prefix.unicodeScalars.count))) }
        return few.joined(separator: ", ") + (keys.count > few.count ? " and \(keys.count - few.count) more" : "")
    }
}
