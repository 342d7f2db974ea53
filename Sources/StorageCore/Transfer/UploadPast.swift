/// What an earlier upload to the same place has reached, as the store itself says.
struct UploadPast: Sendable {
    struct Multipart: Sendable {
        var upload: String
        var partBytes: Int
        /// What need not be sent again.
        var parts: [UploadedPart]
        /// The numbers of those.
        var numbers: Set<Int>
    }
    /// Nobody was here before.
    var isFresh = true
    /// Files that are there whole.
    var done: Set<Int> = []
    var multiparts: [Int: Multipart] = [:]

    /// One listing, and one of the parts of each open upload; nothing when there is no past.
    static func look(
        _ journal: UploadJournal.Past, store: any ObjectStore, prefix: String, files: [FileRecord], progress: Progress
    ) async throws(StorageError) -> UploadPast {
        var past = UploadPast()
        if journal.isEmpty { return past }
        past.isFresh = false
        let listing = try await store.list(prefix, delimited: false, progress: progress)
        var there: [[UInt8]: ObjectSummary] = [:]
        there.reserveCapacity(listing.objects.count)
        var forks = ForkYield()
        for object in listing.objects {
            forks.step()
            there[Array(object.key.utf8)] = object
        }
        for (index, version) in journal.done where files.indices.contains(index) {
            forks.step()
            guard let object = there[Array((prefix + files[index].path).utf8)], object.size == files[index].size else {
                continue
            }
            if version.isEmpty || object.version.isEmpty || version == object.version { past.done.insert(index) }
        }
        for (index, begun) in journal.multiparts where files.indices.contains(index) {
            let key = prefix + files[index].path
            let listed: [UploadedPart]?
            do throws(StorageError) {
                listed = try await store.listParts(key, upload: begun.upload, progress: progress)
            } catch {
                // A permission of its own: without it the file is sent anew.
                guard error.code == .permissionDenied || error.code == .notSupported else { throw error }
                try? await store.abortMultipart(key, upload: begun.upload, progress: progress)
                continue
            }
            guard let parts = listed else {
                // Gone because it was completed, by nobody but this attempt; its end may not have lived to look at the result.
                guard let found = try await store.attested(key, progress: progress),
                    found.summary.size == files[index].size, found.crc32c ?? files[index].crc32c == files[index].crc32c
                else { continue }
                past.done.insert(index)
                continue
            }
            guard begun.announcesChecksums == store.announcesChecksums else {
                // Whoever began it had another setting, or had found out another thing about the store: its parts are refused
                // for good. What nobody noted may be so too.
                try? await store.abortMultipart(key, upload: begun.upload, progress: progress)
                continue
            }
            let plan = PartPlan(size: files[index].size, partBytes: begun.partBytes)
            let good = parts.filter { isGood($0, plan, files[index]) }
            past.multiparts[index] = Multipart(
                upload: begun.upload, partBytes: begun.partBytes, parts: good, numbers: Set(good.map(\.number)))
        }
        for orphan in journal.orphans {
            try? await store.abortMultipart(orphan.key, upload: orphan.upload, progress: progress)
        }
        return past
    }

    /// Whether a request need not be made. Of an upload that lacks only its end one stays, to make that.
    func covers(_ unit: PartPlan.Unit, _ plan: PartPlan) -> Bool {
        if done.contains(unit.file) { return true }
        guard let numbers = multiparts[unit.file]?.numbers, numbers.contains(unit.part + 1) else { return false }
        return numbers.count < plan.count || unit.part > 0
    }

    /// Whether a part is what we would send.
    private static func isGood(_ part: UploadedPart, _ plan: PartPlan, _ file: FileRecord) -> Bool {
        guard 1...plan.count ~= part.number, part.size == plan.range(part.number - 1).count else { return false }
        return part.crc32c.map { $0 == plan.crc32c(part.number - 1, blocks: file.blocks) } ?? true
    }
}
