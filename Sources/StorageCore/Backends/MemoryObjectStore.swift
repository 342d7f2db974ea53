internal import CStorage
internal import Glibc
internal import Synchronization

/// The reference for the contract that every object store keeps: dictionaries, with conditions, uploads in parts and
/// checksums as stores have them, and a hook through which a test delays a request, loses it, or loses its answer.
final class MemoryObjectStore: ObjectStore {
    /// One request as the store would see it, and what tests count.
    struct Call: Sendable, Equatable {
        enum Operation: Sendable, Equatable {
            case get, getRange, head, put, startMultipart, putPart, listParts, completeMultipart, abortMultipart
            case multiparts, list, delete
        }
        var operation: Operation
        /// The key or prefix; of `delete` the first key.
        var key: String
        /// Of a part.
        var number = 0
    }
    /// Before the request arrives, or after it was carried out and before its answer comes back.
    enum Moment: Sendable { case before, after }
    /// What it throws, the call throws: before, nothing has happened; after, it has, and the answer is lost.
    typealias Hook = @Sendable (Moment, Call) async throws(StorageError) -> Void

    private struct Object: Sendable {
        var bytes: [UInt8]
        var version: String
        var modifiedAt: Double
    }
    private struct Upload: Sendable {
        var key: [UInt8]
        var startedAt: Double
        var announcesChecksums: Bool
        var encryption: String
        var parts: [Int: (etag: String, bytes: [UInt8], crc32c: UInt32)] = [:]
    }
    private struct State: Sendable {
        /// By the bytes of the key: Swift calls strings equal that differ in their bytes, stores do not.
        var objects: [[UInt8]: Object] = [:]
        var uploads: [String: Upload] = [:]
        var announcesChecksums: Bool
        var encryption = ""
        var serial = 0
        var calls: [Call] = []

        mutating func next() -> Int {
            serial += 1
            return serial
        }
    }

    let root: String
    /// Of its own: what one store holds up is nothing to another.
    let queueName = "memory-" + Environment.system.randomHex(8)
    let capabilities: ObjectStoreCapabilities
    private let environment: Environment
    private let hook: Hook?
    private let state: Mutex<State>

    /// Parts as S3 wants them.
    static let usual = ObjectStoreCapabilities(
        createsConditionally: true, replacesConditionally: true, checksCRC32C: true,
        partBytes: (5 << 20)...(5 << 30), maximumParts: 10_000, maximumPutBytes: 5 << 30)

    init(
        root: String = "memory://bucket", capabilities: ObjectStoreCapabilities = usual,
        environment: Environment = .system, hook: Hook? = nil
    ) {
        self.root = root
        self.capabilities = capabilities
        self.environment = environment
        self.hook = hook
        state = Mutex(State(announcesChecksums: capabilities.checksCRC32C))
    }

    // MARK: - What tests look at

    /// The content of every object.
    var contents: [String: [UInt8]] {
        let objects = state.withLock { $0.objects }
        let pairs = objects.map { (String(decoding: $0.key, as: UTF8.self), $0.value.bytes) }
        return Dictionary(pairs) { first, _ in first }
    }
    /// Every request that arrived, in order.
    var calls: [Call] { state.withLock { $0.calls } }
    /// Uploads that were neither completed nor aborted.
    var openUploads: Int { state.withLock { $0.uploads.count } }
    /// Changes an object behind everybody's back; nil when there is none.
    func tamper(_ key: String, _ change: (inout [UInt8]) -> Void) {
        state.withLock { state in
            guard var object = state.objects[Array(key.utf8)] else { return }
            change(&object.bytes)
            state.objects[Array(key.utf8)] = object
        }
    }

    /// Puts an object there behind everybody's back; nil removes it.
    func place(_ key: String, _ bytes: [UInt8]?) {
        let now = environment.now()
        state.withLock { state in
            state.objects[Array(key.utf8)] = bytes.map {
                Object(bytes: $0, version: "\"v\(state.next())\"", modifiedAt: now)
            }
        }
    }

    // MARK: - Objects

