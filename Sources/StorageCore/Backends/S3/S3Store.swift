/// Amazon S3, and what speaks its protocol.
///
/// Nothing is taken for done that the store has not said in so many words: every body is parsed, a 200 with an error in it is
/// an error, and what an answer leaves open is looked up.
final class S3Store: ObjectStore {
    let client: S3Client
    /// The directory below the prefix in which conditional writes are tried; empty: the prefix itself.
    let probesBelow: String

    /// Parts of multipart uploads, and the largest single PUT.
    static let partBytes = (5 << 20)...(5 << 30)
    static let maximumParts = 10_000

    init(_ client: S3Client, probesBelow: String = "") {
        self.client = client
        self.probesBelow = probesBelow
    }

    var root: String { client.keys.root }
    var options: S3Options { client.options }
    /// The buckets of an endpoint share what it can take.
    var queueName: String { client.server }

    var wishes: TransferWishes {
        TransferWishes(
            partBytes: options.partBytes, concurrency: options.maximumConcurrency,
            owner: ObjectIdentifier(client), bytesPerSecond: options.bandwidthBytesPerSecond)
    }

    var counters: StoreCounters { client.counters }

    var capabilities: ObjectStoreCapabilities {
        let facts = client.memory.current
        return ObjectStoreCapabilities(
            createsConditionally: facts.createsConditionally ?? true,
            replacesConditionally: facts.replacesConditionally ?? true,
            checksCRC32C: integrity.sendsCRC32C && facts.checksums == .verified,
            partBytes: Self.partBytes, maximumParts: Self.maximumParts, maximumPutBytes: Self.partBytes.upperBound)
    }

    /// What to send along with content, as far as it is known what the store takes.
    var integrity: S3Integrity {
        let facts = client.memory.current
        return S3Integrity(
            choice: client.options.checksum, support: facts.checksums, doubtfulRefusals: facts.doubtfulRefusals)
    }

    // MARK: - Reading

    func get(_ key: String, limit: Int, progress: Progress) async throws(StorageError) -> StoredObject? {
        var operation = S3Operation("GetObject", "GET", key: try client.keys.whole(key)).with(accessHeaders)
            .answering(.content, limit: limit)
        operation.headers.append(HTTPHeader("x-amz-checksum-mode", "ENABLED"))
        var damaged = 0
        while true {
            switch try await client.send(operation, progress: progress) {
            case .refusal(let refusal):
                if isAbsence(refusal) { return nil }
                throw refusal.error
            case .success(let success):
                let response = success.response
                guard response.status == 200 else { throw garbage(operation, success) }
                guard let stated = checksum(of: response), stated != CRC32C.of(response.body) else {
                    return StoredObject(bytes: response.body, version: response["etag"] ?? "")
                }
                // Damaged on the way or at rest: a second look tells.
                damaged += 1
                if damaged > 2 { throw mismatch(key, "came back with other bytes than its CRC-32C says") }
            }
        }
    }

    func get(
        _ key: String, range: Range<Int>, of size: Int?, version: String?, into file: OpenFile, shift: Int,
        progress: Progress
    ) async throws(StorageError) -> [UInt32] {
        if range.isEmpty {
            guard let summary = try await head(key, progress: progress) else { throw absent(key) }
            if let version, version != summary.version { throw changed(key) }
            if let size, size != summary.size { throw otherSize(key, summary.size, than: size) }
            return []
        }
        var operation = S3Operation("GetObject", "GET", key: try client.keys.whole(key)).with(accessHeaders)
        operation.answer = .content
        operation.sink = .file(file, offset: range.lowerBound + shift, length: range.count)
        operation.range = range
        let receipt = HTTPReceipt()
        operation.receipt = receipt
        if let version { operation.headers.append(HTTPHeader("If-Match", version)) }
        var replaced = 0
        while true {
            let outcome: S3Outcome
            do throws(StorageError) {
                outcome = try await client.send(operation, progress: progress)
            } catch {
                guard let announced = error.detailsDocument["announced_bytes"]?.intValue else { throw error }
                throw mismatch(
                    key, "has \(announced) bytes where \(range.count) from byte \(range.lowerBound) on should be")
            }
            switch outcome {
            case .refusal(let refusal):
                if isAbsence(refusal) { throw absent(key) }
                guard refusal.status == 412 else { throw refusal.error }
                // Replaced since a try broke off: nobody asked for that version, so the next one is as good, from its beginning.
                replaced += 1
                guard version == nil, receipt.current.length > 0, replaced <= Self.maximumReplaced else {
                    throw changed(key)
                }
                receipt.clear()
            case .success(let success):
                try check(success, operation, range, key, size)
                return success.response.blockChecksums
            }
        }
    }

