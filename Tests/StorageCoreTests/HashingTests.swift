import Testing

@testable import StorageCore

/// Digests against the vectors of their standards.
struct HashingTests {
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ])
    func `SHA-256 of FIPS 180-4`(text: String, digest: String) {
        #expect(SHA256.hex(Array(text.utf8)) == digest)
        let streaming = StreamingDigest(.sha256)
        for byte in text.utf8 { withUnsafeBytes(of: byte) { streaming.update($0) } }
        #expect(Hexadecimal.encode(streaming.finish()) == digest)
    }

    @Test func `HMAC-SHA-256 of RFC 4231, also with an empty key`() {
        let key = [UInt8](repeating: 0x0B, count: 20)
        #expect(
            Hexadecimal.encode(HMAC.sha256(key: key, bytes: Array("Hi There".utf8)))
                == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        #expect(
            Hexadecimal.encode(HMAC.sha256(key: [], bytes: []))
                == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
    }

    @Test func `MD5 of RFC 1321 and SHA-1 of FIPS 180-4`() {
        #expect(Hexadecimal.encode(MD5.digest(Array("abc".utf8))) == "900150983cd24fb0d6963f7d28e17f72")
        #expect(Hexadecimal.encode(Hashing.sha1(Array("abc".utf8))) == "a9993e364706816aba3e25717850c26c9cd0d89d")
    }

    @Test func `a part of a file is hashed as the same bytes in memory, and one that is too short is an error`() throws
    {
        let fixture = try TreeFixture()
        let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try fixture.file("data", bytes)
        let file = try OpenFile(fixture.at("data"), 0)
        let found = try StreamingDigest.of(.sha256, file, offset: 1000, length: 2_500_000)
        #expect(found == SHA256.digest(Array(bytes[1000..<2_501_000])))
        #expect(throws: StorageError.self) {
            try StreamingDigest.of(.md5, file, offset: 1000, length: 3_000_000)
        }
    }

    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func `Base64 of RFC 4648`(text: String, encoded: String) {
        #expect(Base64.encode(Array(text.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(text.utf8))
    }

    @Test(arguments: ["Zg=", "Zg", "Z===", "====", "Zm9=v", "Zm9v\n", "Zm-_", "=m9v"])
    func `what is not Base64 is refused`(text: String) { #expect(Base64.decode(text) == nil) }

    @Test func `every byte goes through Base64 and back`() {
        for length in 0..<70 {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 151 &+ length) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        }
    }
}
