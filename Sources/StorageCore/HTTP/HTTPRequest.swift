internal import CStorage
internal import Glibc

/// One HTTP request: a value that can be signed, logged without its secrets, and sent again.
struct HTTPRequest: Sendable {
    /// Upper case: `GET`, `PUT` …
    var method: String
    var url: HTTPURL
    /// In the order in which they are sent. `Host` and `Content-Length` are the transport's.
    var headers: [HTTPHeader] = []
    var body: HTTPBody = .none
    /// The most of its body that is sent in a second, in bytes; nil: as fast as it goes.
    var sendLimit: Int?
    /// Where a response's body goes when its status is 2xx; of any other status it is always kept in memory.
    var sink: HTTPSink = .memory(limit: 1 << 20)
    /// For a sink that is a file: the bytes that its body is of what the URL names. Of an answer with others none counts.
    var range: Range<Int>?
    /// For a sink that is a file: what earlier tries have brought of its body, of which this request asks for the rest, and
    /// where it is kept what this one brings when it breaks off. nil: all of it is asked for.
    var receipt: HTTPReceipt?
    /// Whether a try must not use a connection that was used before: what a repeated try asks for, with fresh DNS.
    var usesFreshConnection = false
    /// Whether the request goes straight to its host whatever proxy is set: metadata services answer nobody else.
    var bypassesProxy = false

    init(_ method: String, _ url: HTTPURL, headers: [HTTPHeader] = [], body: HTTPBody = .none) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
    }
}

/// A header's name (any case) and value (no line breaks).
struct HTTPHeader: Sendable, Equatable {
    var name: String
    var value: String

    init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// An absolute URL in parts. Path and query are as they go over the wire: encoded once, never normalised.
struct HTTPURL: Sendable, Equatable {
    /// `http` or `https`.
    var scheme: String
    /// A name or an address; IPv6 in brackets.
    var host: String
    /// nil: the scheme's own.
    var port: Int?
    /// Begins with `/`.
    var path: String
    /// Without the `?`; empty: none.
    var query = ""

    /// `host` or `host:port`, as in the `Host` header.
    var authority: String { port.map { "\(host):\($0)" } ?? host }
    /// Without the query, which may hold a signature: for errors and logs.
    var shown: String { "\(scheme)://\(authority)\(path)" }
}

/// What a request sends. It stays where it is until the socket takes it.
enum HTTPBody: Sendable {
    case none
    case bytes([UInt8])
    /// A part of a file that does not change meanwhile: read straight into the socket's buffer.
    case file(OpenFile, offset: Int, length: Int)

    var length: Int {
        switch self {
        case .none: 0
        case .bytes(let bytes): bytes.count
        case .file(_, _, let length): length
        }
    }
}

/// Where a response's body goes.
enum HTTPSink: Sendable {
    /// Into memory; a longer one is an error.
    case memory(limit: Int)
    /// Into a file from an offset on, by `pwrite`, while its CRC-32C is taken; more or fewer bytes are an error.
    case file(OpenFile, offset: Int, length: Int)
}

/// What came back, whatever its status.
struct HTTPResponse: Sendable {
    var status: Int
    /// Names in lower case, in the order of arrival.
    var headers: [HTTPHeader]
    /// Empty when the body went to a file.
    var body: [UInt8] = []
    /// Bytes of the body that arrived, those of earlier tries included.
    var bodyLength = 0
    /// Those that earlier tries had brought (`HTTPRequest.receipt`).
    var bodyStart = 0
    /// Of a body that went to a file: CRC-32C of each block of `CRC32C.blockSize` bytes of it, the last one shorter.
    var blockChecksums: [UInt32] = []

    /// The first header of that name (lower case).
    subscript(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// How long a request may take, in milliseconds.
struct HTTPTimeouts: Sendable, Equatable {
    /// Until the connection stands, TLS included.
    var connect: Int64 = 10_000
    /// Without a byte in either direction; never a limit on the whole of a large part.
    var stall: Int64 = 30_000
    /// For the whole of a small request (credentials, metadata services); nil: none.
    var total: Int64?
}

/// Is told of bytes of a body as they move.
typealias HTTPByteTally = @Sendable (_ count: Int, _ way: HTTPWay) -> Void

enum HTTPWay: Sendable { case up, down }

/// Sends requests. One try each: retries, signatures and redirects are the caller's.
///
/// A response of any status is returned. Thrown are: NETWORK (details: `path`, `operation`, `curl_code`; retryable unless
/// it cannot mend by itself, as a certificate that is not trusted), TIMEOUT as NETWORK, CANCELLED at once when
/// `progress` is cancelled, IO when a sink's file cannot be written.
protocol HTTPTransport: Sendable {
    /// `onBytes` is told of bytes of the body, sent or received, as they move; on a thread of the transport.
    func send(
        _ request: HTTPRequest, timeouts: HTTPTimeouts, progress: Progress, onBytes: HTTPByteTally?
    ) async throws(StorageError) -> HTTPResponse
}

extension HTTPBody {
    /// All of it, in memory: for small bodies. A file that is shorter than it was is an error.
    func readAll() throws(StorageError) -> [UInt8] {
        switch self {
        case .none: return []
        case .bytes(let bytes): return bytes
        case .file(let file, let offset, let length):
            var bytes = [UInt8](repeating: 0, count: length)
            var done = 0
            while done < length {
                let count = try System.check("pread", file.path) {
                    bytes.withUnsafeMutableBytes { buffer in
                        cs_pread(
                            file.descriptor, buffer.baseAddress.map { $0 + done }, length - done,
                            off_t(offset + done))
                    }
                }
                if count == 0 {
                    throw StorageError(
                        .io, "\(quoted(file.path)) ends at byte \(offset + done); it became shorter while it was read",
                        details: [("path", .string(file.path))])
                }
                done += count
            }
            return bytes
        }
    }
}
