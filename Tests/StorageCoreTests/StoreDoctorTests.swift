import Testing

@testable import StorageCore

/// `doctor` of object stores: what it says, and that it leaves nothing.
struct StoreDoctorTests {
    /// The checks by name: fine or not, and the words.
    private func examine(
        _ store: MemoryObjectStore, environment: Environment = .system
    ) async throws -> [String: (ok: Bool, detail: String)] {
        let fixture = try TreeFixture()
        var environment = environment
        environment.variable = { $0 == "RAYSTORAGE_STAGING_DIR" ? fixture.at("staging") : nil }
        let doctor = StoreDoctor(store: store, environment: environment, engine: .shared, bytesForSpeed: 1)
        let document = try await doctor.run(progress: Progress())
        let checks = try #require(document["checks"]?.arrayValue)
        let isFine = checks.allSatisfy { $0["ok"]?.boolValue ?? false }
        #expect(document["ok"]?.boolValue == isFine)
        var found: [String: (Bool, String)] = [:]
        for check in checks {
            let name = check["name"]?.stringValue?.split(separator: " (").first.map(String.init)
            found[name ?? ""] = (check["ok"]?.boolValue ?? false, check["detail"]?.stringValue ?? "")
        }
        return found
    }

    @Test func `a store that does all is fine, and nothing is left in it`() async throws {
        let store = MemoryObjectStore()
        let checks = try await examine(store)
        #expect(checks.filter { !$0.value.ok }.isEmpty)
        #expect(
            Set(checks.keys) == [
                "list", "write", "read", "look", "clock", "checksums", "conditional writes", "multipart", "parts",
                "abort",
                "open uploads", "speed", "delete", "staging directory",
            ])
        #expect(store.contents.isEmpty)
        #expect(store.openUploads == 0)
    }

    @Test func `a missing permission is told by its operation, and the rest is tried all the same`() async throws {
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .abortMultipart else { return }
            throw StorageError(
                .permissionDenied, "PUT was refused", details: [("http_status", 403)])
        })
        let checks = try await examine(store)
        #expect(checks.filter { !$0.value.ok }.map(\.key) == ["abort"])
        let words = "PUT was refused. Allow the operation to these credentials, for the bucket and the prefix"
        #expect(checks["abort"]?.detail == words)
        #expect(checks["delete"]?.detail.contains("1 open upload is left below") == true)
        #expect(store.contents.isEmpty)
    }

    @Test func `P9 what may not be deleted is named, and not measured by the megabyte`() async throws {
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            if call.operation == .delete { throw StorageError(.permissionDenied, "no") }
        })
        let checks = try await examine(store)
        #expect(checks["speed"] == nil)
        let delete = try #require(checks["delete"])
        #expect(!delete.ok)
        let names = store.contents.keys.map { String($0.split(separator: "/").last ?? "") }.sorted()
        #expect(delete.detail.contains("; left below \"memory://bucket/.raystorage-doctor-"))
        #expect(delete.detail.hasSuffix(names.map { "\"\($0)\"" }.joined(separator: ", ")))
    }

    @Test func `P9 what was written is deleted though nothing may be listed`() async throws {
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            if call.operation == .list || call.operation == .multiparts { throw StorageError(.permissionDenied, "no") }
        })
        let checks = try await examine(store)
        #expect(Set(checks.filter { !$0.value.ok }.map(\.key)) == ["list", "open uploads"])
        #expect(store.contents.isEmpty && store.openUploads == 0)
    }

    @Test func `without permission to write nothing that needs it is tried`() async throws {
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            if call.operation == .put { throw StorageError(.permissionDenied, "no") }
        })
        let checks = try await examine(store)
        #expect(checks["write"]?.ok == false)
        #expect(checks["list"]?.ok == true)
        #expect(checks["speed"] == nil)
    }

    @Test func `where nothing answers, it is waited for once`() async throws {
        let store = MemoryObjectStore(hook: { _, _ throws(StorageError) in
            throw StorageError(.network, "nobody there", details: [("connect_failure", "unresolved")])
        })
        let checks = try await examine(store)
        #expect(checks["list"]?.ok == false && checks["list"]?.detail.contains("DNS") == true)
        #expect(checks["write"] == nil && checks["delete"] == nil)
    }

    @Test func `a store without conditional writes is told what that means`() async throws {
        var capabilities = MemoryObjectStore.usual
        capabilities.createsConditionally = false
        capabilities.replacesConditionally = false
        let checks = try await examine(MemoryObjectStore(capabilities: capabilities))
        let conditions = try #require(checks["conditional writes"])
        #expect(conditions.ok)
        #expect(conditions.detail.contains("one trainer at a time"))
    }

    @Test func `a store that does not compare checksums is told`() async throws {
        var capabilities = MemoryObjectStore.usual
        capabilities.checksCRC32C = false
        let checks = try await examine(MemoryObjectStore(capabilities: capabilities))
        #expect(checks["checksums"]?.ok == true)
        #expect(checks["checksums"]?.detail.contains("does not compare") == true)
    }

    @Test(arguments: [(-400.0, "400 s behind"), (400, "400 s ahead of")])
    func `a clock that is wrong is found`(offset: Double, words: String) async throws {
        let start = Environment.system.now()
        var storeTime = Environment.system
        storeTime.now = { start }
        var ours = Environment.system
        ours.now = { start + offset }
        let checks = try await examine(MemoryObjectStore(environment: storeTime), environment: ours)
        #expect(checks["clock"]?.ok == false)
        #expect(checks["clock"]?.detail.contains(words) == true)
    }

    @Test(arguments: [
        (StorageError(.network, "x", details: [("connect_failure", "unresolved")]), "DNS"),
        (StorageError(.network, "x", details: [("connect_failure", "untrusted")]), "tls_ca_file_path"),
        (StorageError(.permissionDenied, "x", details: [("http_status", 403)]), "Allow the operation"),
        (StorageError(.throttled, "x", details: [("http_status", 503)]), "max_concurrency"),
    ])
    func `an error comes with what to do about it`(error: StorageError, words: String) throws {
        #expect(try #require(Diagnosis.advice(for: error)).contains(words))
    }

    @Test(arguments: [
        StorageError(.io, "the disk is on fire"), StorageError(.permissionDenied, "mkdir: Permission denied"),
        StorageError(.unauthenticated, "no AWS credentials: set …"),
    ])
    func `an error that says it all gets no advice`(error: StorageError) {
        #expect(Diagnosis.advice(for: error) == nil)
    }

    @Test(arguments: [
        "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "RequestTimeTooSkewed",
        "ExpiredToken", "InvalidToken", "PermanentRedirect", "KMS.DisabledException", "",
    ])
    func `an answer of a store is followed by one advice`(code: String) {
        let response = HTTPResponse(status: code.isEmpty ? 301 : 403, headers: [])
        let shown = S3Shown(operation: "PutObject", path: "s3://b/k", endpoint: "store")
        let body = XMLElement(name: "Error", children: [XMLElement(name: "Code", text: code)])
        let error = S3Failure(response, S3ErrorDocument(body), status: response.status, shown: shown).error
        #expect(Diagnosis.advice(for: error) == nil)
        #expect(error.message.contains(". "))
    }
}
