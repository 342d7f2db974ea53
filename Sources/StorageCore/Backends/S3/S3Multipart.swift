/// Uploads in parts.
extension S3Store {
    var announcesChecksums: Bool { integrity.sendsCRC32C }
    var encryption: String { client.options.encryption?.fingerprint ?? "" }

    func startMultipart(_ key: String, progress: Progress) async throws(StorageError) -> BegunMultipart {
        var plain = S3Operation(
            "CreateMultipartUpload", "POST", key: try client.keys.whole(key), query: [("uploads", "")]
        ).answering(.document("InitiateMultipartUploadResult"))
        plain.headers = creationHeaders(bytes: .max)
        let integrity = self.integrity
        let operation = plain.with(integrity.multipartHeaders)
        var announces = integrity.sendsCRC32C
        var outcome = try await sendCreating(operation, progress: progress)
        if case .refusal(let refusal) = outcome, integrity.isAboutChecksums(refusal), !refusal.isDocument {
            // Not in S3's words: a proxy, perhaps. Parts have to agree with what is announced here, so it is asked now.
            outcome = try await sendCreating(operation, progress: progress)
        }
        if case .refusal(let refusal) = outcome, integrity.isAboutChecksums(refusal) {
            announces = false
            outcome = try await sendCreating(plain, progress: progress)
            if case .refusal(let second) = outcome { throw S3Integrity.error(refusal, without: second.error) }
            client.memory.learn { if $0.checksums == .unknown { $0.checksums = .refused } }
        }
        let success = try outcome.get()
        guard let root = success.document.result("InitiateMultipartUploadResult"), let upload = root.child("UploadId"),
            !upload.isEmpty
        else { throw garbage(operation, success) }
        return BegunMultipart(upload: upload, announcesChecksums: announces)
    }

    func putPart(
        _ key: String, upload: String, number: Int, _ content: HTTPBody, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) -> UploadedPart {
        var operation = S3Operation(
            "UploadPart", "PUT", key: try client.keys.whole(key),
            query: [("partNumber", String(number)), ("uploadId", upload)])
        operation.body = content
        let integrity = self.integrity
        operation.headers = accessHeaders + (try integrity.headers(content, crc32c: crc32c))
        if integrity.sendsCRC32C { operation.crc32c = crc32c }
        var outcome = try await client.send(operation, progress: progress)
        if case .refusal(let refusal) = outcome, integrity.isAboutChecksums(refusal), !refusal.isDocument {
            // As at the start: the upload has announced checksums.
            outcome = try await client.send(operation, progress: progress)
        }
        if case .refusal(let refusal) = outcome, integrity.isAboutChecksums(refusal) {
            operation.headers = accessHeaders + (try integrity.refused.headers(content, crc32c: crc32c))
            outcome = try await client.send(operation, progress: progress)
            if case .refusal(let second) = outcome { throw S3Integrity.error(refusal, without: second.error) }
            client.memory.learn { if $0.checksums == .unknown { $0.checksums = .refused } }
            return try part(number, content, crc32c, try outcome.get(), operation)
        }
        let success = try outcome.get()
        try noteChecksum(success.response["x-amz-checksum-crc32c"], key, integrity)
        return try part(number, content, crc32c, success, operation)
    }

    private func part(
        _ number: Int, _ content: HTTPBody, _ crc32c: UInt32, _ success: S3Success, _ operation: S3Operation
    ) throws(StorageError) -> UploadedPart {
        // Without its ETag the part cannot be named at the end.
        guard let etag = success.response["etag"], !etag.isEmpty else { throw garbage(operation, success) }
        return UploadedPart(number: number, etag: etag, size: content.length, crc32c: crc32c)
    }

