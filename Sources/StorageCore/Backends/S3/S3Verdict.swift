/// What one answer means for an operation. Pure: answer in, verdict out.
enum S3Verdict: Sendable {
    case success(S3Document)
    case failure(S3Failure)

    /// `shown` says where the request went, for error texts.
    static func of(_ response: HTTPResponse, operation: S3Operation, shown: S3Shown) -> S3Verdict {
        let isSuccess = 200..<300 ~= response.status
        let document = isSuccess && operation.answer == .content ? .empty : S3Document(response.body)
        if isSuccess {
            guard let error = document.error else {
                // A page of a proxy, or a document that was cut off: nothing is done for all that we know.
                if !operation.answer.admits(document) || isNoObject(response, operation) {
                    return .failure(S3Failure.garbage(response, shown: shown))
                }
                if let sent = operation.crc32c,
                    let arrived = response["x-amz-checksum-crc32c"].flatMap(S3Checksum.decode), arrived != sent
                {
                    return .failure(S3Failure.otherBytes(response, shown: shown))
                }
                return .success(document)
            }
            // 200 was said before the outcome was known: the code is what counts, and one that we do not know is a
            // failure of the store.
            return .failure(S3Failure(response, error, status: 500, shown: shown))
        }
        return .failure(S3Failure(response, document.error, status: response.status, shown: shown))
    }

    /// Whether content comes without what every object has: an error or a page that somebody on the way said 200 to. Taken for
    /// a record it would be a damaged one, and a job that goes on from another checkpoint. Ranges of files are compared with
    /// their manifest.
    private static func isNoObject(_ response: HTTPResponse, _ operation: S3Operation) -> Bool {
        operation.answer == .content && operation.range == nil && response["etag"] == nil
    }
}

extension S3Operation.Answer {
    func admits(_ document: S3Document) -> Bool {
        switch self {
        case .none:
            if case .garbage = document { false } else { true }
        case .document(let root): document.result(root) != nil
        case .anything, .content: true
        }
    }
}

/// Where a request went, for error texts. Nothing in it is secret.
struct S3Shown: Sendable, Equatable {
    var operation: String
    /// `s3://bucket/prefix/key`
    var path: String
    /// Host and port.
    var endpoint: String
    /// Somebody's credentials went along.
    var isSigned = true
}

/// A failed try: the error that it would be, and what may help.
struct S3Failure: Sendable {
    var status: Int
    var code: String
    var error: StorageError
    var remedy: S3ErrorCode.Remedy
    /// For `otherRegion`.
    var region: String?
    /// For a redirect to another host.
    var location: String?
    /// `Retry-After`.
    var askedPauseMilliseconds: Int64?
    /// Seconds since 1970 by the store's clock.
    var date: Double?
    /// The answer had S3's form.
    var isDocument = false
    /// Why there was no answer, if it was for want of a connection.
    var connectFailure: ConnectFailure?

    /// `status` is that of the answer, or what a late error would have had.
    init(_ response: HTTPResponse, _ document: S3ErrorDocument?, status: Int, shown: S3Shown) {
        let said = document.map(\.code) ?? ""
        let meaning = S3ErrorCode.of(status: status, code: said.isEmpty ? nil : said)
        self.status = response.status
        code = said
        isDocument = document != nil
        remedy = meaning.remedy
        region = response["x-amz-bucket-region"] ?? document?.region
        location = response["location"]
        date = response["date"].flatMap(InstantText.seconds)
        askedPauseMilliseconds = response["retry-after"].flatMap { Decimal.digits($0.utf8) }
            .map { Int64(min($0, 3600)) * 1000 }
        let isRetryable = [.retry, .slowDown, .sendAgain].contains(remedy)
        let requestID = response["x-amz-request-id"] ?? document?.requestID
        var details: [(key: String, value: JSONValue)] = [
            ("operation", .string(shown.operation)), ("path", .string(shown.path)),
            ("endpoint", .string(shown.endpoint)), ("http_status", JSONValue(response.status)),
        ]
        if !said.isEmpty { details.append(("error_code", .string(Self.short(said)))) }
        if let requestID { details.append(("request_id", .string(Self.short(requestID)))) }
        if let hostID = response["x-amz-id-2"] ?? document?.hostID {
            details.append(("host_id", .string(Self.short(hostID))))
        }
        if let region, remedy == .otherRegion { details.append(("region", .string(Self.short(region)))) }
        let advice = shown.isSigned ? meaning.advice : meaning.adviceWithoutCredentials
        error = StorageError(
            meaning.code, Self.text(shown, response.status, said, document?.message, advice, requestID),
            details: details, isRetryable: isRetryable)
    }

    /// A try that ended without an answer.
    init(_ failure: StorageError, shown: S3Shown) {
        status = 0
        code = ""
        remedy = failure.isRetryable ? .retry : .none
        connectFailure = ConnectFailure(failure)
        var details: [(key: String, value: JSONValue)] = [
            ("operation", .string(shown.operation)), ("path", .string(shown.path)),
            ("endpoint", .string(shown.endpoint)),
        ]
        details += failure.details.filter { !["operation", "path", "endpoint"].contains($0.key) }
        error = StorageError(
            failure.code, "\(shown.operation) \(quoted(shown.path)): \(failure.message)", details: details,
            isRetryable: failure.isRetryable)
    }

    /// An answer that is none of S3's.
    static func garbage(_ response: HTTPResponse, shown: S3Shown) -> S3Failure {
        var failure = S3Failure(response, nil, status: 500, shown: shown)
        failure.remedy = .sendAgain
        failure.error.message =
            "\(shown.operation) \(quoted(shown.path)): \(shown.endpoint) answered \(response.status) with something that"
            + " is not S3's answer; a proxy, or another server than a store"
        return failure
    }

    /// An answer that attests other content than was sent.
    static func otherBytes(_ response: HTTPResponse, shown: S3Shown) -> S3Failure {
        var failure = S3Failure(response, nil, status: 500, shown: shown)
        failure.remedy = .sendAgain
        failure.error.code = .checksum
        failure.error.message =
            "\(shown.operation) \(quoted(shown.path)): the store's CRC-32C is not that of the bytes that were sent"
        return failure
    }

    private static func text(
        _ shown: S3Shown, _ status: Int, _ code: String, _ message: String?, _ advice: String?, _ requestID: String?
    ) -> String {
        var text = "\(shown.operation) \(quoted(shown.path)): \(code.isEmpty ? "HTTP" : short(code)) \(status)"
        if let message, !message.isEmpty { text += " (\(short(message)))" }
        if let advice { text += ". \(advice)" }
        if let requestID { text += " [request \(short(requestID))]" }
        return text
    }

    /// One line, not too long: what a server says may be anything.
    private static func short(_ text: String) -> String {
        let scalars = text.unicodeScalars.prefix(300).map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }
        var line = String(String.UnicodeScalarView(scalars))
        if text.unicodeScalars.count > 300 { line += "…" }
        return line
    }
}
