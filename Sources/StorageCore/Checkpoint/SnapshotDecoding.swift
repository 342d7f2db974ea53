extension Snapshot {
    /// Reads a snapshot that this library or Ray wrote. Unknown members are ignored.
    ///
    /// A directory that Ray lists twice (it re-registers a repeated name) becomes one entry, with the metrics of the
    /// last report. Fails with CHECKSUM on anything that is no snapshot, names that leave the run directory included,
    /// and with NOT_SUPPORTED when a newer raystorage wrote it.
    init(decoding bytes: some Sequence<UInt8>, path: String) throws(StorageError) {
        let document = try Record(bytes, path: path)
        guard document.member("checkpoint_results") != nil else {
            throw document.damaged("checkpoint_results", "is missing")
        }
        let results = try document.records("checkpoint_results")
        let numbers = try document.list("checkpoint_report_indices")
        guard numbers.isEmpty || numbers.count == results.count else {
            throw document.damaged("checkpoint_report_indices", "is not as long as the list of checkpoints")
        }
        let section = try document.record("raystorage")
        let known = try Self.known(section)
        var entries: [Entry] = []
        var places: [[UInt8]: Int] = [:]
        for (index, result) in results.enumerated() {
            let number = numbers.isEmpty ? index : max(0, numbers[index].intValue ?? index)
            let entry = try Self.entry(result, number: number, known: known)
            let key = Array(entry.physicalName.utf8)
            guard let place = places[key] else {
                places[key] = entries.count
                entries.append(entry)
                continue
            }
            if entries[place].sequence < entry.sequence { entries[place] = entry }
        }
        self.entries = entries
        reportCount = max(0, document.member("current_report_index")?.intValue ?? 0)
        let latest = try document.record("latest_checkpoint_result")?.string("checkpoint_dir_name")
        self.latest = latest.flatMap { places[Array($0.utf8)] == nil ? nil : $0 }
        for key in Self.validationKeys {
            validations[key] = try document.list(key).compactMap(\.stringValue)
        }
        ours = try section.map { section throws(StorageError) in
            Ours(
                runID: try section.string("run_id"), epoch: try section.count("epoch"),
                generation: try section.count("generation"), evicting: try section.attempts("evicting"))
        }
    }

    private static func known(_ section: Record?) throws(StorageError) -> [[UInt8]: Record] {
        guard let section else { return [:] }
        try section.checkSchema(schema)
        var known: [[UInt8]: Record] = [:]
        for record in try section.records("entries") { known[Array(try record.string("physical_name").utf8)] = record }
        return known
    }

    private static func entry(
        _ result: Record, number: Int, known: [[UInt8]: Record]
    ) throws(StorageError) -> Entry {
        let physicalName = try result.string("checkpoint_dir_name")
        guard isInside(physicalName) else {
            throw result.damaged("checkpoint_dir_name", "leaves the run directory: \(quoted(physicalName))")
        }
        let metrics = result.member("metrics") ?? .object([])
        guard metrics.objectValue != nil else { throw result.damaged("metrics", "is no object") }
        var entry = Entry(
            physicalName: physicalName, name: physicalName, attempt: nil,
            sequence: ReportSequence(epoch: 0, index: number), metrics: metrics, reportNumber: number)
        guard let record = known[Array(physicalName.utf8)] else { return entry }
        entry.name = try record.string("name")
        entry.attempt = try record.attempt("attempt")
        entry.sequence = ReportSequence(epoch: try record.count("epoch"), index: try record.count("index"))
        return entry
    }

    /// Ray takes nested names; what must not pass is one that leads out of the run directory or into our own part.
    private static func isInside(_ name: String) -> Bool {
        let parts = name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if name.utf8.contains(0) || parts.first?.elementsEqual(".raystorage".utf8) == true { return false }
        return parts.allSatisfy { !$0.isEmpty && !$0.elementsEqual(".".utf8) && !$0.elementsEqual("..".utf8) }
    }
}
