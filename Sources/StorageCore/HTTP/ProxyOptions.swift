/// Which proxy requests go through. The variables are those that curl reads, taken once, in the thread that opens a store:
/// the host may change its environment while a loop looks into it.
struct ProxyOptions: Sendable, Equatable {
    /// URLs (`http://`, `https://`, `socks5h://` …), possibly with a user and a password; empty: none.
    var http = ""
    var https = ""
    /// Hosts and domains that are reached without it, separated by commas; `*`: all.
    var exceptions = ""

    /// Errors: see `from`.
    static func system(environment: Environment) throws(StorageError) -> ProxyOptions {
        try from(variable: environment.variable)
    }

    /// `HTTP_PROXY` is not read: where programs serve CGI, a request's header can set it. Pure.
    ///
    /// Errors: INVALID_ARGUMENT naming the variable, and nothing of what is in it, when it is not a proxy's URL: curl would
    /// find out at every request, and quote it.
    static func from(variable: (String) -> String?) throws(StorageError) -> ProxyOptions {
        func proxy(_ names: [String]) throws(StorageError) -> String {
            for name in names {
                guard let text = variable(name) else { continue }
                guard text.isEmpty || ProxyURL(text) != nil else { throw malformed(name) }
                return text
            }
            return ""
        }
        return ProxyOptions(
            http: try proxy(["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: try proxy(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            exceptions: variable("no_proxy") ?? variable("NO_PROXY") ?? "")
    }

    private static func malformed(_ name: String) -> StorageError {
        let schemes = ProxyURL.schemes.joined(separator: ", ")
        let form = "[scheme://][user:password@]host[:port]"
        return StorageError(
            .invalidArgument,
            "the environment variable \(name) is not the URL of a proxy: it must be \(form) with one of the schemes \(schemes);"
                + " a user and a password are percent-encoded",
            details: [("name", .string(name)), ("allowed", .string("\(form); schemes: \(schemes)"))])
    }

    func proxy(scheme: String) -> String { scheme == "https" ? https : http }
}

/// The parts of a proxy's URL that matter here. Pure.
struct ProxyURL: Sendable, Equatable {
    /// As in the URL, percent-encoded; nil: none.
    var user: String?

    static let schemes = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"]

    /// nil for what is no proxy's URL.
    init?(_ text: String) {
        let (scheme, user, place) = Self.split(text)
        guard scheme.map({ (Self.schemes + ["socks"]).contains($0.lowercased()) }) ?? true,
            HTTPURL("http://" + place) != nil
        else { return nil }
        if let user {
            let isPlain = user.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && !"/?#@".utf8.contains($0) }
            guard isPlain, !Self.hasControl(user) else { return nil }
        }
        self.user = user
    }

    /// Everything up to the last `@` counts as user and password: too much rather than too little.
    private static func split(_ text: String) -> (scheme: String?, user: String?, place: String) {
        var rest = Array(text.utf8)[...]
        var scheme: String?
        let at = rest.lastIndex(of: UInt8(ascii: "@"))
        let separator = Array("://".utf8)
        if let mark = rest.indices.first(where: { rest[$0...].starts(with: separator) }), mark < at ?? .max {
            scheme = String(decoding: rest[..<mark], as: UTF8.self)
            rest = rest[(mark + 3)...]
        }
        guard let at, at >= rest.startIndex else { return (scheme, nil, String(decoding: rest, as: UTF8.self)) }
        return (
            scheme, String(decoding: rest[..<at], as: UTF8.self), String(decoding: rest[(at + 1)...], as: UTF8.self)
        )
    }

    /// Encoded control characters, which curl refuses.
    private static func hasControl(_ user: String) -> Bool {
        let bytes = Array(user.uppercased().utf8)
        return bytes.indices.dropLast(2).contains { place in
            guard bytes[place] == UInt8(ascii: "%") else { return false }
            let digits = String(decoding: bytes[(place + 1)...(place + 2)], as: UTF8.self)
            return UInt8(digits, radix: 16).map { $0 < 0x20 || $0 == 0x7F } ?? false
        }
    }

    /// curl's words about a request, without the user and the password of the proxy that it went through.
    static func withoutUser(_ words: String, proxy: String) -> String {
        // It quotes the URL, cut off where its buffer ends.
        if isAboutURL(words) { return "the proxy's URL is malformed, or its scheme is not supported" }
        guard let user = split(proxy).user, !user.isEmpty else { return words }
        let kept = words.split(separator: user + "@", omittingEmptySubsequences: false).joined(separator: "…@")
        let secrets = user.split(separator: ":", maxSplits: 1).dropFirst()
            .flatMap { [String($0), PercentEncoding.decode(String($0)) ?? ""] }
        // Shorter ones are words.
        return secrets.contains { $0.utf8.count >= 4 && kept.contains($0) } ? "(words that repeat a password)" : kept
    }

    /// Whether curl cannot use the proxy's URL: no other try mends that, whatever code it gives.
    static func isAboutURL(_ words: String) -> Bool { words.hasPrefix("Unsupported proxy") }
}
