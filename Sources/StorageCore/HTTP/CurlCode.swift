/// What libcurl's numbers mean here, https://curl.se/libcurl/c/libcurl-errors.html. Pure.
enum CurlCode {
    /// Where in a request it happened.
    static func phase(_ code: Int32) -> String {
        switch code {
        case 5: "cannot find the proxy"
        case 6: "cannot find the host"
        case 7: "cannot connect"
        case 28: "had no answer in time"
        case 35, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91: "cannot agree on TLS"
        case 18, 52, 55, 56: "lost the connection"
        default: "failed"
        }
    }

    /// Whether another try may succeed without a change by somebody.
    static func isRetryable(_ code: Int32) -> Bool {
        switch code {
        // Not supported, malformed URL, certificate problems of ours or theirs, unknown engine, refused by the verify.
        case 1, 3, 4, 27, 53, 54, 58, 59, 60, 64, 66, 77, 82, 83, 90, 91: false
        default: true
        }
    }
}
