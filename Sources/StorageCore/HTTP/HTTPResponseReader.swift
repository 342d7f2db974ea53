internal import CStorage
internal import Glibc

/// Puts a response together as its pieces arrive: headers bounded, the body of a success into its sink, that of anything
/// else into memory, since it says what is wrong.
struct HTTPResponseReader {
    static let maximumHeaderBytes = 256 << 10
    /// What is kept of the body of an error.
    static let maximumErrorBytes = 1 << 20

    let sink: HTTPSink
    /// What earlier tries have brought of a body that goes to a file.
    private let begun: HTTPReceipt.State
    /// What the body is to be of something larger.
    private let range: Range<Int>?
    private(set) var status = 0
    private(set) var headerBytes = 0
    private var headers: [HTTPHeader] = []
    private var body: [UInt8] = []
    /// Of this response.
    private var length = 0
    /// Where the body of a success goes when its sink is a file.
    private let fileBody: FileBody?
    private var hasEndedHeaders = false
    /// The body is of other bytes than those that were asked for, or the server does not say of which.
    private var isOtherRange = false
    private var isTooLong = false

    init(_ request: HTTPRequest) {
        self.init(request.sink, after: request.receipt?.current ?? .init(), range: request.range)
    }

    init(_ sink: HTTPSink, after begun: HTTPReceipt.State = .init(), range: Range<Int>? = nil) {
        self.sink = sink
        self.begun = begun
        self.range = range
        fileBody =
            switch sink {
            case .memory: nil
            case .file(let file, let offset, let expected):
                FileBody(file, offset: offset, expected: expected, after: begun)
            }
    }

    private var isSuccess: Bool { 200..<300 ~= status && !isOtherRange }

    /// `Content-Range` is looked at before a byte of the body counts: those of a try that breaks off are kept.
    private var hasOtherRange: Bool {
        guard status == 206, let range, case .file = sink else { return false }
        let missing = min(range.lowerBound + begun.length, range.upperBound)..<range.upperBound
        return headers.first { $0.name == "content-range" }.flatMap { ContentRange($0.value) }?.bytes != missing
    }

    /// One line of the head; false when there are too many of them.
    mutating func takeHeader(_ line: UnsafeRawBufferPointer) -> Bool {
        headerBytes += line.count
        guard headerBytes <= Self.maximumHeaderBytes else { return false }
        let text = line.prefix { $0 != 0x0D && $0 != 0x0A }
        if text.starts(with: "HTTP/".utf8) {
            // Another head: what came before was only on the way (100 Continue, a proxy's answer to CONNECT).
            headers = []
            hasEndedHeaders = false
            isOtherRange = false
            status = Self.status(text)
        } else if text.isEmpty {
            hasEndedHeaders = true
            isOtherRange = hasOtherRange
        } else if let colon = text.firstIndex(of: UInt8(ascii: ":")) {
            let name = text[..<colon].map { byte in
                (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
            }
            let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x09 }
            var value = text[(colon + 1)...].drop(while: isSpace)
            while let last = value.last, isSpace(last) { value.removeLast() }
            headers.append(
                HTTPHeader(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
        }
        return true
    }

    /// The three digits behind `HTTP/1.1 `.
    private static func status(_ line: Slice<UnsafeRawBufferPointer>) -> Int {
        let digits = line.drop { $0 != 0x20 }.dropFirst().prefix(3)
        guard digits.count == 3, digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return 0 }
        return digits.reduce(0) { 10 * $0 + Int($1 - 0x30) }
    }

    mutating func take(_ bytes: UnsafeRawBufferPointer, shown: String) throws(StorageError) {
        guard isSuccess else {
            body.append(contentsOf: bytes.prefix(max(0, Self.maximumErrorBytes - body.count)))
            length += bytes.count
            return
        }
        switch sink {
        case .memory(let limit):
            guard length + bytes.count <= limit else {
                throw StorageError(
                    .io, "\(quoted(shown)) is larger than \(limit) bytes", details: [("path", .string(shown))])
            }
            body.append(contentsOf: bytes)
            length += bytes.count
        case .file(_, _, let expected):
            guard length + bytes.count <= expected - begun.length else {
                isTooLong = true
                throw wrongLength(shown, "more than the \(expected - begun.length) bytes that were asked for")
            }
            try fileBody?.take(bytes)
            length += bytes.count
        }
    }

    /// Bytes that were lost on the way may come with the next try; a length that the server announced will not change, unless it
    /// is not that of an object: an error or a page that somebody on the way said 200 to has no ETag.
    private func wrongLength(_ shown: String, _ what: String) -> StorageError {
        let announced = headers.last { $0.name == "content-length" }.flatMap { Decimal.digits($0.value.utf8) }
        var details: [(key: String, value: JSONValue)] = [("path", .string(shown))]
        var isRetryable = true
        let isObject = headers.contains { $0.name == "etag" }
        if isObject, case .file(_, _, let expected) = sink, let announced, announced != expected - begun.length {
            details.append(("announced_bytes", JSONValue(announced)))
            isRetryable = false
        }
        return StorageError(
            .network, "\(quoted(shown)) answers with \(what)", details: details, isRetryable: isRetryable)
    }

    /// Whether the head has arrived, and as many bytes of the body as it announced.
    func isComplete(announced: Int) -> Bool { hasEndedHeaders && length >= max(0, announced) }

    func response(shown: String, method: String) throws(StorageError) -> HTTPResponse {
        guard isSuccess, case .file(_, _, let expected) = sink, let fileBody else {
            return HTTPResponse(status: status, headers: headers, body: body, bodyLength: length)
        }
        guard begun.length + length == expected else {
            throw wrongLength(shown, "\(length) of \(expected - begun.length) bytes that were asked for")
        }
        try fileBody.flush()
        return HTTPResponse(
            status: status, headers: headers, bodyLength: expected, bodyStart: begun.length,
            blockChecksums: fileBody.endBlocks())
    }

    /// What another try need not ask for, now that this one has failed; nil when it has changed nothing.
    func arrived() -> HTTPReceipt.State? {
        // Any other success is no part of what was asked for: an error page of something on the way, or the whole.
        guard status == 206, !isOtherRange, case .file(_, _, let expected) = sink, let fileBody, length > 0 else {
            return nil
        }
        // More than there should be: nobody knows what that was.
        if isTooLong || begun.length + length >= expected { return HTTPReceipt.State() }
        // What cannot be written has not arrived.
        do throws(StorageError) { try fileBody.flush() } catch {}
        var arrived = fileBody.received
        arrived.etag = arrived.etag ?? headers.first { $0.name == "etag" }?.value
        return arrived
    }
}
