/// Whether the content of objects is still what was sealed: by the CRC that the store keeps of each whole object, where it
/// does, and else by reading the bytes.
///
/// The store compared that CRC with the bytes when it took them, so it tells an object that was replaced since; that the bytes
/// are still those of the CRC is what stores look after themselves, and every restore.
extension ObjectFiles {
    private static let asksAtOnce = 32
    /// Reading so little costs no more than asking.
    static let readsAtOnceBytes = 32 << 10

    /// Compares the content of files. `onFailure` gets the place of one that is damaged or missing, or that nothing can be
    /// learnt about, once, and why. Errors: CANCELLED.
    func compare(
        _ records: [FileRecord], onFailure: @escaping @Sendable (Int, StorageError) -> Void
    ) async throws(StorageError) {
        let isDone = Slots<Bool>(count: records.count)
        let asked = records.indices.filter { records[$0].size > Self.readsAtOnceBytes }
        try await Engine.shared.forEach(asked, limit: Self.asksAtOnce) { index throws(StorageError) in
            try progress.checkCancelled()
            do throws(StorageError) {
                guard try await isAttested(records[index]) else { return }
                isDone.set(index, true)
                progress.expect(bytes: records[index].size, files: 1)
                progress.advance(bytes: records[index].size, files: 1)
            } catch {
                if error.code == .cancelled { throw error }
                isDone.set(index, true)
                onFailure(index, error)
            }
        }
        let done = isDone.takeAll()
        let rest = records.indices.filter { done[$0] != true }
        if rest.isEmpty { return }
        try await check(rest.map { records[$0] }) { onFailure(rest[$0], $1) }
    }

    /// False: the store says nothing of its content. An error: it has another one, or is not there.
    private func isAttested(_ record: FileRecord) async throws(StorageError) -> Bool {
        let path = Path.join(store.root, key(record.path))
        func damage(_ what: String) -> StorageError {
            StorageError(
                .checksum, "\(quoted(path)) \(what)",
                details: [("path", .string(path)), ("file", .string(record.path))])
        }
        guard let found = try await store.attested(key(record.path), progress: progress) else {
            throw damage("is missing")
        }
        guard found.summary.size == record.size else {
            throw damage("has \(found.summary.size) bytes, \(record.size) were reported")
        }
        guard let crc32c = found.crc32c else { return false }
        guard crc32c == record.crc32c else {
            throw damage("has another CRC-32C (says the store) than what was reported")
        }
        return true
    }
}
