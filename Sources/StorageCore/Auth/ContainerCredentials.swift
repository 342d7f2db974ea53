/// The endpoint that ECS, EKS Pod Identity and others put beside a container.
struct ContainerCredentials: AWSCredentialsProvider {
    let name = "container endpoint"
    let context: AuthContext

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        guard let url = try url() else { return nil }
        var exchange = AuthExchange(context, "the container's credentials endpoint")
        exchange.timeouts = HTTPTimeouts(connect: 2_000, stall: 2_000, total: 5_000)
        var headers = [HTTPHeader("Accept", "application/json")]
        if let token = try token() {
            headers.append(HTTPHeader("Authorization", token))
            exchange.secrets = [token]
        }
        var request = HTTPRequest("GET", url, headers: headers)
        request.bypassesProxy = true
        let made = request
        let response = try await exchange.send(progress: progress) { () throws(StorageError) in made }
        let document = try? JSONParser.parse(response.body)
        guard response.status == 200 else {
            throw exchange.refusal(
                response, from: url, code: (document?["code"] ?? document?["Code"])?.stringValue,
                message: (document?["message"] ?? document?["Message"])?.stringValue)
        }
        var missing = "a JSON object"
        guard let document, document.objectValue != nil,
            let credentials = AWSCredentials.read(document, missing: &missing)
        else { throw exchange.garbage(url, missing) }
        return credentials
    }

    /// nil when no container endpoint is set up.
    func url() throws(StorageError) -> HTTPURL? {
        if let path = context.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            guard path.hasPrefix("/"), let url = HTTPURL("http://169.254.170.2" + path) else {
                throw StorageError(
                    .unauthenticated, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path that begins with '/'")
            }
            return url
        }
        guard let text = context.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") else { return nil }
        guard let url = HTTPURL(text) else {
            throw StorageError(.unauthenticated, "AWS_CONTAINER_CREDENTIALS_FULL_URI is not an http or https URL")
        }
        guard url.scheme == "https" || Self.isTrusted(url.host) else {
            throw StorageError(
                .unauthenticated,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI asks \(quoted(url.host)) over plain http: use https, a loopback address, "
                    + "169.254.170.2, 169.254.170.23 or [fd00:ec2::23]",
                details: [("host", .string(url.host))])
        }
        return url
    }

    /// Hosts that no other machine can pretend to be: keys and tokens may go there unencrypted.
    static func isTrusted(_ host: String) -> Bool {
        switch host.lowercased() {
        case "localhost", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "[::1]", "[0:0:0:0:0:0:0:1]": return true
        default: break
        }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127"
            && parts.allSatisfy { part in
                (1...3).contains(part.utf8.count) && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
                    && Int(part).map { $0 < 256 } ?? false
            }
    }

    /// The file is read anew each time: its owner replaces it.
    private func token() throws(StorageError) -> String? {
        var token = context.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        var source = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
        if let path = context.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            source = quoted(path)
            guard let bytes = try context.files.readFile(path, 64 * 1024) else {
                throw StorageError(
                    .unauthenticated, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: there is no file \(source)",
                    details: [("path", .string(path))], isRetryable: true)
            }
            token = String(decoding: bytes, as: UTF8.self).trimmedLines
        }
        guard let token else { return nil }
        guard !token.isEmpty, token.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            throw StorageError(.unauthenticated, "\(source) holds no token that fits into a header")
        }
        return token
    }
}