    func get(_ key: String, limit: Int, progress: Progress) async throws(StorageError) -> StoredObject? {
        try await around(.get, key, progress: progress) { state throws(StorageError) in
            guard let object = state.objects[Array(key.utf8)] else { return nil }
            if object.bytes.count > limit {
                throw self.error(.io, key, "is larger than \(limit) bytes")
            }
            return StoredObject(bytes: object.bytes, version: object.version)
        }
    }

    func get(
        _ key: String, range: Range<Int>, of size: Int?, version: String?, into file: OpenFile, shift: Int,
        progress: Progress
    ) async throws(StorageError) -> [UInt32] {
        let bytes = try await around(.getRange, key, progress: progress) { state throws(StorageError) -> [UInt8] in
            guard let object = state.objects[Array(key.utf8)] else {
                throw self.error(.notFound, key, "does not exist")
            }
            if let version, version != object.version {
                throw self.error(.precondition, key, "is no longer the version that was asked for")
            }
            if let size, size != object.bytes.count {
                throw self.error(.checksum, key, "has \(object.bytes.count) bytes where \(size) should be")
            }
            guard range.lowerBound >= 0, range.upperBound <= object.bytes.count else {
                throw self.error(.checksum, key, "ends at byte \(object.bytes.count), before \(range.upperBound)")
            }
            return Array(object.bytes[range])
        }
        var checksums: [UInt32] = []
        var done = 0
        while done < bytes.count {
            let block = Array(bytes[done..<min(done + CRC32C.blockSize, bytes.count)])
            var written = 0
            while written < block.count {
                let offset = off_t(range.lowerBound + shift + done + written)
                written += try System.check("pwrite", file.path) {
                    block.withUnsafeBytes { buffer in
                        cs_pwrite(
                            file.descriptor, buffer.baseAddress.map { $0 + written }, block.count - written, offset)
                    }
                }
            }
            checksums.append(CRC32C.of(block))
            done += block.count
        }
        return checksums
    }

    func head(_ key: String, progress: Progress) async throws(StorageError) -> ObjectSummary? {
        try await around(.head, key, progress: progress) { state throws(StorageError) in
            state.objects[Array(key.utf8)].map { Self.summary(key, $0) }
        }
    }

    func attested(
        _ key: String, progress: Progress
    ) async throws(StorageError) -> (summary: ObjectSummary, crc32c: UInt32?)? {
        try await around(.head, key, progress: progress) { state throws(StorageError) in
            state.objects[Array(key.utf8)].map { object in
                (Self.summary(key, object), self.capabilities.checksCRC32C ? CRC32C.of(object.bytes) : nil)
            }
        }
    }

    func put(
        _ key: String, _ content: HTTPBody, crc32c: UInt32, condition: WriteCondition, progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        let bytes = try content.readAll()
        let now = environment.now()
        return try await around(.put, key, progress: progress) { state throws(StorageError) in
            try self.check(key, bytes, crc32c)
            if bytes.count > self.capabilities.maximumPutBytes {
                throw self.error(.invalidArgument, key, "has more bytes than one request may carry")
            }
            switch condition {
            case .always: break
            case .ifAbsent:
                try self.require(self.capabilities.createsConditionally, key)
                if let there = state.objects[Array(key.utf8)] { return Self.refused(there, bytes) }
            case .ifVersion(let version):
                try self.require(self.capabilities.replacesConditionally, key)
                guard let there = state.objects[Array(key.utf8)] else { return .refused }
                if there.version != version { return Self.refused(there, bytes) }
            }
            let version = "\"v\(state.next())\""
            state.objects[Array(key.utf8)] = Object(bytes: bytes, version: version, modifiedAt: now)
            return .stored(version: version)
        }
    }

    /// The same bytes are those of an earlier try whose answer was lost.
    private static func refused(_ there: Object, _ bytes: [UInt8]) -> WriteOutcome {
        there.bytes == bytes ? .stored(version: there.version) : .refused
    }

    // MARK: - Uploads in parts

