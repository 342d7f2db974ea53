/// Requests to the services that give credentials: small, bounded, tried a few times. Nothing that they answer goes into an
/// error but its code and message.
struct AuthExchange: Sendable {
    let context: AuthContext
    /// What is asked, for errors: `STS AssumeRole`.
    let name: String
    var timeouts = HTTPTimeouts(connect: 5_000, stall: 10_000, total: 20_000)
    var tries = 3
    /// What must not appear in an error, whatever the server answers.
    var secrets: [String] = []

    static let maximumBody = 256 * 1024

    init(_ context: AuthContext, _ name: String) {
        self.context = context
        self.name = name
    }

    /// The answer whatever its status; what another try may mend is tried again. `make` is called for every try.
    func send(
        progress: Progress, _ make: () throws(StorageError) -> HTTPRequest
    ) async throws(StorageError) -> HTTPResponse {
        var attempt = 1
        while true {
            var request = try make()
            request.sink = .memory(limit: Self.maximumBody)
            request.usesFreshConnection = attempt > 1
            var problem: StorageError?
            do throws(StorageError) {
                let response = try await context.transport.send(
                    request, timeouts: timeouts, progress: progress, onBytes: nil)
                guard Self.mayPass(response.status), attempt < tries else { return response }
            } catch {
                try progress.checkCancelled()
                problem = error
            }
            if var problem, !problem.isRetryable || attempt >= tries {
                if attempt > 1 { problem.details.append(("attempts", JSONValue(attempt))) }
                throw problem.while_("\(name) at \(request.url.shown)")
            }
            let pause = min(1_000, 100 << min(attempt - 1, 8))
            try await context.pause(Int64(Double(pause) * context.random), progress)
            attempt += 1
        }
    }

    private static func mayPass(_ status: Int) -> Bool { [429, 500, 502, 503, 504].contains(status) }

    /// What a refusal says, in one line.
    func refusal(
        _ response: HTTPResponse, from url: HTTPURL, code: String? = nil, message: String? = nil, advice: String = ""
    ) -> StorageError {
        var text = "\(name) at \(url.shown) answered \(response.status)"
        if let code { text += " \(shown(code))" }
        if let message { text += ": \(shown(message))" }
        if !advice.isEmpty { text += "; \(advice)" }
        var details: [(key: String, value: JSONValue)] = [
            ("operation", .string(name)), ("http_status", JSONValue(response.status)),
        ]
        if let code { details.append(("error_code", .string(shown(code)))) }
        if let id = response["x-amzn-requestid"] ?? response["x-amz-request-id"] {
            details.append(("request_id", .string(shown(id))))
        }
        return StorageError(.unauthenticated, text, details: details, isRetryable: Self.mayPass(response.status))
    }

    /// An answer that is not what it should be.
    func garbage(_ url: HTTPURL, _ missing: String) -> StorageError {
        StorageError(
            .unauthenticated, "\(name) at \(url.shown) answered without \(missing)",
            details: [("operation", .string(name))], isRetryable: true)
    }

    /// Bounded, on one line, without what was sent.
    func shown(_ text: String) -> String {
        if secrets.contains(where: { !$0.isEmpty && text.contains($0) }) { return "(left out: it repeats a secret)" }
        let line = text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : Character($0) }
        return String(line.prefix(500))
    }
}

extension AWSCredentials {
    /// Of a JSON document with these keys; nil and what is missing otherwise.
    static func read(
        _ document: JSONValue, token: String = "Token", missing: inout String
    ) -> AWSCredentials? {
        guard let id = document["AccessKeyId"]?.stringValue, !id.isEmpty else {
            missing = "AccessKeyId"
            return nil
        }
        guard let secret = document["SecretAccessKey"]?.stringValue, !secret.isEmpty else {
            missing = "SecretAccessKey"
            return nil
        }
        var credentials = AWSCredentials(accessKeyID: id, secretAccessKey: secret)
        credentials.sessionToken = document[token]?.stringValue.flatMap { $0.isEmpty ? nil : $0 }
        if let text = document["Expiration"]?.stringValue {
            guard let time = UTCTime.parse(iso8601: text) else {
                missing = "a time as Expiration"
                return nil
            }
            credentials.expiresAt = time
        }
        guard credentials.isSendable else {
            missing = "keys that fit into a header"
            return nil
        }
        return credentials
    }

    /// Whether keys and token can go into headers: no control characters, no blanks, nothing beyond ASCII.
    var isSendable: Bool {
        [accessKeyID, secretAccessKey, sessionToken ?? ""].allSatisfy {
            $0.utf8.allSatisfy { (0x21...0x7E).contains($0) }
        }
    }
}
