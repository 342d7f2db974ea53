/// Bodies of requests, as XML.
enum S3Body {
    private static let namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

    static func completeMultipart(_ parts: [UploadedPart], withChecksums: Bool) -> [UInt8] {
        var text = "<CompleteMultipartUpload xmlns=\"\(namespace)\">"
        for part in parts {
            text += "<Part><PartNumber>\(part.number)</PartNumber><ETag>\(escaped(part.etag))</ETag>"
            if withChecksums, let crc = part.crc32c {
                text += "<ChecksumCRC32C>\(S3Checksum.encode(crc))</ChecksumCRC32C>"
            }
            text += "</Part>"
        }
        return Array((text + "</CompleteMultipartUpload>").utf8)
    }

    /// Whole keys; the answer lists only what failed.
    static func delete(_ keys: some Sequence<String>) -> [UInt8] {
        var text = "<Delete xmlns=\"\(namespace)\"><Quiet>true</Quiet>"
        for key in keys { text += "<Object><Key>\(escaped(key))</Key></Object>" }
        return Array((text + "</Delete>").utf8)
    }

    /// `us-east-1` must not be named.
    static func createBucket(region: String) -> [UInt8] {
        if region == "us-east-1" { return [] }
        return Array(
            ("<CreateBucketConfiguration xmlns=\"\(namespace)\"><LocationConstraint>\(escaped(region))"
                + "</LocationConstraint></CreateBucketConfiguration>").utf8)
    }

    /// Whether XML 1.0 can carry a key: not the control characters, escaped or not.
    static func carries(_ key: String) -> Bool {
        key.unicodeScalars.allSatisfy { scalar in
            switch scalar.value {
            case 0x09, 0x0A, 0x0D: true
            case 0..<0x20, 0xFFFE, 0xFFFF: false
            default: true
            }
        }
    }

    /// Line ends and tabs are escaped too: a parser may make others of them.
    static func escaped(_ text: String) -> String {
        var output: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): output += "&amp;".utf8
            case UInt8(ascii: "<"): output += "&lt;".utf8
            case UInt8(ascii: ">"): output += "&gt;".utf8
            case UInt8(ascii: "\""): output += "&quot;".utf8
            case 0x09, 0x0A, 0x0D: output += "&#\(byte);".utf8
            default: output.append(byte)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }
}
