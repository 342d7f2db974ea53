internal import CStorage
internal import Glibc

/// How the other end of an https connection is checked.
struct TLSOptions: Sendable, Equatable {
    /// A file of certificates in PEM that are trusted.
    var caFile: String?
    /// A directory of such files, named by their hashes.
    var caDirectory: String?
    /// False: not at all. Anybody in between can read and change what is sent.
    var verifies = true

    /// The system's trust store.
    static func system(environment: Environment) -> TLSOptions {
        trustStore(variable: environment.variable) { cs_access($0, R_OK) == 0 }
    }

    /// Where distributions keep their certificates. A library that runs on all of them cannot have one path compiled in.
    private static let files = [
        "/etc/ssl/certs/ca-certificates.crt",  // Debian, Ubuntu, Alpine, Arch
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // RHEL, Fedora
        "/etc/pki/tls/certs/ca-bundle.crt",  // older RHEL, Amazon Linux
        "/var/lib/ca-certificates/ca-bundle.pem",  // SUSE
        "/etc/ssl/ca-bundle.pem",  // older SUSE
        "/etc/ssl/cert.pem",  // Alpine, BSDs
    ]
    private static let directories = ["/etc/ssl/certs", "/etc/pki/tls/certs"]

    /// OpenSSL's own variables win over the usual places. Pure.
    static func trustStore(variable: (String) -> String?, exists: (String) -> Bool) -> TLSOptions {
        let file = variable("SSL_CERT_FILE")
        let directory = variable("SSL_CERT_DIR")
        if file != nil || directory != nil { return TLSOptions(caFile: file, caDirectory: directory) }
        if let file = files.first(where: exists) { return TLSOptions(caFile: file) }
        return TLSOptions(caDirectory: directories.first(where: exists))
    }
}
