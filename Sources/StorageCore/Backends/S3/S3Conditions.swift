/// Whether a bucket honours conditional writes: tried, since stores that do not know them ignore the header in silence.
extension S3Store {
    /// Where the tries are made.
    static let probePrefix = ".raystorage-probe/"

    func probe(progress: Progress) async throws(StorageError) -> ObjectStoreCapabilities {
        if let known = known { return known }
        return try await client.memory.probing.take(progress) {
            () async throws(StorageError) -> ObjectStoreCapabilities in
            if let known { return known }
            if client.endpoint.isAWS {
                // Documented, and the tries would need permissions that a run does not need otherwise.
                client.memory.learn { facts in
                    facts.createsConditionally = true
                    facts.replacesConditionally = true
                }
                return capabilities
            }
            let directory = probesBelow.isEmpty ? "" : probesBelow + "/"
            let key = directory + Self.probePrefix + client.environment.randomHex(16)
            let result: Result<(creates: Bool, replaces: Bool), StorageError>
            do throws(StorageError) {
                result = .success(try await tried(key, progress: progress))
            } catch {
                result = .failure(error)
            }
            // Not allowed to delete, or cancelled: an object of a few bytes is left, and no reason to fail.
            try? await delete([key], progress: Progress())
            let (creates, replaces) = try result.get()
            client.memory.learn { facts in
                facts.createsConditionally = creates
                facts.replacesConditionally = replaces
            }
            return capabilities
        }
    }

    private var known: ObjectStoreCapabilities? {
        let facts = client.memory.current
        return facts.createsConditionally != nil && facts.replacesConditionally != nil ? capabilities : nil
    }

    private func tried(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (creates: Bool, replaces: Bool) {
        // Plain first: what the store thinks of checksums must not be taken for what it thinks of conditions.
        guard case .stored(let first)? = try await attempt(key, 1, .always, progress) else { return (false, false) }
        switch try await attempt(key, 2, .ifAbsent, progress) {
        case .refused: return (true, try await replaces(key, first, progress))
        case .stored(let second): return (false, try await replaces(key, second, progress))
        case nil: return (false, try await replaces(key, first, progress))
        }
    }

    /// Replacing the version that is there must work, replacing the one before must not.
    private func replaces(_ key: String, _ version: String, _ progress: Progress) async throws(StorageError) -> Bool {
        guard case .stored? = try await attempt(key, 3, .ifVersion(version), progress) else { return false }
        return try await attempt(key, 4, .ifVersion(version), progress) == .refused
    }

    /// One write; nil when the store will not have the condition.
    private func attempt(
        _ key: String, _ content: UInt8, _ condition: WriteCondition, _ progress: Progress
    ) async throws(StorageError) -> WriteOutcome? {
        let bytes: [UInt8] = [content]
        do throws(StorageError) {
            return try await write(
                key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: condition, progress: progress)
        } catch {
            let isAboutHeader = error.code == .notSupported || error.code == .invalidArgument
            if condition != .always, isAboutHeader { return nil }
            throw error
        }
    }

    /// Refuses a condition that the store is known, or found, not to honour.
    func require(_ condition: WriteCondition, _ key: String, progress: Progress) async throws(StorageError) {
        let isHonoured: Bool
        switch condition {
        case .always: return
        case .ifAbsent: isHonoured = try await probe(progress: progress).createsConditionally
        case .ifVersion: isHonoured = try await probe(progress: progress).replacesConditionally
        }
        if isHonoured { return }
        throw error(.notSupported, key, "cannot be written conditionally: this store ignores or refuses such requests")
    }

    /// Whether a refusal is one that conditions bring about.
    func isAboutCondition(_ refusal: S3Refusal) -> Bool {
        [409, 412, 501].contains(refusal.status) || refusal.code == "NotImplemented"
    }
}
