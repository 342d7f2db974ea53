internal import CStorage
internal import Glibc

/// `raystorage doctor` for object stores: tries, below a prefix of its own that it removes again, each request that a run
/// makes, so that a missing permission is told by its name, and measures what the link gives.
struct StoreDoctor: Sendable {
    let store: any ObjectStore
    let environment: Environment
    let engine: Engine
    /// So much is sent and fetched, in parts of a block.
    var bytesForSpeed = 64 << 20

    private static let limit = 1 << 20
    private static let record = "record"

    func run(progress: Progress) async throws(StorageError) -> JSONValue {
        let checks = DoctorChecks()
        let scratch = DoctorScratch(store, prefix: ".raystorage-doctor-\(environment.randomHex(8))/")
        // The first request tells of names, connections, certificates, credentials and region.
        let isReachable = await checks.check("list (s3:ListBucket)") { () async throws(StorageError) in
            _ = try await store.list(scratch.prefix, delimited: true, progress: progress)
            return "\(quoted(store.root)) answers, and can be listed"
        }
        var isWritable = false
        // Where there is no connection the others would only wait as long to say the same.
        if isReachable || checks.failure.flatMap({ ConnectFailure($0) }) == nil {
            isWritable = await checks.check("write (s3:PutObject)") { () async throws(StorageError) in
                _ = try await scratch.put(Self.record, [1], progress: progress)
                return "can create objects"
            }
        }
        var refusal: StorageError?
        if isWritable {
            let isReadable = await reading(checks, scratch, progress)
            await checks.check("checksums") { () async throws(StorageError) in try await checksums(scratch, progress) }
            if isReadable {
                // What was refused is read, too.
                await checks.check("conditional writes") { () async throws(StorageError) in
                    try await conditions(scratch, progress)
                }
            }
            await uploads(checks, scratch, progress)
            // What cannot be deleted again is not sent by the megabyte.
            refusal = await scratch.refusal(toDelete: Self.record, progress: progress)
            if isReadable, refusal == nil {
                await checks.check("speed") { () async throws(StorageError) in try await speed(scratch, progress) }
            }
        }
        if isWritable || isReachable {
            await checks.check("delete (s3:DeleteObject)") { () async throws(StorageError) in
                let outcome = try await scratch.remove(progress: progress)
                if let refusal { throw refusal }
                return outcome
            }
        }
        await checks.check("staging directory") { () throws(StorageError) in try StagingCheck.run(environment) }
        try progress.checkCancelled()
        return checks.document(path: store.root)
    }

    private func unexpected(_ what: String) -> StorageError {
        StorageError(.precondition, what, details: [("path", .string(store.root))])
    }

    // MARK: - Reading

    /// Whether contents and properties can be read.
    private func reading(_ checks: DoctorChecks, _ scratch: DoctorScratch, _ progress: Progress) async -> Bool {
        let key = scratch.key(Self.record)
        let isRead = await checks.check("read (s3:GetObject)") { () async throws(StorageError) in
            let object = try await store.get(key, limit: Self.limit, progress: progress)
            guard object?.bytes == [1] else { throw unexpected("what was written is not what is read") }
            return "what was written is there at once"
        }
        var modifiedAt = 0.0
        let isSeen = await checks.check("look (s3:GetObject, by HEAD)") { () async throws(StorageError) in
            guard let summary = try await store.head(key, progress: progress) else {
                throw unexpected("an object that was just written has no HEAD")
            }
            modifiedAt = summary.modifiedAt
            return "size and version can be asked for"
        }
        if isSeen { await checks.check("clock") { () throws(StorageError) in try clock(modifiedAt) } }
        return isRead && isSeen
    }

    /// Signatures are refused when clocks differ by 15 minutes.
    private func clock(_ modifiedAt: Double) throws(StorageError) -> String {
        let difference = environment.now() - modifiedAt
        let seconds = Int(max(-1e9, min(1e9, difference.rounded())))
        guard abs(seconds) < 300 else {
            throw unexpected(
                "this machine's clock is \(abs(seconds)) s \(seconds > 0 ? "ahead of" : "behind") the store's: at 900 s"
                    + " requests are refused")
        }
        return "the clocks differ by \(abs(seconds)) s"
    }

    // MARK: - Writing

    private func checksums(_ scratch: DoctorScratch, _ progress: Progress) async throws(StorageError) -> String {
        do throws(StorageError) {
            _ = try await store.put(
                scratch.key("damaged"), .bytes([1, 2, 3]), crc32c: CRC32C.of([1, 2]), condition: .always,
                progress: progress)
        } catch {
            guard error.code == .checksum else { throw error }
            return "the store compares the CRC-32C that is sent with the bytes that arrive"
        }
        return "the store does not compare a CRC-32C with what arrives; damage on the way shows at verify and restore"
    }