    func listParts(_ key: String, upload: String, progress: Progress) async throws(StorageError) -> [UploadedPart]? {
        var parts: [UploadedPart] = []
        var marker = 0
        while true {
            var query = [("uploadId", upload), ("max-parts", "1000")]
            if marker > 0 { query.append(("part-number-marker", String(marker))) }
            let operation = S3Operation("ListParts", "GET", key: try client.keys.whole(key), query: query)
                .with(accessHeaders).answering(.document("ListPartsResult"), limit: S3Operation.pageAnswer)
            switch try await client.send(operation, progress: progress) {
            case .refusal(let refusal):
                if isMissingUpload(refusal) { return nil }
                throw refusal.error
            case .success(let success):
                guard let page = S3PartsPage(success.document) else { throw garbage(operation, success) }
                parts += page.parts
                guard let next = page.next else { return Self.unambiguous(parts) }
                // A server that turns in a circle must not hold us for ever.
                guard next > marker else { throw garbage(operation, success) }
                marker = next
            }
        }
    }

    /// Sorted. A store that lists a part that was sent twice as two does not say which one counts, so neither does.
    static func unambiguous(_ parts: [UploadedPart]) -> [UploadedPart] {
        let byNumber = Dictionary(grouping: parts) { $0.number }
        return byNumber.values.compactMap { same in
            same.allSatisfy { $0.etag == same.first?.etag && $0.size == same.first?.size } ? same.first : nil
        }.sorted { $0.number < $1.number }
    }

    func completeMultipart(
        _ key: String, upload: String, parts: [UploadedPart], size: Int, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) {
        let integrity = self.integrity
        let withChecksums =
            integrity.sendsCRC32C && integrity.support != .ignored && parts.allSatisfy { $0.crc32c != nil }
        var operation = S3Operation(
            "CompleteMultipartUpload", "POST", key: try client.keys.whole(key), query: [("uploadId", upload)]
        ).answering(.anything)
        operation.body = .bytes(S3Body.completeMultipart(parts, withChecksums: withChecksums))
        operation.headers = accessHeaders + [HTTPHeader("Content-Type", "application/xml")]
        if withChecksums {
            operation.headers.append(HTTPHeader("x-amz-checksum-crc32c", S3Checksum.encode(crc32c)))
            operation.headers.append(HTTPHeader("x-amz-checksum-type", "FULL_OBJECT"))
            operation.headers.append(HTTPHeader("x-amz-mp-object-size", String(size)))
        }
        operation.isSlow = true
        operation.attempts = Self.triesBeforeLook
        var rounds = client.rounds()
        defer { client.end(rounds) }
        while true {
            let outcome: S3Outcome
            do throws(StorageError) {
                outcome = try await client.send(operation, progress: progress)
            } catch {
                guard error.isRetryable, error.code != .cancelled else { throw error }
                // No answer so far. A try may have done it; if not, the others take the time that an upload has.
                if try await isConfirmed(key, size, crc32c, progress: progress) { return }
                try await client.pause(
                    &rounds, operation, after: error, tries: operation.attempts ?? 1, progress: progress)
                operation.attempts = 1
                continue
            }
            switch outcome {
            case .success(let success):
                // Empty or not S3's: nothing that is said counts, only what is there.
                guard let result = S3CompleteResult(success.document), let attested = result.crc32c else {
                    let absence = garbage(operation, success)
                    return try await confirm(key, size, crc32c, absence: absence, progress: progress)
                }
                if attested == crc32c { return }
                // What was said is wrong, or what is there: another look tells.
                return try await confirm(
                    key, size, crc32c, absence: otherBytes(key), isAttested: true, progress: progress)
            case .refusal(let refusal):
                guard isMissingUpload(refusal) || refusal.error.isRetryable else { throw refusal.error }
                // An earlier try may have done it, of this process or of one that died. Ceph says 500 then, for ever.
                if try await isConfirmed(key, size, crc32c, progress: progress) { return }
                // Bytes that arrive damaged were sent a few times by then.
                guard refusal.error.isRetryable, refusal.error.code != .checksum else { throw refusal.error }
                guard try await listParts(key, upload: upload, progress: progress) != nil else {
                    throw error(.notFound, key, "can no longer be put together: the store has dropped its upload")
                }
                try await client.pause(
                    &rounds, operation, after: refusal.error, tries: operation.attempts ?? 1,
                    asked: refusal.askedPauseMilliseconds,
                    progress: progress)
                operation.attempts = 1
            }
        }
    }

