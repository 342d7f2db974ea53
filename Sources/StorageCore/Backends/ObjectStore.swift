/// The data plane of a store without directories and without rename: S3, GCS, and memory for tests.
///
/// Keys are relative to the prefix that the store was opened with, and plain text: encoding is the store's. Each call tries
/// again by itself what another try may mend, until no byte has moved for `retry_timeout_s`, and throws a typed error
/// (path, operation, HTTP status, request id, attempts) at once when none can. Cancelling `progress` ends it.
protocol ObjectStore: Sendable {
    /// The prefix as a URI without options, for error texts and documents: `s3://bucket/prefix`.
    var root: String { get }
    /// What shares one queue of requests: the endpoint; the bucket, unless the store says otherwise.
    var queueName: String { get }
    /// What whoever opened it wants of transfers.
    var wishes: TransferWishes { get }
    /// What is known so far; what only a try can tell is taken for granted until `probe` or a write finds out.
    var capabilities: ObjectStoreCapabilities { get }

    /// What has gone to and from it since it was opened.
    var counters: StoreCounters { get }

    /// The capabilities, after trying what cannot be known otherwise: whether conditional writes are honoured. Once per
    /// bucket and process, with a few small writes that are removed again; later calls cost nothing.
    func probe(progress: Progress) async throws(StorageError) -> ObjectStoreCapabilities

    /// A whole small object; nil when there is none. Larger than `limit`: an error.
    func get(_ key: String, limit: Int, progress: Progress) async throws(StorageError) -> StoredObject?

    /// Some bytes of an object, into a file at the same offsets plus `shift`; the CRC-32C of each block of the range. `size`
    /// is what the whole is known to have: CHECKSUM when it has another one. With `version`: of that version only,
    /// PRECONDITION otherwise. NOT_FOUND when it is gone.
    func get(
        _ key: String, range: Range<Int>, of size: Int?, version: String?, into file: OpenFile, shift: Int,
        progress: Progress
    ) async throws(StorageError) -> [UInt32]

    /// Size and version; nil when there is none.
    func head(_ key: String, progress: Progress) async throws(StorageError) -> ObjectSummary?

    /// The same, and the CRC-32C of the whole content where the store keeps one.
    func attested(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (summary: ObjectSummary, crc32c: UInt32?)?

    /// A whole object in one request. `crc32c` is of the content and is sent along for the store to check. A condition
    /// that the store does not honour is NOT_SUPPORTED, and nothing was written.
    func put(
        _ key: String, _ content: HTTPBody, crc32c: UInt32, condition: WriteCondition, progress: Progress
    ) async throws(StorageError) -> WriteOutcome

    /// Whether an upload in parts that is begun now announces the CRC-32C of its parts, as far as is known. Stores take
    /// parts and their end only as they were announced, so one that was begun otherwise cannot be gone on with.
    var announcesChecksums: Bool { get }

    /// Tells settings of encryption apart, and no secret; empty: none is asked for. Parts are taken only with the key that the
    /// upload was begun with, and a checkpoint is to be encrypted in one way.
    var encryption: String { get }

    /// Begins an upload in parts.
    func startMultipart(_ key: String, progress: Progress) async throws(StorageError) -> BegunMultipart

    /// Sends part `number` (from 1). The same number again replaces it.
    func putPart(
        _ key: String, upload: String, number: Int, _ content: HTTPBody, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) -> UploadedPart

    /// The parts that the store has; nil when it does not know the upload (any more).
    func listParts(_ key: String, upload: String, progress: Progress) async throws(StorageError) -> [UploadedPart]?

    /// Makes the object of its parts, in ascending order; `crc32c` is of the whole. The size is checked afterwards. An
    /// upload that the store no longer knows is a success when the object is there with that size and checksum.
    func completeMultipart(
        _ key: String, upload: String, parts: [UploadedPart], size: Int, crc32c: UInt32, progress: Progress
    ) async throws(StorageError)

    /// Gives up an upload; one that is not known is no error.
    func abortMultipart(_ key: String, upload: String, progress: Progress) async throws(StorageError)

    /// Uploads below a prefix that were neither completed nor aborted.
    func multiparts(_ prefix: String, progress: Progress) async throws(StorageError) -> [OpenMultipart]

    /// All objects below a prefix, sorted by key; with `delimited` only those directly below, and in `prefixes` (each
    /// ending in `/`) what stands for more.
    func list(
        _ prefix: String, delimited: Bool, progress: Progress
    ) async throws(StorageError) -> ObjectListing

    /// Removes objects, in as few requests as the store can; those that are not there are no error.
    func delete(_ keys: [String], progress: Progress) async throws(StorageError)

    /// What the store says of the present time, in seconds since 1970, when it is asked for what is below a prefix; nil:
    /// nothing. An object that was just written tells better how old others are.
    func time(_ prefix: String, progress: Progress) async throws(StorageError) -> Double?
}

extension ObjectStore {
    /// Of an object of any size.
    func get(
        _ key: String, range: Range<Int>, version: String?, into file: OpenFile, shift: Int, progress: Progress
    ) async throws(StorageError) -> [UInt32] {
        try await get(
            key, range: range, of: nil, version: version, into: file, shift: shift, progress: progress)
    }

