/// One operation of S3's API, before it is addressed and signed: what is sent again at every try.
struct S3Operation: Sendable {
    /// As AWS calls it (`PutObject`): what a permission is named after.
    let name: String
    let method: String
    /// Whole; nil: the bucket.
    var key: String?
    var query: [(String, String)] = []
    var headers: [HTTPHeader] = []
    var body = HTTPBody.none
    var sink = HTTPSink.memory(limit: S3Operation.smallAnswer)
    /// The bytes of the object that are asked for; goes with `receipt`.
    var range: Range<Int>?
    /// What tries have brought of them.
    var receipt: HTTPReceipt?
    var answer = Answer.none
    /// Of the body, for those whose answer may attest it: another one is damage.
    var crc32c: UInt32?
    /// The store may be silent for long while it works: longer than the usual stall limit.
    var isSlow = false
    /// Tries before it is given up; nil: as the policy says.
    var attempts: Int?
    /// A repeated try may find the outcome of an earlier one: then 404 and 412 are not what they seem.
    var isUncertainAfterFailure: Bool { method != "GET" && method != "HEAD" }

    /// What the body of a successful answer is.
    enum Answer: Sendable, Equatable {
        /// Nothing; an `<Error>` in it is one.
        case none
        /// A document with that root.
        case document(String)
        /// Whatever comes: the caller looks up what it leaves open.
        case anything
        /// Content.
        case content
    }

    static let smallAnswer = 1 << 20
    /// A thousand keys of a kilobyte, each byte of them encoded, and what is said about them.
    static let pageAnswer = 16 << 20

    init(_ name: String, _ method: String, key: String?, query: [(String, String)] = []) {
        self.name = name
        self.method = method
        self.key = key
        self.query = query
    }

    func with(_ headers: [HTTPHeader]) -> S3Operation {
        var copy = self
        copy.headers += headers
        return copy
    }

    /// Headers of the next try that depend on what has arrived: what is missing, and of the version that has begun to come.
    var rangeHeaders: [HTTPHeader] {
        guard let range else { return [] }
        let arrived = receipt?.current ?? HTTPReceipt.State()
        var found = [HTTPHeader("Range", "bytes=\(range.lowerBound + arrived.length)-\(range.upperBound - 1)")]
        let isPinned = headers.contains { $0.name == "If-Match" }
        if arrived.length > 0, !isPinned, let etag = arrived.etag { found.append(HTTPHeader("If-Match", etag)) }
        return found
    }

    func answering(_ answer: Answer, limit: Int = smallAnswer) -> S3Operation {
        var copy = self
        copy.answer = answer
        copy.sink = .memory(limit: limit)
        return copy
    }
}

/// What became of an operation, after all tries.
enum S3Outcome: Sendable {
    case success(S3Success)
    case refusal(S3Refusal)

    /// The success, or the error of the refusal.
    func get() throws(StorageError) -> S3Success {
        switch self {
        case .success(let success): return success
        case .refusal(let refusal): throw refusal.error
        }
    }
}

struct S3Success: Sendable {
    var response: HTTPResponse
    /// Of the body, for operations that answer with one.
    var document = S3Document.empty
    /// Tries that it took.
    var attempts = 1
}

/// The store said no, and no further try would help.
struct S3Refusal: Sendable {
    var status: Int
    /// S3's code; empty when the answer had none.
    var code: String
    var error: StorageError
    /// An earlier try ended without an answer that says what it did.
    var followsUncertainty: Bool
    /// The answer had S3's form.
    var isDocument: Bool
    /// `Retry-After`.
    var askedPauseMilliseconds: Int64?
}