    /// As whoever opened it has set. Parts of an upload that was begun otherwise are refused, as S3 does.
    var announcesChecksums: Bool {
        get { state.withLock { $0.announcesChecksums } }
        set { state.withLock { $0.announcesChecksums = newValue } }
    }

    /// The same of the key.
    var encryption: String {
        get { state.withLock { $0.encryption } }
        set { state.withLock { $0.encryption = newValue } }
    }

    func startMultipart(_ key: String, progress: Progress) async throws(StorageError) -> BegunMultipart {
        let now = environment.now()
        return try await around(.startMultipart, key, progress: progress) { state throws(StorageError) in
            let upload = "upload-\(state.next())"
            let announces = state.announcesChecksums
            state.uploads[upload] = Upload(
                key: Array(key.utf8), startedAt: now, announcesChecksums: announces, encryption: state.encryption)
            return BegunMultipart(upload: upload, announcesChecksums: announces)
        }
    }

    func putPart(
        _ key: String, upload: String, number: Int, _ content: HTTPBody, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) -> UploadedPart {
        let bytes = try content.readAll()
        return try await around(.putPart, key, number: number, progress: progress) { state throws(StorageError) in
            guard var open = state.uploads[upload], open.key == Array(key.utf8) else {
                throw self.error(.notFound, key, "has no upload \(quoted(upload))")
            }
            try self.checkAnnounced(key, open, state)
            guard 1...self.capabilities.maximumParts ~= number else {
                throw self.error(.invalidArgument, key, "cannot have a part \(number)")
            }
            try self.check(key, bytes, crc32c)
            let etag = "\"p\(state.next())\""
            open.parts[number] = (etag, bytes, crc32c)
            state.uploads[upload] = open
            return UploadedPart(number: number, etag: etag, size: bytes.count, crc32c: crc32c)
        }
    }

    func listParts(_ key: String, upload: String, progress: Progress) async throws(StorageError) -> [UploadedPart]? {
        try await around(.listParts, key, progress: progress) { state throws(StorageError) in
            guard let open = state.uploads[upload], open.key == Array(key.utf8) else { return nil }
            return open.parts.sorted { $0.key < $1.key }.map {
                UploadedPart(number: $0.key, etag: $0.value.etag, size: $0.value.bytes.count, crc32c: $0.value.crc32c)
            }
        }
    }

    func completeMultipart(
        _ key: String, upload: String, parts: [UploadedPart], size: Int, crc32c: UInt32, progress: Progress
    ) async throws(StorageError) {
        let now = environment.now()
        try await around(.completeMultipart, key, progress: progress) { state throws(StorageError) in
            guard let open = state.uploads[upload], open.key == Array(key.utf8) else {
                // An earlier try may have done it.
                if let object = state.objects[Array(key.utf8)], object.bytes.count == size,
                    CRC32C.of(object.bytes) == crc32c
                {
                    return
                }
                throw self.error(.notFound, key, "has no upload \(quoted(upload))")
            }
            try self.checkAnnounced(key, open, state)
            let bytes = try self.assembled(key, open, parts)
            guard bytes.count == size else {
                throw self.error(.checksum, key, "has \(bytes.count) bytes in its parts instead of \(size)")
            }
            try self.check(key, bytes, crc32c)
            state.uploads[upload] = nil
            state.objects[Array(key.utf8)] = Object(
                bytes: bytes, version: "\"v\(state.next())-\(parts.count)\"", modifiedAt: now)
        }
    }

    private func checkAnnounced(_ key: String, _ open: Upload, _ state: State) throws(StorageError) {
        guard open.announcesChecksums == state.announcesChecksums else {
            throw error(.invalidArgument, key, "was begun with another type of checksum")
        }
        guard open.encryption == state.encryption else {
            throw error(.invalidArgument, key, "was begun with another key")
        }
    }

