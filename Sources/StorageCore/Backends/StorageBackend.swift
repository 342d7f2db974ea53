/// What a kind of storage can do beyond the plain operations; plans are made from it, never from a backend's type.
public struct BackendCapabilities: Sendable, Equatable {
    /// A directory can be renamed in one atomic step: such a step is the commit there.
    public var renamesDirectories: Bool
    /// `replace` honours `ifVersion`.
    public var replacesConditionally: Bool
}

/// A small object and the version that it was read at.
public struct StoredObject: Sendable, Equatable {
    /// The content.
    public var bytes: [UInt8]
    /// An opaque mark of this content, for `replace(ifVersion:)`.
    public var version: String
}

/// The control plane of one run: small records under keys relative to the run's root (`.raystorage/run.json`).
///
/// Everything that decides about a run goes through these six operations, which file systems and object stores both
/// have; nothing here renames. Checkpoint data goes other ways: it is large, and stores differ in how they commit it.
public protocol StorageBackend: Sendable {
    /// The root, for error texts.
    var root: String { get }
    /// What this storage can do.
    var capabilities: BackendCapabilities { get }

    /// Reads an object of at most `limit` bytes; nil when there is none.
    func read(_ key: String, limit: Int) async throws(StorageError) -> StoredObject?

    /// Creates an object that must not exist: complete or absent at every instant. True: it is there with these bytes,
    /// by this call or by an earlier try of it; false: somebody else's is there. Bytes must be unique to the caller.
    func create(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool

    /// Writes an object whether or not it exists; readers see the old or the new one. With `ifVersion`, where the
    /// storage can: only over that version. False: another version is there, nothing was written.
    @discardableResult
    func replace(_ key: String, _ bytes: [UInt8], ifVersion: String?) async throws(StorageError) -> Bool

    /// As `create` (nil) and as `replace(ifVersion:)`, for those who go on from what they wrote: the new version, nil when
    /// it was refused. What a storage without versions gives means nothing.
    func exchange(_ key: String, _ bytes: [UInt8], over version: String?) async throws(StorageError) -> String?

    /// Every key below a prefix that ends in `/`, sorted.
    func keys(_ prefix: String) async throws(StorageError) -> [String]

    /// Writes to a mailbox, an object made beforehand that others look at often. On file systems in place, since NFS
    /// clients cache what a name stands for; a reader may see a torn state, so content must survive that.
    func post(_ key: String, _ bytes: [UInt8]) async throws(StorageError)

    /// The names directly below a prefix that ends in `/`, sorted; a name that stands for more below it ends in `/`.
    /// A prefix with nothing below it gives none.
    func list(_ prefix: String) async throws(StorageError) -> [String]

    /// Removes an object; false when there was none.
    @discardableResult
    func delete(_ key: String) async throws(StorageError) -> Bool
}

extension StorageBackend {
    func exchange(_ key: String, _ bytes: [UInt8], over version: String?) async throws(StorageError) -> String? {
        var isDone = false
        if let version {
            isDone = try await replace(key, bytes, ifVersion: version)
        } else {
            isDone = try await create(key, bytes)
        }
        guard isDone else { return nil }
        guard capabilities.replacesConditionally else { return "" }
        return try await read(key, limit: max(bytes.count, 1 << 20))?.version ?? ""
    }

    func keys(_ prefix: String) async throws(StorageError) -> [String] {
        var keys: [String] = []
        for name in try await list(prefix) {
            if name.utf8.last == UInt8(ascii: "/") {
                keys += try await self.keys(prefix + name)
            } else {
                keys.append(prefix + name)
            }
        }
        return keys
    }

    /// Where an object lies, for error texts and for what is done beside the control plane.
    func path(_ key: String) -> String { Path.join(root, key) }

    /// Reads a JSON document; nil when there is none. Text that is not JSON is an error that names the object.
    func readDocument(_ key: String, limit: Int = 64 << 20) async throws(StorageError) -> JSONValue? {
        guard let object = try await read(key, limit: limit) else { return nil }
        do {
            return try JSONParser.parse(object.bytes)
        } catch {
            throw StorageError(
                .checksum,
                "\(quoted(Path.join(root, key))) is damaged: expected \(error.reason) at byte \(error.offset)",
                details: [("path", .string(Path.join(root, key)))])
        }
    }

    /// Creates a JSON document of one line.
    func create(_ key: String, _ document: JSONValue) async throws(StorageError) -> Bool {
        try await create(key, document.compactBytes + [0x0A])
    }
}
