import Glibc
import Testing

@testable import StorageCore

/// An upload that a killed process had begun, and the next one's other key: S3 takes no part of it for good.
@Suite struct ObjectEncryptionTests {
    private let fixture: TransferFixture

    init() throws {
        fixture = try TransferFixture()
        try fixture.fill()
    }

    @Test(arguments: [("", "one"), ("one", ""), ("one", "two")])
    func `P4 an upload that was begun with another key is begun anew`(first: String, second: String) async throws {
        let records = try await fixture.seal()
        let store = await fixture.cutOff(records) { $0.encryption = first }
        store.encryption = second
        let before = store.calls.count
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
        let calls = store.calls[before...]
        #expect(calls.count { $0.operation == .startMultipart } == 1)
        #expect(calls.count { $0.operation == .abortMultipart } == 1)
        #expect(calls.filter { $0.operation == .putPart }.map(\.number).sorted() == [1, 2, 3, 4, 5])
        // Whole files, too: else a checkpoint would need two keys.
        let whole = Set(calls.filter { $0.operation == .put }.map(\.key))
        #expect(whole == Set(records.filter { $0.kind == .file && $0.path != "large.bin" }.map { "ckpt/" + $0.path }))
        // Nobody asks for what can only be read with the key that is gone.
        #expect(!calls.contains { $0.operation == .listParts || $0.operation == .head })
    }

    @Test(arguments: ["", "one"])
    func `P4 with the same key it is gone on with`(key: String) async throws {
        let records = try await fixture.seal()
        let store = await fixture.cutOff(records) { $0.encryption = key }
        let before = store.calls.count
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
        #expect(!store.calls[before...].contains { [.startMultipart, .putPart].contains($0.operation) })
    }

    @Test func `settings of encryption are told apart, and the key is not in what tells them`() throws {
        func fingerprint(_ values: [JSONMember]) throws -> String? {
            try S3Options(query: [], storageOptions: .object(values)).encryption?.fingerprint
        }
        let keys = [7, 8].map { Base64.encode([UInt8](repeating: $0, count: 32)) }
        let settings: [[JSONMember]] =
            keys.map { [JSONMember("sse_customer_key", .string($0))] } + [
                [JSONMember("server_side_encryption", "AES256")], [JSONMember("server_side_encryption", "aws:kms")],
                [JSONMember("server_side_encryption", "aws:kms"), JSONMember("sse_kms_key_id", "k")],
                [JSONMember("server_side_encryption", "aws:kms"), JSONMember("sse_kms_key_id", "l")],
                [JSONMember("server_side_encryption", "aws:kms"), JSONMember("bucket_key_enabled", true)],
                [JSONMember("server_side_encryption", "aws:kms:dsse")],
            ]
        let found = try settings.map { try #require(try fingerprint($0)) }
        #expect(Set(found).count == settings.count && found.allSatisfy { $0.utf8.count == 16 })
        #expect(try settings.map { try fingerprint($0) } == found)
        #expect(try fingerprint([]) == nil)
    }
}
