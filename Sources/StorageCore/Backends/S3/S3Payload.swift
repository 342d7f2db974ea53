extension S3Client {
    /// What the signature says of the body. Over plain http anybody could change it, so there it is covered.
    func payload(_ request: HTTPRequest) throws(StorageError) -> SigV4Signer.Payload {
        let isSigned: Bool
        switch options.payloadSigning {
        case .always: isSigned = true
        case .never: isSigned = false
        case .auto: isSigned = request.url.scheme == "http"
        }
        return isSigned ? .hash(Hexadecimal.encode(try request.body.digest(.sha256))) : .unsigned
    }
}

extension HTTPBody {
    /// Read in pieces when it is a file.
    func digest(_ kind: StreamingDigest.Kind) throws(StorageError) -> [UInt8] {
        switch self {
        case .none: return kind == .md5 ? Hashing.md5([]) : Hashing.sha256([])
        case .bytes(let bytes): return kind == .md5 ? Hashing.md5(bytes) : Hashing.sha256(bytes)
        case .file(let file, let offset, let length):
            return try StreamingDigest.of(kind, file, offset: offset, length: length)
        }
    }
}

extension S3Endpoint {
    /// Nobody else can read what goes there.
    var isLoopback: Bool { host == "localhost" || host == "[::1]" || (Self.isIPv4(host) && host.hasPrefix("127.")) }
}
