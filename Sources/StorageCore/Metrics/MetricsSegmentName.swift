/// The file name of one segment of the metrics log, `<epoch>-<rank>-<number>.jsonl`. One process writes it, ever.
struct MetricsSegmentName: Hashable, Comparable, Sendable {
    var epoch: Int
    var rank: Int
    /// From 0; the next one follows at the size limit or after a failed fsync.
    var number: Int

    /// The directory of the segments below a run directory.
    static let directory = ".raystorage/metrics"

    init(epoch: Int, rank: Int, number: Int) {
        self.epoch = epoch
        self.rank = rank
        self.number = number
    }

    init?(_ fileName: String) {
        let bytes = Array(fileName.utf8)
        let suffix = Array(".jsonl".utf8)
        guard bytes.count > suffix.count, bytes.suffix(suffix.count).elementsEqual(suffix) else { return nil }
        let parts = bytes.dropLast(suffix.count).split(
            separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard parts.count == 3, let epoch = Decimal.strict(parts[0]), let rank = Decimal.strict(parts[1]),
            let number = Decimal.strict(parts[2])
        else { return nil }
        guard max(epoch, rank, number) <= ReportSequence.limit else { return nil }
        self.init(epoch: epoch, rank: rank, number: number)
    }

    var fileName: String { "\(epoch)-\(rank)-\(number).jsonl" }

    /// By epoch, then by rank, then as written.
    static func < (left: MetricsSegmentName, right: MetricsSegmentName) -> Bool {
        (left.epoch, left.rank, left.number) < (right.epoch, right.rank, right.number)
    }

    /// The segments of a run, sorted; none when there is no such directory. Other files there are left alone.
    static func list(runDirectory: String) throws(StorageError) -> [MetricsSegmentName] {
        do throws(StorageError) {
            return try System.list(Path.join(runDirectory, directory)).compactMap { MetricsSegmentName($0) }.sorted()
        } catch {
            if error.code == .notFound { return [] }
            throw error
        }
    }

    func path(runDirectory: String) -> String { Path.join(Path.join(runDirectory, Self.directory), fileName) }
}
