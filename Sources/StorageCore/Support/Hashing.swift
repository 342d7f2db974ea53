internal import CStorage

/// Digests that protocols ask for, by OpenSSL's libcrypto. CRC-32C is elsewhere: it is ours to take.
enum Hashing {
    /// A millisecond or two; between pieces forks are let through.
    private static let pieceBytes = 1 << 20

    /// 32 bytes.
    static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        if bytes.count > pieceBytes { return digestInPieces(.sha256, bytes) }
        return digest(bytes, 32) { cs_sha256($0, bytes.count, $1) }
    }

    /// 20 bytes; only where an old format has it in a name.
    static func sha1(_ bytes: [UInt8]) -> [UInt8] {
        digest(bytes, 20) { cs_sha1($0, bytes.count, $1) }
    }

    /// 16 bytes; only where a protocol demands it.
    static func md5(_ bytes: [UInt8]) -> [UInt8] {
        if bytes.count > pieceBytes { return digestInPieces(.md5, bytes) }
        return digest(bytes, 16) { cs_md5($0, bytes.count, $1) }
    }

    /// HMAC-SHA-256, 32 bytes.
    static func hmacSHA256(key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        digest(bytes, 32) { cs_hmac_sha256(key, key.count, $0, bytes.count, $1) }
    }

    private static func digestInPieces(_ kind: StreamingDigest.Kind, _ bytes: [UInt8]) -> [UInt8] {
        let digest = StreamingDigest(kind)
        bytes.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: bytes.count, by: pieceBytes) {
                digest.update(UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + pieceBytes)]))
                cs_fork_yield()
            }
        }
        return digest.finish()
    }

    /// libcrypto refuses only where it cannot work at all; an empty digest then fails whatever it is compared with.
    private static func digest(
        _ bytes: [UInt8], _ size: Int, _ take: (UnsafePointer<UInt8>?, UnsafeMutablePointer<UInt8>?) -> Int32
    ) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: size)
        let taken = bytes.withUnsafeBufferPointer { input in
            output.withUnsafeMutableBufferPointer { take(input.baseAddress, $0.baseAddress) }
        }
        return taken == 1 ? output : []
    }
}

/// SHA-256 as signatures use it.
enum SHA256 {
    static func digest(_ bytes: [UInt8]) -> [UInt8] { Hashing.sha256(bytes) }
    /// Lower-case hexadecimal digits.
    static func hex(_ bytes: [UInt8]) -> String { Hexadecimal.encode(digest(bytes)) }
}

/// Keyed digests.
enum HMAC {
    static func sha256(key: [UInt8], bytes: [UInt8]) -> [UInt8] { Hashing.hmacSHA256(key: key, bytes) }
}

/// MD5, for `Content-MD5`.
enum MD5 {
    static func digest(_ bytes: [UInt8]) -> [UInt8] { Hashing.md5(bytes) }
}

/// SHA-256 or MD5 of bytes that come in pieces.
final class StreamingDigest {
    enum Kind: Int32 { case sha256 = 256, md5 = 5 }

    private let kind: Kind
    private let handle: OpaquePointer?
    private var isGood: Bool

    init(_ kind: Kind) {
        self.kind = kind
        handle = cs_digest_new(kind.rawValue)
        isGood = handle != nil
    }

    deinit { cs_digest_free(handle) }

    func update(_ bytes: UnsafeRawBufferPointer) {
        guard let handle, isGood else { return }
        isGood = cs_digest_update(handle, bytes.baseAddress, bytes.count) == 1
    }

    /// 32 or 16 bytes; empty when libcrypto cannot. To be called once.
    func finish() -> [UInt8] {
        guard let handle, isGood else { return [] }
        var output = [UInt8](repeating: 0, count: kind == .sha256 ? 32 : 16)
        isGood = false
        let finished = output.withUnsafeMutableBufferPointer { cs_digest_finish(handle, $0.baseAddress) }
        return finished == 1 ? output : []
    }

    /// Of a part of a file, read in pieces of 1 MiB; fewer bytes than `length` are an error.
    static func of(
        _ kind: Kind, _ file: OpenFile, offset: Int, length: Int
    ) throws(StorageError) -> [UInt8] {
        let digest = StreamingDigest(kind)
        var buffer = [UInt8](repeating: 0, count: min(max(0, length), 1 << 20))
        var done = 0
        while done < length {
            let count = try file.read(into: &buffer, limit: length - done, at: offset + done)
            if count == 0 {
                throw StorageError(
                    .io, "\(quoted(file.path)) ends at byte \(offset + done), before \(offset + length)",
                    details: [("path", .string(file.path))])
            }
            buffer.withUnsafeBytes { digest.update(UnsafeRawBufferPointer(rebasing: $0.prefix(count))) }
            done += count
        }
        return digest.finish()
    }
}

/// Bytes as hexadecimal digits.
enum Hexadecimal {
    private static let digits = Array("0123456789abcdef".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(2 * bytes.count)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
