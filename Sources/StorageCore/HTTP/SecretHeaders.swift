/// Headers that no log, error or description shows.
extension HTTPHeader: CustomStringConvertible, CustomDebugStringConvertible {
    /// Signatures, tokens of sessions and of metadata services, cookies, and the keys of SSE-C (lower case).
    static func isSecret(_ name: String) -> Bool {
        switch name {
        case "authorization", "proxy-authorization", "cookie", "set-cookie", "x-aws-ec2-metadata-token": true
        default: name.hasSuffix("-token") || name.hasSuffix("_token") || name.hasSuffix("customer-key")
        }
    }

    var description: String { Self.isSecret(name.lowercased()) ? "\(name): …" : "\(name): \(value)" }
    var debugDescription: String { description }
}

/// The query may hold a signature or a token.
extension HTTPURL: CustomStringConvertible, CustomDebugStringConvertible {
    var description: String { query.isEmpty ? shown : "\(shown)?…" }
    var debugDescription: String { description }
}

/// The body may be a form with a token.
extension HTTPRequest: CustomStringConvertible, CustomDebugStringConvertible {
    var description: String { "\(method) \(url) \(headers) (\(body.length) bytes)" }
    var debugDescription: String { description }
}
