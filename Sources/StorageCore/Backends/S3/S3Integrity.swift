/// What a store is given to compare with the bytes that arrive. Pure.
///
/// CRC-32C in a plain header first. Where the store takes it and says nothing (S3-compatible ones of before 2022), small
/// objects carry Content-MD5 too, which all of them check; large ones rely on their size and on the checksums of the manifest.
struct S3Integrity: Sendable, Equatable {
    let choice: S3Options.Checksum
    let support: S3BucketMemory.ChecksumSupport
    /// See `S3BucketMemory.Facts.doubtfulRefusals`.
    var doubtfulRefusals = 0

    /// MD5 takes longer than the network for more than this.
    static let largestMD5 = 8 << 20

    var sendsCRC32C: Bool {
        switch choice {
        case .auto: support != .refused
        case .crc32c: true
        case .md5, .none: false
        }
    }

    func sendsMD5(bytes: Int) -> Bool {
        switch choice {
        case .md5: true
        case .auto: (support == .ignored || support == .refused) && bytes <= Self.largestMD5
        case .crc32c, .none: false
        }
    }

    /// Whether a refusal may be about the checksum, so that the request is worth sending without.
    func isAboutChecksums(_ refusal: S3Refusal) -> Bool {
        guard choice == .auto, support == .unknown else { return false }
        if refusal.status == 501 || refusal.code == "NotImplemented" { return true }
        let codes = ["InvalidRequest", "InvalidArgument", "InvalidDigest", "BadRequest", "UnsupportedHeader"]
        return refusal.status == 400 && (codes.contains(refusal.code) || refusal.code.isEmpty)
    }

    /// The same for a store that refuses the checksum's header.
    var refused: S3Integrity { S3Integrity(choice: choice, support: .refused) }

    /// What to say of a request that was refused, and did not work without its checksum either: the store's first word,
    /// unless there is none to the second one.
    static func error(_ refusal: S3Refusal, without second: StorageError) -> StorageError {
        let isAnswer = ![.cancelled, .closed, .network, .timeout].contains(second.code) && !second.isRetryable
        return isAnswer ? refusal.error : second
    }

    /// Headers for content in one request.
    func headers(_ body: HTTPBody, crc32c: UInt32) throws(StorageError) -> [HTTPHeader] {
        var headers: [HTTPHeader] = []
        if sendsCRC32C { headers.append(HTTPHeader("x-amz-checksum-crc32c", S3Checksum.encode(crc32c))) }
        if sendsMD5(bytes: body.length) {
            headers.append(HTTPHeader("Content-MD5", Base64.encode(try body.digest(.md5))))
        }
        return headers
    }

    /// Headers that announce the checksums of an upload in parts.
    var multipartHeaders: [HTTPHeader] {
        guard sendsCRC32C else { return [] }
        return [
            HTTPHeader("x-amz-checksum-algorithm", "CRC32C"), HTTPHeader("x-amz-checksum-type", "FULL_OBJECT"),
        ]
    }
}
