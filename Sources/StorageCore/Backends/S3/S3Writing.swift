/// Whole objects: one PUT, its conditions, and what is made of its answer.
extension S3Store {
    /// Up to this many bytes a refused write is compared with what is there.
    private static let largestComparison = 16 << 20
    /// Smaller objects cost more in the infrequent-access classes, which bill 128 KiB at least.
    private static let smallestClassed = 128 << 10

    func put(
        _ key: String, _ content: HTTPBody, crc32c: UInt32, condition: WriteCondition, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        try await require(condition, key, progress: progress)
        return try await write(key, content, crc32c: crc32c, condition: condition, progress: progress)
    }

    /// As `put`, without asking whether the store honours the condition. `integrity`: nil for what is known of the store.
    func write(
        _ key: String, _ content: HTTPBody, crc32c: UInt32, condition: WriteCondition,
        integrity given: S3Integrity? = nil, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        var plain = S3Operation("PutObject", "PUT", key: try client.keys.whole(key))
        plain.body = content
        plain.headers = creationHeaders(bytes: content.length)
        switch condition {
        case .always: break
        case .ifAbsent: plain.headers.append(HTTPHeader("If-None-Match", "*"))
        case .ifVersion(let version): plain.headers.append(HTTPHeader("If-Match", version))
        }
        let integrity = given ?? self.integrity
        var operation = plain.with(try integrity.headers(content, crc32c: crc32c))
        if integrity.sendsCRC32C { operation.crc32c = crc32c }
        switch try await sendCreating(operation, progress: progress) {
        case .success(let success):
            return try await stored(key, success, content, crc32c, integrity, progress: progress)
        case .refusal(let refusal):
            if integrity.isAboutChecksums(refusal), condition == .always || !isAboutCondition(refusal) {
                return try await withoutChecksum(
                    key, content, crc32c, condition, refusal, integrity, progress: progress)
            }
            return try await refused(key, refusal, content, crc32c, condition, progress: progress)
        }
    }

    /// The same without the CRC-32C; that it works then is what is remembered.
    private func withoutChecksum(
        _ key: String, _ content: HTTPBody, _ crc32c: UInt32, _ condition: WriteCondition, _ refusal: S3Refusal,
        _ integrity: S3Integrity, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        let outcome: WriteOutcome
        do throws(StorageError) {
            outcome = try await write(
                key, content, crc32c: crc32c, condition: condition, integrity: integrity.refused, progress: progress)
        } catch {
            throw S3Integrity.error(refusal, without: error)
        }
        if case .stored = outcome { client.memory.learn(from: refusal, of: integrity) }
        return outcome
    }

    // MARK: - Stored

    private func stored(
        _ key: String, _ success: S3Success, _ content: HTTPBody, _ crc32c: UInt32, _ integrity: S3Integrity,
        progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        let response = success.response
        try noteChecksum(response["x-amz-checksum-crc32c"], key, integrity)
        if case .empty = success.document, let etag = response["etag"], !etag.isEmpty { return .stored(version: etag) }
        // Not what S3 answers: believe what can be seen only.
        guard let there = try await attested(key, progress: progress) else {
            throw error(
                .network, key, "was accepted and is not there: the answer came from something else than a store")
        }
        guard there.summary.size == content.length, there.crc32c.map({ $0 == crc32c }) ?? true else {
            throw mismatch(
                key, "was accepted and is there with \(there.summary.size) bytes instead of \(content.length)")
        }
        return .stored(version: there.summary.version)
    }

    /// Remembers whether the store says anything of the checksum that it was sent.
    func noteChecksum(_ answered: String?, _ key: String, _ integrity: S3Integrity) throws(StorageError) {
        guard integrity.sendsCRC32C else { return }
        if answered.flatMap(S3Checksum.decode) != nil {
            if integrity.support == .unknown { client.memory.learn { $0.checksums = .verified } }
        } else if integrity.support == .unknown {
            if integrity.choice == .crc32c {
                throw error(
                    .notSupported, key, "was stored without its CRC-32C being compared: give checksum=auto, md5 or none"
                )
            }
            client.memory.learn { if $0.checksums == .unknown { $0.checksums = .ignored } }
        }
    }

    // MARK: - Refused

    private func refused(
        _ key: String, _ refusal: S3Refusal, _ content: HTTPBody, _ crc32c: UInt32, _ condition: WriteCondition,
        progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        let isAbsentVersion = refusal.status == 404 && refusal.code == "NoSuchKey"
        switch condition {
        case .ifAbsent where refusal.code == "PreconditionFailed" || refusal.status == 412: break
        case .ifVersion where refusal.code == "PreconditionFailed" || refusal.status == 412 || isAbsentVersion: break
        default: throw refusal.error
        }
        // The condition may have failed because an earlier try of ours held: its answer, or its connection, was lost.
        guard content.length <= Self.largestComparison else {
            let there = try await attested(key, progress: progress)
            guard let there, there.summary.size == content.length, there.crc32c == crc32c else { return .refused }
            return .stored(version: there.summary.version)
        }
        guard let summary = try await head(key, progress: progress), summary.size == content.length,
            let object = try await get(key, limit: content.length, progress: progress),
            object.bytes == (try content.readAll())
        else { return .refused }
        return .stored(version: object.version)
    }

    /// Sends what begins an object; makes the bucket first if that is missing and allowed.
    func sendCreating(_ operation: S3Operation, progress: Progress) async throws(StorageError) -> S3Outcome {
        let outcome = try await client.send(operation, progress: progress)
        guard case .refusal(let refusal) = outcome, refusal.code == "NoSuchBucket", options.allowBucketCreation else {
            return outcome
        }
        try await createBucket(progress: progress)
        return try await client.send(operation, progress: progress)
    }

    private func createBucket(progress: Progress) async throws(StorageError) {
        var operation = S3Operation("CreateBucket", "PUT", key: nil)
        let endpoint = client.endpoint
        if endpoint.isAWS { operation.body = .bytes(S3Body.createBucket(region: endpoint.signingRegion)) }
        guard case .refusal(let refusal) = try await client.send(operation, progress: progress) else { return }
        let isThere = ["BucketAlreadyOwnedByYou", "BucketAlreadyExists"].contains(refusal.code)
        guard isThere else { throw refusal.error }
    }

    /// Headers of what begins an object.
    func creationHeaders(bytes: Int) -> [HTTPHeader] {
        var headers = options.encryption?.creationHeaders ?? []
        if let storageClass = options.storageClass, bytes >= Self.smallestClassed {
            headers.append(HTTPHeader("x-amz-storage-class", storageClass))
        }
        if let acl = options.acl { headers.append(HTTPHeader("x-amz-acl", acl)) }
        if let tagging = options.tagging { headers.append(HTTPHeader("x-amz-tagging", tagging)) }
        return headers
    }
}
