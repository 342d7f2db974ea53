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

    func run(progress: Progress) async throws(StorageError) -> JSONValue {
        let checks = DoctorChecks()
        let prefix = ".raystorage-doctor-\(environment.randomHex(8))/"
        let record = prefix + "record"
        // The first request tells of names, connections, certificates, credentials and region.
        let isReachable = await checks.check("list (s3:ListBucket)") { () async throws(StorageError) in
            _ = try await store.list(prefix, delimited: true, progress: progress)
            return "\(quoted(store.root)) answers, and can be listed"
        }
        let isWritable = await checks.check("write (s3:PutObject)") { () async throws(StorageError) in
            _ = try await put(record, [1], .always, progress)
            return "can create objects"
        }
        if isWritable {
            await checks.check("read (s3:GetObject)") { () async throws(StorageError) in
                let object = try await store.get(record, limit: Self.limit, progress: progress)
                guard object?.bytes == [1] else { throw unexpected("what was written is not what is read") }
                return "what was written is there at once"
            }
            await checks.check("clock") { () async throws(StorageError) in try await clock(record, progress) }
            await checks.check("checksums") { () async throws(StorageError) in try await checksums(prefix, progress) }
            await checks.check("conditional writes") { () async throws(StorageError) in
                try await conditions(prefix, progress)
            }
            await checks.check("multipart (s3:AbortMultipartUpload)") { () async throws(StorageError) in
                try await multipart(prefix, progress)
            }
            await checks.check("speed") { () async throws(StorageError) in try await speed(prefix, progress) }
        }
        if isWritable || isReachable {
            await checks.check("delete (s3:DeleteObject)") { () async throws(StorageError) in
                try await cleanUp(prefix, progress)
            }
        }
        await checks.check("staging directory") { () throws(StorageError) in try StagingCheck.run(environment) }
        try progress.checkCancelled()
        return checks.document(path: store.root)
    }

    private func put(
        _ key: String, _ bytes: [UInt8], _ condition: WriteCondition, _ progress: Progress
    ) async throws(StorageError) -> WriteOutcome {
        try await store.put(
            key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: condition, progress: progress)
    }

    private func unexpected(_ what: String) -> StorageError {
        StorageError(.precondition, what, details: [("path", .string(store.root))])
    }

    /// Signatures are refused when clocks differ by 15 minutes.
    private func clock(_ key: String, _ progress: Progress) async throws(StorageError) -> String {
        guard let summary = try await store.head(key, progress: progress) else {
            throw unexpected("an object that was just written has no HEAD")
        }
        let difference = environment.now() - summary.modifiedAt
        let seconds = Int(max(-1e9, min(1e9, difference.rounded())))
        guard abs(seconds) < 300 else {
            throw unexpected(
                "this machine's clock is \(abs(seconds)) s \(seconds > 0 ? "ahead of" : "behind") the store's: at 900 s"
                    + " requests are refused")
        }
        return "the clocks differ by \(abs(seconds)) s"
    }

    private func checksums(_ prefix: String, _ progress: Progress) async throws(StorageError) -> String {
        do throws(StorageError) {
            _ = try await store.put(
                prefix + "damaged", .bytes([1, 2, 3]), crc32c: CRC32C.of([1, 2]), condition: .always,
                progress: progress)
        } catch {
            guard error.code == .checksum else { throw error }
            return "the store compares the CRC-32C that is sent with the bytes that arrive"
        }
        return "the store does not compare a CRC-32C with what arrives; damage on the way shows at verify and restore"
    }

    private func conditions(_ prefix: String, _ progress: Progress) async throws(StorageError) -> String {
        let known = try await store.probe(progress: progress)
        guard known.createsConditionally else {
            return "the store does not honour If-None-Match: runs claim names and list them, which is safe for one"
                + " trainer at a time"
        }
        let key = prefix + "once"
        guard case .stored = try await put(key, [1], .ifAbsent, progress),
            try await put(key, [2], .ifAbsent, progress) == .refused
        else { throw unexpected("a second creation of one name was not refused") }
        guard known.replacesConditionally else {
            return "names are created once; If-Match is not honoured: a superseded trainer is found out by listing"
        }
        guard case .stored(let version) = try await put(key, [3], .always, progress),
            case .stored = try await put(key, [4], .ifVersion(version), progress),
            try await put(key, [5], .ifVersion(version), progress) == .refused
        else { throw unexpected("a conditional write over another version was not refused") }
        return "names are created once, and replaced only over the version that was read"
    }

    private func multipart(_ prefix: String, _ progress: Progress) async throws(StorageError) -> String {
        let key = prefix + "parts"
        let bytes: [UInt8] = [1, 2, 3]
        let upload = try await store.startMultipart(key, progress: progress).upload
        do throws(StorageError) {
            let part = try await store.putPart(
                key, upload: upload, number: 1, .bytes(bytes), crc32c: CRC32C.of(bytes), progress: progress)
            try await store.completeMultipart(
                key, upload: upload, parts: [part], size: bytes.count, crc32c: CRC32C.of(bytes), progress: progress)
        } catch {
            try? await store.abortMultipart(key, upload: upload, progress: Progress())
            throw error
        }
        let given = try await store.startMultipart(key, progress: progress).upload
        try await store.abortMultipart(key, upload: given, progress: progress)
        let open = try await store.multiparts(prefix, progress: progress)
        guard open.isEmpty else { throw unexpected("an upload that was aborted is still listed") }
        return "uploads in parts are completed, aborted and listed"
    }

    // MARK: - Speed

    private func speed(_ prefix: String, _ progress: Progress) async throws(StorageError) -> String {
        let file = try scratchFile()
        let block = CRC32C.blockSize
        let content = [UInt8](repeating: 0xA5, count: block)
        let checksum = CRC32C.of(content)
        let numbers = Array(0..<max(1, bytesForSpeed / block))
        try file.write(content)
        let up = try await seconds { () async throws(StorageError) in
            try await engine.forEach(numbers) { [store] number throws(StorageError) in
                _ = try await store.put(
                    "\(prefix)speed-\(number)", .file(file, offset: 0, length: block), crc32c: checksum,
                    condition: .always, progress: progress)
            }
        }
        let down = try await seconds { () async throws(StorageError) in
            try await engine.forEach(numbers) { [store, root = store.root] number throws(StorageError) in
                let key = "\(prefix)speed-\(number)"
                let found = try await store.get(
                    key, range: 0..<block, version: nil, into: file, shift: 0, progress: progress)
                guard found == [checksum] else {
                    let path = Path.join(root, key)
                    throw StorageError(
                        .checksum, "\(quoted(path)) came back with other bytes", details: [("path", .string(path))])
                }
            }
        }
        let amount = Double(numbers.count * block) / Double(1 << 20)
        let rates = "\(Int(amount / up)) MiB/s up and \(Int(amount / down)) MiB/s down"
        return "\(rates), \(numbers.count) objects of 8 MiB side by side"
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

    private func cleanUp(_ prefix: String, _ progress: Progress) async throws(StorageError) -> String {
        for open in try await store.multiparts(prefix, progress: progress) {
            try await store.abortMultipart(open.key, upload: open.upload, progress: progress)
        }
        let keys = try await store.list(prefix, delimited: false, progress: progress).objects.map(\.key)
        try await store.delete(keys, progress: progress)
        let rest = try await store.list(prefix, delimited: false, progress: progress).objects
        guard rest.isEmpty else { throw unexpected("\(rest.count) objects are still listed after they were deleted") }
        return "can delete; nothing is left of this check"
    }
}
