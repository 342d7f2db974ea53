internal import CStorage
internal import Glibc

/// One request on its way. Made by who asks, then only touched by the thread of its loop.
final class CurlTransfer: @unchecked Sendable {
    // Proof for @unchecked: handed over to one loop's thread under that loop's lock; the asker keeps nothing of it.
    private let request: HTTPRequest
    private let timeouts: HTTPTimeouts
    private let tls: TLSOptions
    private let proxies: ProxyOptions
    private let progress: Progress
    private let onBytes: HTTPByteTally?
    private var continuation: CheckedContinuation<Result<HTTPResponse, StorageError>, Never>?

    private var handle: UnsafeMutableRawPointer?
    private var bodyOffset = 0
    private var reader: HTTPResponseReader
    /// What a callback found wrong; curl then only says that it was stopped.
    private var failure: StorageError?
    private var movedAt: Int64 = 0
    private var moved: Int64 = 0

    init(
        _ request: HTTPRequest, timeouts: HTTPTimeouts, tls: TLSOptions, proxies: ProxyOptions, progress: Progress,
        onBytes: HTTPByteTally?,
        continuation: CheckedContinuation<Result<HTTPResponse, StorageError>, Never>
    ) {
        self.request = request
        self.timeouts = timeouts
        self.tls = tls
        self.proxies = proxies
        self.progress = progress
        self.onBytes = onBytes
        self.continuation = continuation
        reader = HTTPResponseReader(request)
    }

    deinit { cs_curl_transfer_free(handle) }

    private func answer(_ result: Result<HTTPResponse, StorageError>) {
        let waiting = continuation.take()
        // Connections outlive it; files and buffers must not.
        cs_curl_transfer_free(handle)
        handle = nil
        waiting?.resume(returning: result)
    }

    // MARK: - For the loop

    func isSame(as context: UnsafeMutableRawPointer?) -> Bool {
        context == Unmanaged.passUnretained(self).toOpaque()
    }

    /// False: it could not even be started, and its asker knows.
    func begin(on multi: UnsafeMutableRawPointer) -> Bool {
        movedAt = cs_monotonic_ns()
        handle = makeHandle()
        guard let handle, cs_curl_multi_add(multi, handle) == 0 else {
            fail(
                failure
                    ?? error("cannot be started: a URL that cannot be, or no memory", code: nil, isRetryable: false))
            return false
        }
        return true
    }

    func leave(_ multi: UnsafeMutableRawPointer) {
        if let handle { cs_curl_multi_remove(multi, handle) }
    }

    func fail(_ error: StorageError) {
        if let receipt = request.receipt, let arrived = reader.arrived() { receipt.current = arrived }
        answer(.failure(error))
    }

    /// The library is being shut down, or has no thread to give.
    func refuse(isStopping: Bool) {
        fail(
            isStopping
                ? StorageError(
                    .closed, "the library is being shut down", details: [("path", .string(request.url.shown))])
                : error("cannot be sent: the system gives no more threads or files", code: nil, isRetryable: true))
    }

    /// What ends it before curl does: the caller's wish, or silence for too long.
    func problem(_ now: Int64) -> StorageError? {
        if progress.isCancelled { return StorageError(.cancelled, "cancelled by the caller") }
        guard let handle else { return nil }
        var state = cs_curl_state()
        cs_curl_transfer_state(handle, &state)
        let total = state.sent &+ state.received &+ Int64(reader.headerBytes)
        if total != moved {
            moved = total
            movedAt = now
            return nil
        }
        guard now - movedAt >= timeouts.stall * 1_000_000 else { return nil }
        return error(
            "has moved no byte for \(timeouts.stall) ms, after \(state.sent) bytes up and \(state.received) bytes down",
            code: 28, isRetryable: true)
    }

    /// curl has ended it.
    func finish(_ code: Int32) {
        guard let handle else { return }
        var state = cs_curl_state()
        cs_curl_transfer_state(handle, &state)
        if let failure { return fail(failure) }
        // A server that refuses early may close before it has read what we send: its word counts, not the reset.
        let isRefused = reader.isComplete(announced: Int(state.announced)) && reader.status >= 400
        guard code == 0 || isRefused else {
            let said = String(cString: cs_curl_transfer_error(handle, code))
            let words = ProxyURL.withoutUser(said, proxy: proxies.proxy(scheme: request.url.scheme))
            var error = error(
                "\(CurlCode.phase(code)): \(words) (\(state.sent) bytes up, \(state.received) bytes down)",
                code: code, isRetryable: CurlCode.isRetryable(code) && !ProxyURL.isAboutURL(said))
            if reader.status == 0, let cause = ConnectFailure(curlCode: code, said: said) {
                error.details.append((ConnectFailure.detail, .string(cause.rawValue)))
            }
            return fail(error)
        }
        do throws(StorageError) {
            answer(.success(try reader.response(shown: request.url.shown, method: request.method)))
        } catch {
            fail(error)
        }
    }

    private func error(_ what: String, code: Int32?, isRetryable: Bool) -> StorageError {
        var details: [(key: String, value: JSONValue)] = [
            ("path", .string(request.url.shown)), ("operation", .string(request.method)),
        ]
        if let code { details.append(("curl_code", JSONValue(Int(code)))) }
        return StorageError(
            .network, "\(request.method) \(request.url.shown) \(what)", details: details, isRetryable: isRetryable)
    }

    // MARK: - For curl

