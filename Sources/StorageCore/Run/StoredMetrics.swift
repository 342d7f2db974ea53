/// The metrics of a run on an object store, where they come late: what the log's segments there lack is in the decisions of
/// the reports that were committed, evicted ones too.
struct StoredMetrics: Sendable {
    private static let limit = 1 << 30

    let backend: any StorageBackend

    /// Every row that anybody can know of, in the order of reports. Of the decisions only those are read that the segments do
    /// not make needless, if they are not `known` already.
    func rows(_ known: [KnownDecision]?) async throws(StorageError) -> [MetricsRow] {
        // First the segments: a row may go from a decision to a segment meanwhile, not the other way.
        let published = try await published()
        var decisions = known ?? []
        if known == nil, let runID = try await RunReader(backend: backend).runID() {
            let there = Self.reports(published)
            decisions = try await DecisionLog(backend: backend, runID: runID).readAll { !there.contains($0) }
        }
        return MetricsHistory.ordered(published + decisions.compactMap { MetricsRow($0.decision) })
    }

    /// The lines of all segments, as they stand there.
    private func published() async throws(StorageError) -> [MetricsRow] {
        let segments = try await backend.list(RunLayout.metrics).compactMap { MetricsSegmentName($0) }.sorted()
        let contents = Slots<[UInt8]>(count: segments.count)
        try await Engine.shared.forEach(Array(segments.indices), limit: 16) { index throws(StorageError) in
            let key = RunLayout.metrics + segments[index].fileName
            if let object = try await backend.read(key, limit: Self.limit) { contents.set(index, object.bytes) }
        }
        var rows: [MetricsRow] = []
        for (segment, bytes) in zip(segments, contents.takeAll()) {
            rows += MetricsHistory.rows(bytes ?? [], of: segment)
        }
        return rows
    }

    /// Which reports have a row in a segment.
    func reports() async throws(StorageError) -> ReportSet { Self.reports(try await published()) }

    private static func reports(_ rows: [MetricsRow]) -> ReportSet {
        var reports = ReportSet()
        for row in rows where row.rank == 0 { reports.insert(row.sequence) }
        return reports
    }
}

extension MetricsRow {
    /// The row of a report whose checkpoint was committed; nil of one that was given up.
    init?(_ decision: Decision) {
        guard decision.state != .aborted, let summary = decision.summary else { return nil }
        self.init(
            sequence: decision.attempt.sequence, rank: 0, time: summary.createdAt ?? 0,
            checkpointName: decision.physicalName, metrics: summary.metrics)
    }
}
