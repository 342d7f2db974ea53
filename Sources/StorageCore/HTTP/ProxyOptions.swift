/// Which proxy requests go through. The variables are those that curl reads, taken once, in the thread that opens a store:
/// the host may change its environment while a loop looks into it.
struct ProxyOptions: Sendable, Equatable {
    /// URLs (`http://`, `https://`, `socks5h://` …), possibly with a user and a password; empty: none.
    var http = ""
    var https = ""
    /// Hosts and domains that are reached without it, separated by commas; `*`: all.
    var exceptions = ""

    static func system(environment: Environment) -> ProxyOptions { from(variable: environment.variable) }

    /// `HTTP_PROXY` is not read: where programs serve CGI, a request's header can set it. Pure.
    static func from(variable: (String) -> String?) -> ProxyOptions {
        let all = variable("all_proxy") ?? variable("ALL_PROXY") ?? ""
        return ProxyOptions(
            http: variable("http_proxy") ?? all,
            https: variable("https_proxy") ?? variable("HTTPS_PROXY") ?? all,
            exceptions: variable("no_proxy") ?? variable("NO_PROXY") ?? "")
    }

    func proxy(scheme: String) -> String { scheme == "https" ? https : http }
}