    /// How often an object may be replaced while a range of it is read.
    private static let maximumReplaced = 3

    private func check(
        _ success: S3Success, _ operation: S3Operation, _ range: Range<Int>, _ key: String, _ size: Int?
    ) throws(StorageError) {
        let response = success.response
        let said = response["content-range"].flatMap { ContentRange($0) }
        let asked = min(range.lowerBound + response.bodyStart, range.upperBound)..<range.upperBound
        // A server that ignores the range has sent something else to those offsets, unless it is all there is. Some say 200
        // to a range that they keep to.
        let isWhole = response.status == 200 && asked.lowerBound == 0 && said == nil
        guard isWhole || said?.bytes == asked, response.bodyLength == range.count else {
            throw garbage(operation, success)
        }
        // What has grown is no longer what was listed or reported, even where its beginning is.
        if let size, let total = isWhole ? range.count : said?.total, total != size {
            throw otherSize(key, total, than: size)
        }
    }

    private func otherSize(_ key: String, _ size: Int, than expected: Int) -> StorageError {
        mismatch(key, "has \(size) bytes where \(expected) should be")
    }

    func head(_ key: String, progress: Progress) async throws(StorageError) -> ObjectSummary? {
        try await attested(key, progress: progress)?.summary
    }

    /// Size and version, and the CRC-32C of the whole if the store keeps one; nil when there is no object.
    func attested(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (summary: ObjectSummary, crc32c: UInt32?)? {
        var operation = S3Operation("HeadObject", "HEAD", key: try client.keys.whole(key)).with(accessHeaders)
        operation.headers.append(HTTPHeader("x-amz-checksum-mode", "ENABLED"))
        switch try await client.send(operation, progress: progress) {
        case .refusal(let refusal):
            if refusal.status == 404 { return nil }
            throw refusal.error
        case .success(let success):
            let response = success.response
            guard let length = response["content-length"] else { throw garbage(operation, success) }
            guard let size = S3Size.parse(length) else { throw wrongSize(key, length) }
            let modified = response["last-modified"].flatMap(InstantText.seconds) ?? 0
            let summary = ObjectSummary(
                key: key, size: size, version: response["etag"] ?? "", modifiedAt: modified)
            return (summary, checksum(of: response))
        }
    }

    // MARK: - What answers mean

    /// The CRC-32C of the whole object, if the answer has one: a composite one is of the parts' values.
    private func checksum(of response: HTTPResponse) -> UInt32? {
        switch response["x-amz-checksum-type"] {
        case "FULL_OBJECT": break
        // The ETag of an object that came in parts ends with their number.
        case nil where response["etag"]?.utf8.contains(UInt8(ascii: "-")) != true: break
        default: return nil
        }
        return response["x-amz-checksum-crc32c"].flatMap(S3Checksum.decode)
    }

    /// Absent, said in S3's words: another server's 404 says nothing about the object.
    private func isAbsence(_ refusal: S3Refusal) -> Bool {
        refusal.status == 404 && ["NoSuchKey", "NotFound", "NoSuchVersion"].contains(refusal.code)
    }

    var accessHeaders: [HTTPHeader] { client.options.encryption?.accessHeaders ?? [] }

    func error(_ code: StorageError.Code, _ key: String, _ what: String, isRetryable: Bool = false) -> StorageError {
        let path = client.keys.uri(key)
        return StorageError(
            code, "\(quoted(path)) \(what)",
            details: [("path", .string(path)), ("endpoint", .string(client.endpoint.url(key: nil).authority))],
            isRetryable: isRetryable)
    }

    func absent(_ key: String) -> StorageError { error(.notFound, key, "does not exist (any more)") }

    func changed(_ key: String) -> StorageError {
        error(.precondition, key, "is no longer the version that was asked for")
    }

    /// Nothing is fetched, allocated or added up by such a number.
    func wrongSize(_ key: String, _ text: String) -> StorageError {
        let text = String(text.unicodeScalars.prefix(32))
        var wrong = error(
            .network, key,
            "has a size that no object has, says the store: \(quoted(text)) bytes of at most \(ObjectSummary.maximumSize)"
        )
        wrong.details += [("value", .string(text)), ("allowed", JSONValue(ObjectSummary.maximumSize))]
        return wrong
    }

    func mismatch(_ key: String, _ what: String) -> StorageError { error(.checksum, key, what) }

    /// An answer of success that is none of S3's.
    func garbage(_ operation: S3Operation, _ success: S3Success) -> StorageError {
        S3Failure.garbage(success.response, shown: client.shown(operation, client.endpoint)).error
    }
}
