/// What the body of an answer is. S3 sends whitespace before a late result, and 200 before it knows of an error.
enum S3Document: Sendable {
    case empty
    case element(XMLElement)
    /// Not XML, or cut off.
    case garbage

    init(_ body: [UInt8]) {
        let content = body.drop { $0 == 0x20 || (0x09...0x0D).contains($0) }
        if content.isEmpty {
            self = .empty
        } else if let element = try? XMLParser.parse(Array(content)) {
            self = .element(element)
        } else {
            self = .garbage
        }
    }

    /// The element of that name, if that is what the body is.
    func named(_ name: String) -> XMLElement? {
        if case .element(let element) = self, element.name == name { element } else { nil }
    }

    /// The result of an operation. Some servers call it `ListPartsResponse` or `InitiateMultipartUpload`; no AWS client
    /// minds the root's name, so that nobody noticed.
    func result(_ name: String) -> XMLElement? {
        guard case .element(let element) = self else { return nil }
        let stem = name.hasSuffix("Result") ? String(name.dropLast(6)) : name
        return [name, stem, stem + "Response"].contains(element.name) ? element : nil
    }

    /// The error that the body tells of, whatever the status was.
    var error: S3ErrorDocument? { named("Error").map { S3ErrorDocument($0) } }
}

/// `<Error>` of S3.
struct S3ErrorDocument: Sendable, Equatable {
    var code: String
    var message: String?
    var requestID: String?
    var hostID: String?
    /// Of the bucket, when the request went to another one's.
    var region: String?
    /// Of the errors of DeleteObjects.
    var key: String?

    init(_ element: XMLElement) {
        code = element.child("Code") ?? ""
        message = element.child("Message")
        requestID = element.child("RequestId")
        hostID = element.child("HostId")
        region = element.child("Region")
        key = element.child("Key")
    }
}

/// One page of `ListObjectsV2`, keys whole and decoded.
struct S3ListPage: Sendable {
    var objects: [ObjectSummary] = []
    var prefixes: [String] = []
    /// nil: this was the last page.
    var next: String?
    /// The first object whose size is none.
    private(set) var wrongSize: (key: String, text: String)?

    /// nil when the document is not what it should be.
    init?(_ document: S3Document) {
        guard let root = document.result("ListBucketResult") else { return nil }
        let decode = S3KeyText(root)
        for element in root.children {
            switch element.name {
            case "Contents":
                guard let key = element.child("Key").flatMap(decode.key), let text = element.child("Size") else {
                    return nil
                }
                guard let size = S3Size.parse(text) else {
                    wrongSize = wrongSize ?? (key, text)
                    continue
                }
                objects.append(
                    ObjectSummary(
                        key: key, size: size, version: element.child("ETag") ?? "",
                        modifiedAt: element.child("LastModified").flatMap(InstantText.seconds) ?? 0))
            case "CommonPrefixes":
                guard let prefix = element.child("Prefix").flatMap(decode.key) else { return nil }
                prefixes.append(prefix)
            default: break
            }
        }
        guard root.child("IsTruncated") == "true" else { return }
        // More to come and no way to ask for it would be objects lost in silence.
        guard let token = root.child("NextContinuationToken"), !token.isEmpty else { return nil }
        next = token
    }
}

/// The size of an object, in bytes.
enum S3Size {
    /// nil: no number, or one that no object has.
    static func parse(_ text: String) -> Int? {
        Decimal.digits(text.utf8).flatMap { $0 <= ObjectSummary.maximumSize ? $0 : nil }
    }
}

/// One page of `ListMultipartUploads`, keys whole and decoded.
struct S3UploadsPage: Sendable, Equatable {
    var uploads: [OpenMultipart] = []
    var next: Marker?
    /// Ceph encodes keys when asked to and does not say so: whether `%20` is a blank cannot be told.
    private(set) var isAmbiguous = false

    struct Marker: Sendable, Equatable {
        var key: String
        var upload: String
    }

