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
                "list", "write", "read", "clock", "checksums", "conditional writes", "multipart", "speed", "delete",
                "staging directory",
            ])
        #expect(store.contents.isEmpty)
        #expect(store.openUploads == 0)
    }

    @Test func `a missing permission is told by its operation, and the rest is tried all the same`() async throws {
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .abortMultipart else { return }
            throw StorageError(
                .permissionDenied, "PUT was refused", details: [("error_code", "AccessDenied"), ("http_status", 403)])
        })
        let checks = try await examine(store)
        let multipart = try #require(checks["multipart"])
        #expect(!multipart.ok)
        #expect(multipart.detail.contains("allow it in the policy"))
        #expect(checks["speed"]?.ok == true)
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
        (StorageError(.network, "x", details: [("curl_code", 6)]), "DNS"),
        (StorageError(.network, "x", details: [("curl_code", 60)]), "tls_ca_file_path"),
        (StorageError(.unauthenticated, "x", details: [("error_code", "RequestTimeTooSkewed")]), "15 minutes"),
        (StorageError(.precondition, "x", details: [("http_status", 301)]), "region"),
        (StorageError(.throttled, "x"), "max_concurrency"),
    ])
    func `an error comes with what to do about it`(error: StorageError, words: String) throws {
        #expect(try #require(Diagnosis.advice(for: error)).contains(words))
    }

    @Test func `an error that says it all gets no advice`() {
        #expect(Diagnosis.advice(for: StorageError(.io, "the disk is on fire")) == nil)
    }
}
