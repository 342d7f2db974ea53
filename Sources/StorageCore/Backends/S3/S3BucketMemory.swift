internal import Synchronization

/// What was found out about one bucket, so that it is found out once per process.
final class S3BucketMemory: Sendable {
    /// How far the store knows CRC-32C in headers.
    enum ChecksumSupport: Sendable {
        case unknown
        /// It gave the value back, so it has compared.
        case verified
        /// It took the header and said nothing.
        case ignored
        /// It refused the request for it.
        case refused
    }
    struct Facts: Sendable {
        /// Where the bucket said that it is.
        var region: String?
        var checksums = ChecksumSupport.unknown
        /// Refusals that had not S3's form, of requests that went through without their checksum, one after another. A proxy may
        /// have said the first.
        var doubtfulRefusals = 0
        var createsConditionally: Bool?
        var replacesConditionally: Bool?
        var deletesInBatches = true
        /// Keys of open uploads come encoded when asked for, and say so.
        var encodesUploads = true
    }

    private let facts = Mutex(Facts())
    /// One probe at a time.
    let probing = Turn()

    var current: Facts { facts.withLock { $0 } }

    /// A request that was refused has gone through without its checksum.
    func learn(from refusal: S3Refusal, of integrity: S3Integrity) {
        learn { facts in
            guard facts.checksums == .unknown else { return }
            // Those that ran side by side count once.
            facts.doubtfulRefusals = max(facts.doubtfulRefusals, integrity.doubtfulRefusals + 1)
            if refusal.isDocument || facts.doubtfulRefusals >= 2 { facts.checksums = .refused }
        }
    }

    func learn(_ change: (inout Facts) -> Void) { facts.withLock { change(&$0) } }

    /// The memory of a bucket in this process; a forked child begins anew.
    static func shared(_ endpoint: S3Endpoint) -> S3BucketMemory {
        let bucket = "\(endpoint.server)\(endpoint.basePath)/\(endpoint.bucket)"
        return Engine.shared.only(S3BucketMemory.self, of: bucket) { S3BucketMemory() }
    }
}
