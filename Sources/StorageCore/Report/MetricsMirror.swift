internal import Glibc

/// The workspace's copy of the metrics of a run on an object store: completed from the store, whoever wrote there, and then
/// from the decisions of reports of which no segment has a row.
struct MetricsMirror: Sendable {
    /// Of a segment: they are rewritten while they are small.
    private static let segmentLimit = 1 << 30

    let backend: any StorageBackend
    let store: ObjectCheckpointStore
    let log: MetricsLog
    /// This launch.
    let epoch: EpochRecord
    let environment: Environment
    let engine: Engine
    /// `result.json` and `progress.csv` go to a store as a whole, through memory: up to this length.
    let derivedLimit: Int

    var workspace: String { store.workspace }

    /// What of a file is on the store.
    struct Copy: Sendable, Equatable {
        /// How much of it is what is here; 0 for a derived file, of which the length does not tell: another program may have
        /// left anything in it. It is written once by every launch.
        var bytes: Int
        /// nil where versions mean nothing.
        var version: String?
    }

    func size(_ key: String) throws(StorageError) -> Int? { try System.status(Path.join(workspace, key))?.size }

    private func isDerived(_ key: String) -> Bool { ResultFiles.names.contains(key) }

    private func limit(_ key: String) -> Int { isDerived(key) ? derivedLimit : Self.segmentLimit }

    /// Whether a file of that length stays where it is.
    func isTooLarge(_ key: String, _ bytes: Int) -> Bool {
        isDerived(key) && bytes > derivedLimit
    }

    func read(_ key: String) throws(StorageError) -> [UInt8] {
        try OpenFile(Path.join(workspace, key), O_RDONLY).readAll(limit: limit(key))
    }

    func head(_ key: String) async throws(StorageError) -> ObjectSummary? {
        try await store.objects.head(key, progress: Progress())
    }

    /// Fetches what the workspace does not have: other machines' segments, and the files that Ray may have begun. Rows that
    /// are nowhere but in decisions become lines of this launch's log. Returns what is on the store, as far as it is here.
    func complete() async throws(StorageError) -> [String: Copy] {
        var there = try await store.objects.list(RunLayout.metrics, delimited: true, progress: Progress()).objects
        there = there.filter { MetricsSegmentName(Path.name($0.key)) != nil }
        for key in ResultFiles.names {
            if let summary = try await head(key) { there.append(summary) }
        }
        let found = there
        let copies = Slots<Copy>(count: found.count)
        try await engine.forEach(Array(found.indices)) { index throws(StorageError) in
            if let copy = try await fetch(found[index]) { copies.set(index, copy) }
        }
        let missing = try missingRows()
        try await fetchEpochs(missing)
        for row in missing {
            try log.append(
                index: row.sequence.index, epoch: row.sequence.epoch, time: row.time,
                checkpointName: row.checkpointName, metricsJSON: row.metrics.compactBytes)
        }
        if !missing.isEmpty {
            Log.shared.write(
                .info, "\(missing.count) rows of metrics of earlier launches are taken from their decisions")
        }
        return Dictionary(zip(found, copies.takeAll()).compactMap { summary, copy in copy.map { (summary.key, $0) } }) {
            $1
        }
    }

    /// Of earlier launches: our own are in our log. In the order of reports.
    private func missingRows() throws(StorageError) -> [MetricsRow] {
        let rows = store.decisions.compactMap { MetricsRow($0) }.filter { $0.sequence.epoch < epoch.number }
        if rows.isEmpty { return [] }
        let there = try MetricsHistory.reports(runDirectory: workspace)
        return MetricsHistory.ordered(rows.filter { !there.contains($0.sequence) })
    }

    private func fetch(_ summary: ObjectSummary) async throws(StorageError) -> Copy? {
        if isTooLarge(summary.key, summary.size) { return Copy(bytes: summary.size, version: summary.version) }
        let isDerived = isDerived(summary.key)
        // A segment only grows, and is its trainer's alone: what is as long here is the same, or more.
        if try size(summary.key) ?? 0 >= summary.size {
            return Copy(bytes: isDerived ? 0 : summary.size, version: summary.version)
        }
        guard let object = try await backend.read(summary.key, limit: limit(summary.key)) else { return nil }
        try write(summary.key, object.bytes)
        return Copy(bytes: isDerived ? 0 : object.bytes.count, version: object.version)
    }

    /// What rows tell of their launches stands in the records of these.
    private func fetchEpochs(_ missing: [MetricsRow]) async throws(StorageError) {
        var epochs = Set(missing.map(\.sequence.epoch))
        for segment in try MetricsSegmentName.list(runDirectory: workspace) { epochs.insert(segment.epoch) }
        // Its segment is made by its first report.
        try write(RunLayout.epoch(epoch.number), epoch.document.compactBytes)
        var keys: [String] = []
        for epoch in epochs.sorted() where try size(RunLayout.epoch(epoch)) == nil {
            keys.append(RunLayout.epoch(epoch))
        }
        try await engine.forEach(keys) { key throws(StorageError) in
            if let object = try await backend.read(key, limit: 1 << 20) { try write(key, object.bytes) }
        }
    }

    private func write(_ key: String, _ bytes: [UInt8]) throws(StorageError) {
        let path = Path.join(workspace, key)
        try System.makeDirectories(Path.parent(path), mode: 0o700)
        let temporary = "\(path).\(environment.randomHex(4)).tmp"
        let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
        try file.write(bytes)
        try file.close()
        try System.rename(temporary, to: path)
    }
}
