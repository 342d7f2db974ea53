import Glibc
import Testing

@testable import StorageCore

/// An object store to test: the reference in memory, and each server that `RAYSTORAGE_TEST_S3` names.
struct ObjectStoreFixture: Sendable, CustomTestStringConvertible {
    let name: String
    /// A fresh and empty place.
    let open: @Sendable () throws -> any ObjectStore
    /// Of a server: the same place again, with that way of checksums.
    var reopen: @Sendable (_ prefix: String, _ checksum: String) throws -> any ObjectStore = { _, _ in
        throw WrongVariable()
    }
    /// What this server is known not to do as S3 does, in the words of `Tests/servers/endpoint.py`.
    var quirks: [String] = []

    var testDescription: String { name }

    static let memory = ObjectStoreFixture(name: "memory", open: { MemoryObjectStore() })
    static let all = [memory] + servers

    /// `[{"name": …, "endpoint": …, "access_key": …, "secret_key": …, "bucket": …, "region": …, "ca_file": …,
    /// "quirks": […]}]`; more options of the store in `"options": {…}`.
    static let servers: [ObjectStoreFixture] = {
        guard let text = Environment.system.variable("RAYSTORAGE_TEST_S3") else { return [] }
        guard let document = try? JSONParser.parse(Array(text.utf8)), let list = document.arrayValue else {
            return [ObjectStoreFixture(name: "RAYSTORAGE_TEST_S3 is no JSON", open: { throw WrongVariable() })]
        }
        return list.map { server in
            ObjectStoreFixture(
                name: server["name"]?.stringValue ?? "?",
                open: { try S3Server(server).store() },
                reopen: { try S3Server(server).store(prefix: $0, checksum: $1) },
                quirks: server["quirks"]?.arrayValue?.compactMap(\.stringValue) ?? [])
        }
    }()

    struct WrongVariable: Error {}
}

/// One server of `RAYSTORAGE_TEST_S3`.
struct S3Server {
    let document: JSONValue

    init(_ document: JSONValue) { self.document = document }

    func store(
        prefix: String = "test-" + Environment.system.randomHex(8), checksum: String? = nil
    ) throws -> S3Store {
        func text(_ key: String) throws -> String { try #require(document[key]?.stringValue) }
        var options = document["options"]?.objectValue ?? []
        if let checksum {
            options.removeAll { $0.key == "checksum" }
            options.append(JSONMember("checksum", .string(checksum)))
        }
        options.append(JSONMember("endpoint_override", .string(try text("endpoint"))))
        options.append(JSONMember("access_key_id", .string(try text("access_key"))))
        options.append(JSONMember("secret_access_key", .string(try text("secret_key"))))
        if let file = document["ca_file"]?.stringValue, !file.isEmpty {
            options.append(JSONMember("tls_ca_file_path", .string(file)))
        }
        if let region = document["region"]?.stringValue { options.append(JSONMember("region", .string(region))) }
        let parsed = try S3Options(query: [], storageOptions: .object(options))
        var tls = TLSOptions.system(environment: .system)
        if let file = parsed.certificateFile { tls = TLSOptions(caFile: file) }
        return try S3Store.open(
            bucket: try text("bucket"), prefix: prefix, options: parsed,
            patience: StorePatience(retryMilliseconds: 600_000), transport: CurlTransport(tls: tls),
            credentials: FixedCredentials(credentials: try #require(parsed.credentials)), environment: .system)
    }
}

/// Credentials that do not change.
struct FixedCredentials: AWSCredentialsProvider {
    let name = "fixed"
    var credentials = AWSCredentials(accessKeyID: "AKIDEXAMPLE", secretAccessKey: "SECRETEXAMPLE")

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? { credentials }
}

/// A file without a name, to read ranges into.
func scratchFile() throws -> OpenFile {
    let path = "/tmp/raystorage-test-" + Environment.system.randomHex(8)
    let file = try OpenFile(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
    try System.unlink(path)
    return file
}

extension ObjectStore {
    /// Puts bytes with their checksum.
    @discardableResult
    func put(
        _ key: String, _ bytes: [UInt8], _ condition: WriteCondition = .always
    ) async throws(StorageError) -> WriteOutcome {
        try await put(key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: condition, progress: Progress())
    }

    func bytes(_ key: String, limit: Int = 1 << 20) async throws(StorageError) -> [UInt8]? {
        try await get(key, limit: limit, progress: Progress())?.bytes
    }
}