    init?(_ document: S3Document) {
        guard let root = document.result("ListMultipartUploadsResult") else { return nil }
        let decode = S3KeyText(root)
        for element in root.children where element.name == "Upload" {
            guard let key = element.child("Key").flatMap(decode.key), let upload = element.child("UploadId") else {
                return nil
            }
            uploads.append(
                OpenMultipart(
                    key: key, upload: upload,
                    startedAt: element.child("Initiated").flatMap(InstantText.seconds) ?? 0))
        }
        isAmbiguous = root.child("EncodingType") == nil && uploads.contains { $0.key.utf8.contains(UInt8(ascii: "%")) }
        guard root.child("IsTruncated") == "true" else { return }
        guard let key = root.child("NextKeyMarker").flatMap(decode.key), !key.isEmpty else { return nil }
        next = Marker(key: key, upload: root.child("NextUploadIdMarker") ?? "")
    }
}

/// One page of `ListParts`.
struct S3PartsPage: Sendable, Equatable {
    var parts: [UploadedPart] = []
    var next: Int?

    init?(_ document: S3Document) {
        guard let root = document.result("ListPartsResult") else { return nil }
        for element in root.children where element.name == "Part" {
            guard let number = element.child("PartNumber").flatMap({ Decimal.digits($0.utf8) }),
                let size = element.child("Size").flatMap({ Decimal.digits($0.utf8) }),
                let etag = element.child("ETag")
            else { return nil }
            parts.append(
                UploadedPart(
                    number: number, etag: etag, size: size,
                    crc32c: element.child("ChecksumCRC32C").flatMap(S3Checksum.decode)))
        }
        guard root.child("IsTruncated") == "true" else { return }
        guard let marker = root.child("NextPartNumberMarker").flatMap({ Decimal.digits($0.utf8) }) else { return nil }
        next = marker
    }
}

/// What came of a `CompleteMultipartUpload` that succeeded.
struct S3CompleteResult: Sendable, Equatable {
    /// Of the whole object; nil when the store does not say, or says it of the parts' checksums only.
    var crc32c: UInt32?

    init?(_ document: S3Document) {
        guard let root = document.named("CompleteMultipartUploadResult") else { return nil }
        // Stores that say no type give that of the parts' checksums: it was the only one before there were two.
        guard root.child("ChecksumType") == "FULL_OBJECT" else { return }
        crc32c = root.child("ChecksumCRC32C").flatMap(S3Checksum.decode)
    }
}

/// What `DeleteObjects` could not delete.
struct S3DeleteResult: Sendable, Equatable {
    /// Keys are whole.
    var errors: [S3ErrorDocument] = []

    init?(_ document: S3Document) {
        guard let root = document.named("DeleteResult") else { return nil }
        errors = root.children.filter { $0.name == "Error" }.map { S3ErrorDocument($0) }
    }
}

/// A CRC-32C as S3 writes it: Base64 of the big-endian value.
enum S3Checksum {
    static func encode(_ crc: UInt32) -> String {
        Base64.encode([UInt8(crc >> 24), UInt8(crc >> 16 & 0xFF), UInt8(crc >> 8 & 0xFF), UInt8(crc & 0xFF)])
    }

    /// nil for anything else, a composite checksum (`…-3`) too.
    static func decode(_ text: String) -> UInt32? {
        guard let bytes = Base64.decode(text), bytes.count == 4 else { return nil }
        return bytes.reduce(0) { $0 << 8 | UInt32($1) }
    }
}

/// Keys in listings: encoded when the answer says so, with `+` for a space as in forms.
struct S3KeyText: Sendable {
    let isEncoded: Bool

    init(_ root: XMLElement) { isEncoded = root.child("EncodingType") == "url" }

    /// nil when it is not UTF-8 or wrongly encoded.
    func key(_ text: String) -> String? {
        guard isEncoded else { return text }
        let spaced = String(decoding: text.utf8.map { $0 == UInt8(ascii: "+") ? 0x20 : $0 }, as: UTF8.self)
        return PercentEncoding.decode(spaced)
    }
}

extension XMLElement {
    /// The text of the first child of that name.
    func child(_ name: String) -> String? { children.first { $0.name == name }?.text }
}