    /// Tries of CompleteMultipartUpload before it is looked up whether the first one did it. Afterwards each is followed by a
    /// look: its answer may be lost, too, and then no other one will say so.
    private static let triesBeforeLook = 3

    /// Ceph says NoSuchKey of the parts of an upload that is gone.
    private func isMissingUpload(_ refusal: S3Refusal) -> Bool {
        refusal.code == "NoSuchUpload" || (refusal.status == 404 && refusal.code == "NoSuchKey")
    }

    /// Looks whether the object is there with its size, and its checksum where the store keeps one (`isAttested`: it must).
    private func confirm(
        _ key: String, _ size: Int, _ crc32c: UInt32, absence: StorageError, isAttested: Bool = false,
        progress: Progress
    ) async throws(StorageError) {
        guard try await isConfirmed(key, size, crc32c, isAttested: isAttested, progress: progress) else {
            throw absence
        }
    }

    /// Whether the object is there with its size, and its checksum where the store keeps one; CHECKSUM when another is.
    private func isConfirmed(
        _ key: String, _ size: Int, _ crc32c: UInt32, isAttested: Bool = false, progress: Progress
    ) async throws(StorageError) -> Bool {
        guard let there = try await attested(key, progress: progress) else { return false }
        guard there.summary.size == size else {
            throw mismatch(key, "was put together with \(there.summary.size) bytes instead of \(size)")
        }
        guard there.crc32c.map({ $0 == crc32c }) ?? !isAttested else { throw otherBytes(key) }
        return true
    }

    private func otherBytes(_ key: String) -> StorageError {
        mismatch(key, "was put together with other bytes: the store's CRC-32C is not the one of the file")
    }

    func abortMultipart(_ key: String, upload: String, progress: Progress) async throws(StorageError) {
        let operation = S3Operation(
            "AbortMultipartUpload", "DELETE", key: try client.keys.whole(key), query: [("uploadId", upload)])
        if case .refusal(let refusal) = try await client.send(operation, progress: progress) {
            guard isMissingUpload(refusal) else { throw refusal.error }
        }
    }

    func multiparts(_ prefix: String, progress: Progress) async throws(StorageError) -> [OpenMultipart] {
        var uploads: [OpenMultipart] = []
        var marker: S3UploadsPage.Marker?
        while true {
            let isEncoded = client.memory.current.encodesUploads
            var query = [("uploads", ""), ("max-uploads", "1000"), ("prefix", client.keys.wholePrefix(prefix))]
            if isEncoded { query.append(("encoding-type", "url")) }
            if let marker {
                query.append(("key-marker", marker.key))
                if !marker.upload.isEmpty { query.append(("upload-id-marker", marker.upload)) }
            }
            let operation = S3Operation("ListMultipartUploads", "GET", key: nil, query: query)
                .answering(.document("ListMultipartUploadsResult"), limit: S3Operation.pageAnswer)
            let success = try await client.send(operation, progress: progress).get()
            guard let page = S3UploadsPage(success.document) else { throw garbage(operation, success) }
            if isEncoded, page.isAmbiguous {
                client.memory.learn { $0.encodesUploads = false }
                continue
            }
            for upload in page.uploads where upload.key.utf8.starts(with: client.keys.wholePrefix(prefix).utf8) {
                guard let key = client.keys.relative(upload.key) else { continue }
                uploads.append(OpenMultipart(key: key, upload: upload.upload, startedAt: upload.startedAt))
            }
            guard let next = page.next else { return uploads }
            guard next != marker else { throw garbage(operation, success) }
            marker = next
        }
    }
}