    private func makeHandle() -> UnsafeMutableRawPointer? {
        let lines = request.headers.map { header -> [CChar] in
            // A value with a line break would be a header of its own; an empty one is written with a semicolon.
            let isBreak = { (byte: UInt8) in byte == 0x0A || byte == 0x0D || byte == 0 }
            let hasBreak = header.value.utf8.contains(where: isBreak)
            let value =
                hasBreak ? String(decoding: header.value.utf8.filter { !isBreak($0) }, as: UTF8.self) : header.value
            return Array((value.isEmpty ? header.name + ";" : header.name + ": " + value).utf8CString)
        }
        var native = cs_curl_request()
        native.context = Unmanaged.passUnretained(self).toOpaque()
        native.read = { CurlTransfer.of($3)?.read($0, $1 &* $2) ?? cs_curl_read_abort() }
        native.seek = { CurlTransfer.of($0)?.seek($1, $2) ?? 1 }
        native.write = { CurlTransfer.of($3)?.write($0, $1 &* $2) ?? 0 }
        native.header = { CurlTransfer.of($3)?.header($0, $1 &* $2) ?? 0 }
        native.body_length = Int64(request.body.length)
        native.expected_length =
            switch request.sink {
            case .memory(let limit): Int64(min(limit, 64 << 10))
            case .file(_, _, let length): Int64(length)
            }
        native.connect_timeout_ms = Int(timeouts.connect)
        native.total_timeout_ms = Int(timeouts.total ?? 0)
        native.send_limit = Int64(request.sendLimit ?? 0)
        native.fresh_connection = request.usesFreshConnection ? 1 : 0
        native.bypass_proxy = request.bypassesProxy ? 1 : 0
        native.verify = tls.verifies ? 1 : 0
        let text = request.url.shown + (request.url.query.isEmpty ? "" : "?" + request.url.query)
        let strings = [
            text, request.method, proxies.proxy(scheme: request.url.scheme), proxies.exceptions, tls.caFile ?? "",
            tls.caDirectory ?? "",
        ].map { Array($0.utf8CString) }
        return Self.withPointers(lines) { headers in
            Self.withPointers(strings) { strings in
                native.headers = headers.baseAddress
                native.header_count = headers.count
                native.url = strings[0]
                native.method = strings[1]
                native.proxy = strings[2]
                native.proxy_exceptions = strings[3]
                native.ca_file = tls.caFile == nil ? nil : strings[4]
                native.ca_directory = tls.caDirectory == nil ? nil : strings[5]
                return cs_curl_transfer_new(&native)
            }
        }
    }

    private static func withPointers<Value>(
        _ lines: [[CChar]], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) -> Value
    ) -> Value {
        var pointers: [UnsafePointer<CChar>?] = []
        func next(_ index: Int) -> Value {
            guard index < lines.count else { return pointers.withUnsafeBufferPointer(body) }
            return lines[index].withUnsafeBufferPointer { line in
                pointers.append(line.baseAddress)
                return next(index + 1)
            }
        }
        return next(0)
    }

    /// curl calls with what it was given, on the loop's thread, while the loop holds the transfer.
    private static func of(_ context: UnsafeMutableRawPointer?) -> CurlTransfer? {
        context.map { Unmanaged<CurlTransfer>.fromOpaque($0).takeUnretainedValue() }
    }

    private func read(_ buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int) -> Int {
        guard let buffer else { return cs_curl_read_abort() }
        let count = min(capacity, request.body.length - bodyOffset)
        guard count > 0 else {
            if request.body.length == 0 { return 0 }
            // It stops when it has sent as much as was announced. It has begun anew on another connection then, and not
            // rewound: without this it would wait for an answer to half a request.
            failure = error("was begun anew without its body", code: nil, isRetryable: true)
            return cs_curl_read_abort()
        }
        switch request.body {
        case .none: return 0
        case .bytes(let bytes):
            bytes.withUnsafeBytes { source in
                if let base = source.baseAddress { memcpy(buffer, base + bodyOffset, count) }
            }
            bodyOffset += count
            onBytes?(count, .up)
            return count
        case .file(let file, let offset, _):
            do throws(StorageError) {
                let start = off_t(offset + bodyOffset)
                let done = try System.check("read", file.path) { cs_pread(file.descriptor, buffer, count, start) }
                if done == 0 {
                    failure = StorageError(
                        .io, "\(quoted(file.path)) became shorter while it was sent",
                        details: [("path", .string(file.path))])
                    return cs_curl_read_abort()
                }
                bodyOffset += done
                onBytes?(done, .up)
                return done
            } catch {
                failure = error
                return cs_curl_read_abort()
            }
        }
    }

    private func seek(_ offset: Int64, _ origin: Int32) -> Int32 {
        guard origin == SEEK_SET, offset >= 0, offset <= Int64(request.body.length) else { return 1 }
        bodyOffset = Int(offset)
        return 0
    }

    private func write(_ buffer: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        let bytes = UnsafeRawBufferPointer(start: buffer, count: count)
        do throws(StorageError) {
            try reader.take(bytes, shown: request.url.shown)
            onBytes?(count, .down)
            return count
        } catch {
            failure = error
            // Fewer than were given: curl ends the transfer.
            return 0
        }
    }

    private func header(_ buffer: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        let line = UnsafeRawBufferPointer(start: buffer, count: count)
        guard reader.takeHeader(line) else {
            failure = error(
                "answers with more than \(HTTPResponseReader.maximumHeaderBytes) bytes of headers", code: nil,
                isRetryable: false)
            return 0
        }
        return count
    }
}