    /// For stores that keep no checksums.
    func attested(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (summary: ObjectSummary, crc32c: UInt32?)? {
        try await head(key, progress: progress).map { ($0, nil) }
    }

    var queueName: String { bucketAddress }

    /// Of the whole bucket, as in `root`.
    var bucketAddress: String {
        let parts = root.utf8.split(separator: UInt8(ascii: "/"), maxSplits: 3, omittingEmptySubsequences: false)
        return parts.prefix(3).map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    }

    var wishes: TransferWishes { TransferWishes() }

    /// For stores that send nothing.
    var counters: StoreCounters { StoreCounters() }

    var announcesChecksums: Bool { capabilities.checksCRC32C }

    var encryption: String { "" }

    func time(_ prefix: String, progress: Progress) async throws(StorageError) -> Double? { nil }

    /// For stores of which everything is known.
    func probe(progress: Progress) async throws(StorageError) -> ObjectStoreCapabilities { capabilities }
}

/// How long whoever opens a store waits for it, in milliseconds.
struct StorePatience: Sendable, Equatable {
    /// Without a byte for so long a request has failed.
    var retryMilliseconds: Int64
    /// The same while no answer of any kind has come from the endpoint in this process: long enough for what passes by itself
    /// (a name server, a load balancer or a store that restarts), too short to take a wrong address for an outage.
    var firstAnswerMilliseconds: Int64 = 30_000

    /// Who reads results waits for them; a run's own time, an hour by default, is for trainings.
    static let reading = StorePatience(retryMilliseconds: 60_000, firstAnswerMilliseconds: 10_000)
    /// Somebody looks on: a store that does not answer is a finding.
    static let examining = StorePatience(retryMilliseconds: 10_000, firstAnswerMilliseconds: 5_000)
}

/// What whoever opened a store wants of transfers to and from it; nil: what is usual.
struct TransferWishes: Sendable, Equatable {
    /// Of files that go up in parts.
    var partBytes: Int?
    /// Requests at a time, of all transfers of the owner together.
    var concurrency: Int?
    /// What was opened once, whatever views there are of it; nil: each transfer is by itself.
    var owner: ObjectIdentifier?
    /// Of uploads.
    var bytesPerSecond: Int?
}

/// What a store does beyond the plain operations.
struct ObjectStoreCapabilities: Sendable, Equatable {
    /// `put` honours `.ifAbsent`.
    var createsConditionally: Bool
    /// `put` honours `.ifVersion`.
    var replacesConditionally: Bool
    /// The store compares the CRC-32C that is sent with what arrives.
    var checksCRC32C: Bool
    /// Parts but the last: at least and at most so many bytes, all of one size; and how many.
    var partBytes: ClosedRange<Int>
    var maximumParts: Int
    /// The largest object of one `put`.
    var maximumPutBytes: Int
}

/// What a store suffers from: a sign to send less at a time.
enum StoreTrouble: Sendable, Equatable {
    /// It asked to slow down.
    case throttled
    /// A connection could not be made, stalled or broke.
    case timedOut
}

/// When a write may happen.
enum WriteCondition: Sendable, Equatable {
    case always
    case ifAbsent
    case ifVersion(String)
}

/// What became of a write.
enum WriteOutcome: Sendable, Equatable {
    /// It is there, at this version: by this try or by an earlier one whose answer was lost.
    case stored(version: String)
    /// The condition did not hold; nothing was written.
    case refused
}

/// One part that the store has acknowledged.
struct UploadedPart: Sendable, Equatable {
    var number: Int
    /// Opaque.
    var etag: String
    var size: Int
    /// nil: the store did not say.
    var crc32c: UInt32?
}

/// An upload in parts that this process has begun.
struct BegunMultipart: Sendable, Equatable {
    /// The store's id of it.
    var upload: String
    /// Whether the CRC-32C of parts was announced.
    var announcesChecksums: Bool
}

/// An upload in parts that was begun.
struct OpenMultipart: Sendable, Equatable {
    var key: String
    var upload: String
    /// Seconds since 1970, by the store's clock.
    var startedAt: Double
}

/// What a listing says of one object.
struct ObjectSummary: Sendable, Equatable {
    var key: String
    var size: Int
    var version: String
    /// Seconds since 1970, by the store's clock.
    var modifiedAt: Double

    /// No store takes larger objects, 64 TiB: one that names them is broken, and nothing is reckoned from what it says.
    static let maximumSize = 64 << 40
}

/// A whole listing; pages are the store's business.
struct ObjectListing: Sendable, Equatable {
    var objects: [ObjectSummary] = []
    var prefixes: [String] = []
}
