/// Why no answer came, where it was for want of a connection that can carry one. Pure.
enum ConnectFailure: String, Sendable, CaseIterable {
    case unresolved
    case proxyUnresolved = "proxy_unresolved"
    case proxyRefused = "proxy_refused"
    case refused
    case timedOut = "timed_out"
    case notTLS = "not_tls"
    case handshake
    case untrusted
    case otherName = "other_name"
    case closed

    /// Of what libcurl gives and says when nothing of an answer had arrived, https://curl.se/libcurl/c/libcurl-errors.html;
    /// nil: something else was wrong.
    init?(curlCode: Int32, said: String) {
        func says(_ words: String...) -> Bool { words.contains { said.contains($0) } }
        switch curlCode {
        case 5: self = .proxyUnresolved
        case 6: self = .unresolved
        case 7: self = .refused
        case 28 where says("Operation timed out"): return nil
        case 28: self = says("Resolving timed out") ? .unresolved : .timedOut
        // What OpenSSL makes of bytes that are no TLS.
        case 35 where says("wrong version number", "packet length too long", "http request", "record layer failure"):
            self = .notTLS
        case 35: self = .handshake
        case 51: self = .otherName
        case 60: self = says("subject name") ? .otherName : .untrusted
        case 97: self = .proxyRefused
        case 56 where says("CONNECT tunnel failed", "from proxy after CONNECT"): self = .proxyRefused
        case 52, 55, 56: self = .closed
        default: return nil
        }
    }

    /// That of an error, which carries it as a detail.
    init?(_ error: StorageError) {
        guard let found = Self(rawValue: error.detailsDocument[Self.detail]?.stringValue ?? "") else { return nil }
        self = found
    }

    static let detail = "connect_failure"

    /// Whether no later try can do better, unless somebody changes something.
    var isCertain: Bool { [.notTLS, .untrusted, .otherName].contains(self) }

    /// What a person can do about it, when it is the address of a store.
    var advice: String {
        switch self {
        case .unresolved:
            "The name of the endpoint is not known to DNS: check endpoint_override, region and the resolver"
        case .proxyUnresolved: "The name of the proxy is not known: check https_proxy, http_proxy and no_proxy"
        case .proxyRefused: "The proxy does not let the request through: check https_proxy, http_proxy and no_proxy"
        case .refused:
            "Nothing listens there, or a firewall refuses it: check endpoint_override, its port, and the proxy if there is"
                + " one"
        case .timedOut:
            "No answer in time: a firewall that drops packets, a proxy that is wrong or missing (https_proxy), or a store"
                + " that is down"
        case .notTLS: "This port does not speak TLS: check the port of endpoint_override, or set scheme=http"
        case .handshake: "TLS could not be agreed on: is the port one for https? Else set scheme=http"
        case .untrusted:
            "This machine does not trust the certificate: set tls_ca_file_path to the CA of the store; where the time is"
                + " not that of the certificate, renew it or set the clock"
        case .otherName: "The certificate is for another name than that of the endpoint"
        case .closed: "The connection was closed without an answer: check port and scheme; a proxy or load balancer?"
        }
    }
}
