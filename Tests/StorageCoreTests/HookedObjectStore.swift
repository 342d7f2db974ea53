@testable import StorageCore

/// An object store with a test between it and one process: other processes use it without.
struct HookedObjectStore: ObjectStore {
    private let inner: MemoryObjectStore
    private let hook: MemoryObjectStore.Hook
    /// Another process has a queue of its own.
    let queueName = "hooked-" + Environment.system.randomHex(8)

    /// What it makes of a listing before it answers.
    private let revise: @Sendable (inout ObjectListing) -> Void

    init(
        _ inner: MemoryObjectStore, revise: @escaping @Sendable (inout ObjectListing) -> Void = { _ in },
        _ hook: @escaping MemoryObjectStore.Hook = { _, _ in }
    ) {
        self.inner = inner
        self.revise = revise
        self.hook = hook
    }

    var root: String { inner.root }
    var capabilities: ObjectStoreCapabilities { inner.capabilities }

    private func around<Value: Sendable>(
        _ operation: MemoryObjectStore.Call.Operation, _ key: String, number: Int = 0,
        _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        let call = MemoryObjectStore.Call(operation: operation, key: key, number: number)
        try await hook(.before, call)
        let value = try await body()
        try await hook(.after, call)
        return value
    }

    func get(_ key: String, limit: Int, progress: Progress) async throws(StorageError) -> StoredObject? {
        try await around(.get, key) { () throws(StorageError) in
            try await inner.get(key, limit: limit, progress: progress)
        }
    }

    func get(
        _ key: String, range: Range<Int>, of size: Int?, version: String?, into file: OpenFile, shift: Int,
        progress: Progress
    ) async throws(StorageError) -> [UInt32] {
        try await around(.getRange, key) { () throws(StorageError) in
            try await inner.get(
                key, range: range, of: size, version: version, into: file, shift: shift, progress: progress)
        }
    }

    func head(_ key: String, progress: Progress) async throws(StorageError) -> ObjectSummary? {
        try await around(.head, key) { () throws(StorageError) in try await inner.head(key, progress: progress) }
    }

    func attested(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (summary: ObjectSummary, crc32c: UInt32?)? {
        try await around(.head, key) { () throws(StorageError) in try await inner.attested(key, progress: progress) }
    }

    func put(
        _ key: String, _ content: HTTPBody, crc32c: UInt32, condition: WriteCondition, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        try await around(.put, key) { () throws(StorageError) in
            try await inner.put(key, content, crc32c: crc32c, condition: condition, progress: progress)
        }
    }

    var announcesChecksums: Bool { inner.announcesChecksums }
    var encryption: String { inner.encryption }

    func startMultipart(_ key: String, progress: Progress) async throws(StorageError) -> BegunMultipart {
        try await around(.startMultipart, key) { () throws(StorageError) in
            try await inner.startMultipart(key, progress: progress)
        }
    }

    func putPart(
        _ key: String, upload: String, number: Int, _ content: HTTPBody, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) -> UploadedPart {
        try await around(.putPart, key, number: number) { () throws(StorageError) in
            try await inner.putPart(
                key, upload: upload, number: number, content, crc32c: crc32c, progress: progress)
        }
    }

    func listParts(_ key: String, upload: String, progress: Progress) async throws(StorageError) -> [UploadedPart]? {
        try await around(.listParts, key) { () throws(StorageError) in
            try await inner.listParts(key, upload: upload, progress: progress)
        }
    }

    func completeMultipart(
        _ key: String, upload: String, parts: [UploadedPart], size: Int, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) {
        try await around(.completeMultipart, key) { () throws(StorageError) in
            try await inner.completeMultipart(
                key, upload: upload, parts: parts, size: size, crc32c: crc32c, progress: progress)
        }
    }

    func abortMultipart(_ key: String, upload: String, progress: Progress) async throws(StorageError) {
        try await around(.abortMultipart, key) { () throws(StorageError) in
            try await inner.abortMultipart(key, upload: upload, progress: progress)
        }
    }

    func multiparts(_ prefix: String, progress: Progress) async throws(StorageError) -> [OpenMultipart] {
        try await around(.multiparts, prefix) { () throws(StorageError) in
            try await inner.multiparts(prefix, progress: progress)
        }
    }

    func list(_ prefix: String, delimited: Bool, progress: Progress) async throws(StorageError) -> ObjectListing {
        try await around(.list, prefix) { () throws(StorageError) in
            var listing = try await inner.list(prefix, delimited: delimited, progress: progress)
            revise(&listing)
            return listing
        }
    }

    func time(_ prefix: String, progress: Progress) async throws(StorageError) -> Double? {
        try await inner.time(prefix, progress: progress)
    }

    func delete(_ keys: [String], progress: Progress) async throws(StorageError) {
        try await around(.delete, keys.first ?? "") { () throws(StorageError) in
            try await inner.delete(keys, progress: progress)
        }
    }
}
