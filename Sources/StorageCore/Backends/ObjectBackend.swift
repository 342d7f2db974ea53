/// The control plane over an object store: records are objects, create-only is a conditional write.
///
/// In stores without conditional writes `create` claims the name first (`ObjectClaim`), which is safe for one trainer at a
/// time.
struct ObjectBackend: StorageBackend {
    let store: any ObjectStore
    let environment: Environment
    /// Ends what is under way when it is cancelled.
    let progress: Progress

    init(_ store: any ObjectStore, environment: Environment, progress: Progress = Progress()) {
        self.store = store
        self.environment = environment
        self.progress = progress
    }

    var root: String { store.root }

    var capabilities: BackendCapabilities {
        BackendCapabilities(
            renamesDirectories: false, replacesConditionally: store.capabilities.replacesConditionally)
    }

    func read(_ key: String, limit: Int) async throws(StorageError) -> StoredObject? {
        try await store.get(key, limit: limit, progress: progress)
    }

    func create(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool {
        guard try await store.probe(progress: progress).createsConditionally else {
            return try await ObjectClaim(backend: self, key: key).create(bytes)
        }
        // A record that was there and is gone again is somebody's clean-up in between: once more.
        for _ in 0..<3 {
            let outcome = try await store.put(
                key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: .ifAbsent, progress: progress)
            if case .stored = outcome { return true }
            if let there = try await holds(key, bytes) { return there }
        }
        throw StorageError(
            .precondition, "\(quoted(path(key))) was there and gone again three times while it was to be created",
            details: [("operation", "create"), ("path", .string(path(key)))], isRetryable: true)
    }

    /// Whether an object is there with these bytes; nil when there is none.
    func holds(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool? {
        // A byte more than ours is enough to tell it from ours.
        guard let summary = try await store.head(key, progress: progress) else { return nil }
        guard summary.size == bytes.count else { return false }
        return try await store.get(key, limit: max(bytes.count, 64 << 10), progress: progress).map { $0.bytes == bytes }
    }

    func replace(_ key: String, _ bytes: [UInt8], ifVersion: String?) async throws(StorageError) -> Bool {
        var condition = WriteCondition.always
        if let ifVersion, try await store.probe(progress: progress).replacesConditionally {
            condition = .ifVersion(ifVersion)
        }
        let outcome = try await store.put(
            key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: condition, progress: progress)
        return outcome != .refused
    }

    func exchange(_ key: String, _ bytes: [UInt8], over version: String?) async throws(StorageError) -> String? {
        let known = try await store.probe(progress: progress)
        guard version == nil ? known.createsConditionally : known.replacesConditionally else {
            if let version { return try await replace(key, bytes, ifVersion: version) ? "" : nil }
            return try await create(key, bytes) ? "" : nil
        }
        let outcome = try await store.put(
            key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: version.map { .ifVersion($0) } ?? .ifAbsent,
            progress: progress)
        if case .stored(let version) = outcome { return version }
        // Perhaps an earlier try of this very call.
        guard let there = try await store.head(key, progress: progress), there.size == bytes.count else { return nil }
        let object = try await store.get(key, limit: max(bytes.count, 64 << 10), progress: progress)
        return object?.bytes == bytes ? object?.version : nil
    }

    func keys(_ prefix: String) async throws(StorageError) -> [String] {
        try await store.list(prefix, delimited: false, progress: progress).objects.map(\.key)
    }

    func post(_ key: String, _ bytes: [UInt8]) async throws(StorageError) {
        _ = try await replace(key, bytes, ifVersion: nil)
    }

    func list(_ prefix: String) async throws(StorageError) -> [String] {
        let listing = try await store.list(prefix, delimited: true, progress: progress)
        let skip = prefix.utf8.count
        let names = (listing.objects.map(\.key) + listing.prefixes).compactMap { key -> String? in
            // A key that is the prefix itself is a directory marker of other tools.
            let rest = key.utf8.dropFirst(skip)
            return rest.isEmpty ? nil : String(decoding: rest, as: UTF8.self)
        }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    func delete(_ key: String) async throws(StorageError) -> Bool {
        // Stores do not tell whether there was anything to delete.
        guard try await store.head(key, progress: progress) != nil else { return false }
        try await store.delete([key], progress: progress)
        return true
    }
}
