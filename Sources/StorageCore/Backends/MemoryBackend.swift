internal import Synchronization

/// The reference for the contract that every backend keeps: a dictionary, with conditional writes as stores have them.
final class MemoryBackend: StorageBackend {
    let root = "memory:"
    let capabilities = BackendCapabilities(renamesDirectories: false, replacesConditionally: true)
    private let objects = Mutex<(contents: [String: StoredObject], serial: Int)>(([:], 0))

    func read(_ key: String, limit: Int) async throws(StorageError) -> StoredObject? {
        let object = objects.withLock { $0.contents[key] }
        if let object, object.bytes.count > limit {
            throw StorageError(.io, "\(quoted(key)) is larger than \(limit) bytes", details: [("path", .string(key))])
        }
        return object
    }

    func create(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool {
        objects.withLock { state in
            if let existing = state.contents[key] { return existing.bytes == bytes }
            state.serial += 1
            state.contents[key] = StoredObject(bytes: bytes, version: String(state.serial))
            return true
        }
    }

    func replace(_ key: String, _ bytes: [UInt8], ifVersion: String?) async throws(StorageError) -> Bool {
        objects.withLock { state in
            if let ifVersion, state.contents[key]?.version != ifVersion { return false }
            state.serial += 1
            state.contents[key] = StoredObject(bytes: bytes, version: String(state.serial))
            return true
        }
    }

    func post(_ key: String, _ bytes: [UInt8]) async throws(StorageError) {
        _ = try await replace(key, bytes, ifVersion: nil)
    }

    func list(_ prefix: String) async throws(StorageError) -> [String] {
        let keys = objects.withLock { Array($0.contents.keys) }
        var names = Set<String>()
        for key in keys where key.utf8.starts(with: prefix.utf8) {
            let rest = key.dropFirst(prefix.count)
            let name = rest.prefix { $0 != "/" }
            names.insert(name.count < rest.count ? name + "/" : String(name))
        }
        return names.sorted()
    }

    func delete(_ key: String) async throws(StorageError) -> Bool {
        objects.withLock { $0.contents.removeValue(forKey: key) != nil }
    }
}
