import Glibc
import Synchronization

@testable import StorageCore

/// A transport that answers as a script says, and keeps what it was asked.
final class ScriptedTransport: HTTPTransport {
    /// The number of a request counts from 0.
    typealias Script = @Sendable (HTTPRequest, Int) throws(StorageError) -> HTTPResponse

    private let script: Script
    private let sent = Mutex<[HTTPRequest]>([])

    init(_ script: @escaping Script) { self.script = script }

    var requests: [HTTPRequest] { sent.withLock { $0 } }

    func send(
        _ request: HTTPRequest, timeouts: HTTPTimeouts, progress: Progress, onBytes: HTTPByteTally?
    ) async throws(StorageError) -> HTTPResponse {
        let number = sent.withLock { sent in
            sent.append(request)
            return sent.count - 1
        }
        var response = try script(request, number)
        onBytes?(request.body.length, .up)
        response.bodyLength = response.body.count
        guard 200..<300 ~= response.status, case .file = request.sink else {
            return response
        }
        return try Self.read(response, request)
    }

    /// As a real transport; an answer with `x-broken` breaks off behind its body.
    private static func read(_ response: HTTPResponse, _ request: HTTPRequest) throws(StorageError) -> HTTPResponse {
        var reader = HTTPResponseReader(request)
        var lines = ["HTTP/1.1 \(response.status) Some"] + response.headers.map { "\($0.name): \($0.value)" }
        let isBroken = response["x-broken"] != nil
        if !isBroken { lines.append("content-length: \(response.body.count)") }
        for line in lines + [""] { _ = Array(line.utf8).withUnsafeBytes { reader.takeHeader($0) } }
        do throws(StorageError) {
            let failure = response.body.withUnsafeBytes { bytes -> StorageError? in
                do throws(StorageError) { try reader.take(bytes, shown: "scripted") } catch { return error }
                return nil
            }
            if let failure { throw failure }
            if isBroken { throw StorageError.broken }
            return try reader.response(shown: "scripted", method: request.method)
        } catch {
            if let arrived = reader.arrived() { request.receipt?.current = arrived }
            throw error
        }
    }
}

extension HTTPResponse {
    init(_ status: Int, _ headers: [String: String] = [:], _ body: String = "") {
        self.init(
            status: status, headers: headers.map { HTTPHeader($0.key, $0.value) }.sorted { $0.name < $1.name },
            body: Array(body.utf8))
    }

    /// As S3 tells of an error.
    static func error(_ status: Int, _ code: String, _ headers: [String: String] = [:], more: String = "") -> Self {
        HTTPResponse(
            status, ["x-amz-request-id": "REQ1"].merging(headers) { $1 },
            "<?xml version=\"1.0\"?>\n<Error><Code>\(code)</Code><Message>no</Message>\(more)<HostId>HOST1</HostId></Error>"
        )
    }
}

extension HTTPRequest {
    /// The value of a header, nil when it is not there.
    subscript(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }
    /// `PUT /key?query`
    var line: String { "\(method) \(url.path)" + (url.query.isEmpty ? "" : "?\(url.query)") }
    var text: String { (try? body.readAll()).map { String(decoding: $0, as: UTF8.self) } ?? "" }
}

extension StorageError {
    static let broken = StorageError(.network, "connection reset", details: [("curl_code", 56)], isRetryable: true)
}

/// What was said, in order.
final class WarningList: Sendable {
    private let texts = Mutex<[String]>([])
    func add(_ text: String) { texts.withLock { $0.append(text) } }
    var all: [String] { texts.withLock { $0 } }
}

/// A store over a script: path style, plain http, pauses of no length.
struct ScriptedS3 {
    let transport: ScriptedTransport
    let store: S3Store
    let memory = S3BucketMemory()
    /// What people were told.
    let warnings = WarningList()

    init(
        _ options: [JSONMember] = [], bucket: String = "bucket", prefix: String = "p",
        endpoint: String? = "http://s3.test",
        credentials: any AWSCredentialsProvider = FixedCredentials(), retryTimeout: Int64 = 600_000,
        environment: Environment = .system, conditions: Bool? = true,
        onTrouble: (@Sendable (StoreTrouble) -> Void)? = nil, script: @escaping ScriptedTransport.Script
    ) throws {
        transport = ScriptedTransport(script)
        var members = options
        if let endpoint { members.append(JSONMember("endpoint_override", .string(endpoint))) }
        memory.learn { facts in
            facts.createsConditionally = conditions
            facts.replacesConditionally = conditions
        }
        store = try S3Store.open(
            bucket: bucket, prefix: prefix, options: S3Options(query: [], storageOptions: .object(members)),
            patience: StorePatience(retryMilliseconds: retryTimeout), firstPauseMilliseconds: 0, transport: transport,
            credentials: credentials, environment: environment, memory: memory,
            contact: S3Contact { [warnings] text, _ in warnings.add(text) }, onTrouble: onTrouble)
    }

    var lines: [String] { transport.requests.map(\.line) }
}