    private func conditions(_ scratch: DoctorScratch, _ progress: Progress) async throws(StorageError) -> String {
        let known = try await store.probe(progress: progress)
        guard known.createsConditionally else {
            return "the store does not honour If-None-Match: runs claim names and list them, which is safe for one"
                + " trainer at a time"
        }
        func put(_ byte: UInt8, _ condition: WriteCondition) async throws(StorageError) -> WriteOutcome {
            try await scratch.put("once", [byte], condition, progress: progress)
        }
        guard case .stored = try await put(1, .ifAbsent), try await put(2, .ifAbsent) == .refused else {
            throw unexpected("a second creation of one name was not refused")
        }
        guard known.replacesConditionally else {
            return "names are created once; If-Match is not honoured: a superseded trainer is found out by listing"
        }
        guard case .stored(let version) = try await put(3, .always),
            case .stored = try await put(4, .ifVersion(version)), try await put(5, .ifVersion(version)) == .refused
        else { throw unexpected("a conditional write over another version was not refused") }
        return "names are created once, and replaced only over the version that was read"
    }

    // MARK: - Uploads in parts

    private func uploads(_ checks: DoctorChecks, _ scratch: DoctorScratch, _ progress: Progress) async {
        await checks.check("multipart (s3:PutObject)") { () async throws(StorageError) in
            let bytes: [UInt8] = [1, 2, 3]
            let (key, upload) = try await scratch.begin("parts", progress: progress)
            do throws(StorageError) {
                let part = try await store.putPart(
                    key, upload: upload, number: 1, .bytes(bytes), crc32c: CRC32C.of(bytes), progress: progress)
                try await store.completeMultipart(
                    scratch.key("parts"), upload: upload, parts: [part], size: bytes.count, crc32c: CRC32C.of(bytes),
                    progress: progress)
            } catch {
                try? await scratch.abort(key, upload: upload, progress: Progress())
                throw error
            }
            scratch.ended(upload)
            return "uploads in parts are completed"
        }
        if let (key, upload) = try? await scratch.begin("given-up", progress: progress) {
            await checks.check("parts (s3:ListMultipartUploadParts)") { () async throws(StorageError) in
                guard try await store.listParts(key, upload: upload, progress: progress) != nil else {
                    throw unexpected("an upload that was just begun is not known")
                }
                return "an upload that was cut off can go on with the parts that are there"
            }
            await checks.check("abort (s3:AbortMultipartUpload)") { () async throws(StorageError) in
                try await scratch.abort(key, upload: upload, progress: progress)
                return "uploads can be given up"
            }
        }
        await checks.check("open uploads (s3:ListBucketMultipartUploads)") { () async throws(StorageError) in
            let open = try await store.multiparts(scratch.prefix, progress: progress).map(\.upload)
            guard scratch.areOpen(open) else { throw unexpected("an upload that has ended is still listed") }
            return "what dead trainers left can be found"
        }
    }

    // MARK: - Speed

    private func speed(_ scratch: DoctorScratch, _ progress: Progress) async throws(StorageError) -> String {
        let file = try scratchFile()
        let block = CRC32C.blockSize
        let content = [UInt8](repeating: 0xA5, count: block)
        let checksum = CRC32C.of(content)
        let keys = (0..<max(1, bytesForSpeed / block)).map { scratch.key("speed-\($0)") }
        try file.write(content)
        let up = try await seconds { () async throws(StorageError) in
            try await engine.forEach(keys) { [store] key throws(StorageError) in
                _ = try await store.put(
                    key, .file(file, offset: 0, length: block), crc32c: checksum, condition: .always,
                    progress: progress)
            }
        }
        let down = try await seconds { () async throws(StorageError) in
            try await engine.forEach(keys) { [store, root = store.root] key throws(StorageError) in
                let found = try await store.get(
                    key, range: 0..<block, version: nil, into: file, shift: 0, progress: progress)
                guard found == [checksum] else {
                    let path = Path.join(root, key)
                    throw StorageError(
                        .checksum, "\(quoted(path)) came back with other bytes", details: [("path", .string(path))])
                }
            }
        }
        let amount = Double(keys.count * block) / Double(1 << 20)
        let rates = "\(Int(amount / up)) MiB/s up and \(Int(amount / down)) MiB/s down"
        return "\(rates), \(keys.count) objects of 8 MiB side by side"
    }

    /// A file of ours without a name.
    private func scratchFile() throws(StorageError) -> OpenFile {
        let host = try HostIdentity.open(nil, environment: environment)
        let path = Path.join(host.directory, "doctor-\(environment.randomHex(8)).tmp")
        let file = try OpenFile(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
        try System.unlink(path)
        return file
    }

    private func seconds(_ body: () async throws(StorageError) -> Void) async throws(StorageError) -> Double {
        let start = cs_monotonic_ns()
        try await body()
        return max(1e-9, Double(cs_monotonic_ns() - start) / 1e9)
    }
}
