internal import Synchronization

/// Many objects: listings and deletions.
extension S3Store {
    /// Keys of one DeleteObjects.
    private static let batch = 1000
    /// Single deletions side by side, where the store knows no batches.
    private static let sideBySide = 16

    func list(
        _ prefix: String, delimited: Bool, progress: Progress
    ) async throws(StorageError) -> ObjectListing {
        let wanted = client.keys.wholePrefix(prefix)
        var listing = ObjectListing()
        var token: String?
        while true {
            var query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1000")]
            query.append(("prefix", client.endpoint.isExpress ? Self.directory(of: wanted) : wanted))
            if delimited { query.append(("delimiter", "/")) }
            if let token { query.append(("continuation-token", token)) }
            let operation = S3Operation("ListObjectsV2", "GET", key: nil, query: query)
                .answering(.document("ListBucketResult"), limit: S3Operation.pageAnswer)
            let success = try await client.send(operation, progress: progress).get()
            guard let page = S3ListPage(success.document) else { throw garbage(operation, success) }
            if let wrong = page.wrongSize {
                throw wrongSize(client.keys.relative(wrong.key) ?? wrong.key, wrong.text)
            }
            for var object in page.objects where object.key.utf8.starts(with: wanted.utf8) {
                guard let key = client.keys.relative(object.key) else { continue }
                object.key = key
                listing.objects.append(object)
            }
            listing.prefixes += page.prefixes.filter { $0.utf8.starts(with: wanted.utf8) }
                .compactMap { client.keys.relative($0) }
            guard let next = page.next else { break }
            guard next != token else { throw garbage(operation, success) }
            token = next
        }
        // Directory buckets list in no order.
        PathBytes.sort(&listing.objects) { $0.key }
        PathBytes.sort(&listing.prefixes) { $0 }
        return listing
    }

    /// By the date of an answer.
    func time(_ prefix: String, progress: Progress) async throws(StorageError) -> Double? {
        let wanted = client.keys.wholePrefix(prefix)
        var query = [("list-type", "2"), ("max-keys", "1")]
        query.append(("prefix", client.endpoint.isExpress ? Self.directory(of: wanted) : wanted))
        let operation = S3Operation("ListObjectsV2", "GET", key: nil, query: query)
            .answering(.document("ListBucketResult"), limit: S3Operation.pageAnswer)
        return try await client.send(operation, progress: progress).get().response["date"]
            .flatMap(InstantText.seconds)
    }

    /// S3 Express takes prefixes that end in `/` only; the rest is left out here.
    static func directory(of prefix: String) -> String {
        guard let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "" }
        return String(prefix[...slash])
    }

    func delete(_ keys: [String], progress: Progress) async throws(StorageError) {
        var wholes: [String] = []
        for key in keys { wholes.append(try client.keys.whole(key)) }
        if wholes.count == 1 { return try await deleteOne(wholes[0], progress: progress) }
        // What XML cannot carry goes alone.
        var single = wholes.filter { !S3Body.carries($0) }
        var rest = wholes.filter { S3Body.carries($0) }[...]
        while !rest.isEmpty, client.memory.current.deletesInBatches {
            let group = Array(rest.prefix(Self.batch))
            guard try await deleteBatch(group, progress: progress) else { break }
            rest = rest.dropFirst(group.count)
        }
        single += rest
        if single.isEmpty { return }
        try await Engine.shared.forEach(single, limit: Self.sideBySide) { [self] key throws(StorageError) in
            try await deleteOne(key, progress: progress)
        }
    }

    private func deleteOne(_ whole: String, progress: Progress) async throws(StorageError) {
        let operation = S3Operation("DeleteObject", "DELETE", key: whole)
        if case .refusal(let refusal) = try await client.send(operation, progress: progress) {
            guard refusal.status == 404, refusal.code == "NoSuchKey" else { throw refusal.error }
        }
    }

    /// False: the store does not know this operation, or has a permission of its own for it.
    private func deleteBatch(_ wholes: [String], progress: Progress) async throws(StorageError) -> Bool {
        var rest = wholes
        var rounds = client.rounds()
        defer { client.end(rounds) }
        // Those that failed for a reason that passes are asked for again, after a pause; each round is a request with its own
        // tries.
        while true {
            let body = S3Body.delete(rest)
            var operation = S3Operation("DeleteObjects", "POST", key: nil, query: [("delete", "")])
                .answering(.document("DeleteResult"), limit: S3Operation.pageAnswer)
            operation.body = .bytes(body)
            operation.headers = [HTTPHeader("Content-Type", "application/xml")]
            if client.endpoint.isExpress {
                operation.headers.append(HTTPHeader("x-amz-checksum-crc32c", S3Checksum.encode(CRC32C.of(body))))
            } else {
                operation.headers.append(HTTPHeader("Content-MD5", Base64.encode(Hashing.md5(body))))
            }
            switch try await client.send(operation, progress: progress) {
            case .refusal(let refusal):
                guard isUnknown(refusal) || refusal.error.code == .permissionDenied else { throw refusal.error }
                client.memory.learn { $0.deletesInBatches = false }
                return false
            case .success(let success):
                guard let result = S3DeleteResult(success.document) else { throw garbage(operation, success) }
                let (left, reason) = try retryable(result.errors, of: operation, success)
                guard var reason else { return true }
                if left.count < rest.count { rounds.advance(now: client.environment.bootMilliseconds()) }
                rest = left
                if rest.count > 1 { reason.error.message += ", and of \(rest.count - 1) more" }
                client.tell(of: reason)
                try await client.pause(
                    &rounds, operation, after: reason.error, asked: reason.askedPauseMilliseconds, progress: progress)
            }
        }
    }

    /// The keys of errors that may pass, and the first of these; throws the first one that does not.
    private func retryable(
        _ errors: [S3ErrorDocument], of operation: S3Operation, _ success: S3Success
    ) throws(StorageError) -> (keys: [String], reason: S3Failure?) {
        var keys: [String] = []
        var reason: S3Failure?
        for problem in errors where problem.code != "NoSuchKey" {
            var operation = operation
            operation.key = problem.key
            let failure = S3Failure(
                success.response, problem, status: 500, shown: client.shown(operation, client.endpoint))
            guard let key = problem.key, failure.error.isRetryable else { throw failure.error }
            keys.append(key)
            if reason == nil || failure.error.code == .throttled { reason = failure }
        }
        return (keys, reason)
    }

    private func isUnknown(_ refusal: S3Refusal) -> Bool {
        [405, 501].contains(refusal.status) || ["NotImplemented", "MethodNotAllowed"].contains(refusal.code)
            || (refusal.status == 400 && ["InvalidRequest", "BadRequest", "InvalidArgument"].contains(refusal.code))
    }
}
