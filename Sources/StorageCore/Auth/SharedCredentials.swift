internal import Synchronization

/// The credentials that a process has asked for, by what they depend on: a hundred checkpoints that are open ask a metadata
/// service once. They last as long as somebody has them: the next one asks anew.
final class SharedCredentials: Sendable {
    private struct Entry {
        weak var provider: RefreshingCredentials?
    }
    private let entries = Mutex<[CredentialsKey: Entry]>([:])

    init() {}

    /// Those of this process; a forked child begins anew.
    static var shared: SharedCredentials { Engine.shared.only(SharedCredentials.self) { SharedCredentials() } }

    /// How many somebody has.
    var count: Int { entries.withLock { $0.values.count { $0.provider != nil } } }

    /// The one that others with the same key have, or a new one; without a key a new one. `make` asks for nothing yet.
    func provider<Failure: Error>(
        _ key: CredentialsKey?, _ make: () throws(Failure) -> RefreshingCredentials
    ) throws(Failure) -> RefreshingCredentials {
        guard let key else { return try make() }
        return try entries.withLock { entries throws(Failure) in
            if let known = entries[key]?.provider, known.isShareable { return known }
            let fresh = try make()
            entries = entries.filter { $0.value.provider != nil }
            entries[key] = Entry(provider: fresh)
            return fresh
        }
    }
}

/// What credentials depend on, as a digest, so that no secret is kept for comparing. Pure.
///
/// Whatever begins with `AWS_` counts, known here or not: programs that give credentials get it, too. Files with tokens do not:
/// they are read at each renewal, and their owners replace them all the time.
struct CredentialsKey: Sendable, Hashable {
    private var digest: [UInt8]
    private var source: ObjectIdentifier?

    /// Of AWS's chain. `configuration`: what the files say now; nil: what they said when the settings were read. nil where no
    /// digest can be taken.
    init?(_ request: CredentialsRequest, _ configuration: AWSConfiguration? = nil) {
        let files = request.context.files
        let configuration = configuration ?? request.settings.configuration
        var fields: [String?] = [request.profile, files.homeDirectory(), files.environment.variable("PATH")]
        // Where they are the environment and the home directory say.
        fields += [String(configuration.marks.count)] + configuration.marks
        fields += [request.tls.caFile, request.tls.caDirectory, String(request.tls.verifies)]
        fields += [request.proxies.http, request.proxies.https, request.proxies.exceptions]
        for name in Set(files.environment.names()).sorted() where name.hasPrefix("AWS_") {
            fields += [name, files.environment.variable(name)]
        }
        self.init([], fields)
    }

    /// Of a role that is assumed with keys, or with what one source gives as long as it lasts.
    func with(
        _ role: STSClient.Role, keys: AWSCredentials? = nil, source: ObjectIdentifier? = nil
    ) -> CredentialsKey? {
        var key = CredentialsKey(
            digest,
            [
                role.arn, role.sessionName, role.externalID, role.durationSeconds.map { String($0) },
                keys?.accessKeyID, keys?.secretAccessKey, keys?.sessionToken, keys?.expiresAt.map { String($0) },
            ])
        key?.source = source
        return key
    }

    private init?(_ before: [UInt8], _ fields: [String?]) {
        var bytes = before
        for field in fields {
            // With its length, so that no two lists look alike.
            bytes += Array((field.map { String($0.utf8.count) } ?? "none").utf8) + [0x20] + Array((field ?? "").utf8)
        }
        digest = SHA256.digest(bytes)
        if digest.isEmpty { return nil }
    }
}