    private func assembled(
        _ key: String, _ open: Upload, _ parts: [UploadedPart]
    ) throws(StorageError) -> [UInt8] {
        var bytes: [UInt8] = []
        var previous = 0
        for (index, part) in parts.enumerated() {
            guard part.number > previous else { throw error(.invalidArgument, key, "has parts out of order") }
            previous = part.number
            guard let there = open.parts[part.number], there.etag == part.etag else {
                throw error(.invalidArgument, key, "has no such part \(part.number)")
            }
            if index < parts.count - 1, !capabilities.partBytes.contains(there.bytes.count) {
                throw error(.invalidArgument, key, "has a part of \(there.bytes.count) bytes")
            }
            bytes += there.bytes
        }
        if parts.isEmpty { throw error(.invalidArgument, key, "has no parts") }
        return bytes
    }

    func abortMultipart(_ key: String, upload: String, progress: Progress) async throws(StorageError) {
        try await around(.abortMultipart, key, progress: progress) { state throws(StorageError) in
            if state.uploads[upload]?.key == Array(key.utf8) { state.uploads[upload] = nil }
        }
    }

    func multiparts(_ prefix: String, progress: Progress) async throws(StorageError) -> [OpenMultipart] {
        try await around(.multiparts, prefix, progress: progress) { state throws(StorageError) in
            state.uploads.filter { $0.value.key.starts(with: prefix.utf8) }
                .map {
                    let key = String(decoding: $0.value.key, as: UTF8.self)
                    return OpenMultipart(key: key, upload: $0.key, startedAt: $0.value.startedAt)
                }
                .sorted { ($0.key, $0.upload) < ($1.key, $1.upload) }
        }
    }

    // MARK: - Many objects

    func list(
        _ prefix: String, delimited: Bool, progress: Progress
    ) async throws(StorageError) -> ObjectListing {
        try await around(.list, prefix, progress: progress) { state throws(StorageError) in
            var listing = ObjectListing()
            var prefixes = Set<String>()
            for (key, object) in state.objects where key.starts(with: prefix.utf8) {
                let rest = key.dropFirst(prefix.utf8.count)
                if delimited, let slash = rest.firstIndex(of: UInt8(ascii: "/")) {
                    prefixes.insert(String(decoding: key[...slash], as: UTF8.self))
                } else {
                    listing.objects.append(Self.summary(String(decoding: key, as: UTF8.self), object))
                }
            }
            listing.objects.sort { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            listing.prefixes = prefixes.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            return listing
        }
    }

    func delete(_ keys: [String], progress: Progress) async throws(StorageError) {
        guard let first = keys.first else { return }
        try await around(.delete, first, progress: progress) { state throws(StorageError) in
            for key in keys { state.objects[Array(key.utf8)] = nil }
        }
    }

    func time(_ prefix: String, progress: Progress) async throws(StorageError) -> Double? { environment.now() }

    // MARK: - One request

    private func around<Value: Sendable>(
        _ operation: Call.Operation, _ key: String, number: Int = 0, progress: Progress,
        _ body: (inout sending State) throws(StorageError) -> sending Value
    ) async throws(StorageError) -> Value {
        let call = Call(operation: operation, key: key, number: number)
        try progress.checkCancelled()
        try await hook?(.before, call)
        let value = try state.withLock { state throws(StorageError) in
            state.calls.append(call)
            return try body(&state)
        }
        try await hook?(.after, call)
        try progress.checkCancelled()
        return value
    }

    private func check(_ key: String, _ bytes: [UInt8], _ crc32c: UInt32) throws(StorageError) {
        guard !capabilities.checksCRC32C || CRC32C.of(bytes) == crc32c else {
            throw error(.checksum, key, "arrived with other bytes than its CRC-32C says")
        }
    }

    private func require(_ capability: Bool, _ key: String) throws(StorageError) {
        if !capability { throw error(.notSupported, key, "cannot be written conditionally in this store") }
    }

    private func error(_ code: StorageError.Code, _ key: String, _ what: String) -> StorageError {
        let path = Path.join(root, key)
        return StorageError(code, "\(quoted(path)) \(what)", details: [("path", .string(path))])
    }

    private static func summary(_ key: String, _ object: Object) -> ObjectSummary {
        ObjectSummary(key: key, size: object.bytes.count, version: object.version, modifiedAt: object.modifiedAt)
    }
}
