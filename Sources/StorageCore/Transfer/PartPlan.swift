/// How one file goes over the network: in one request, or in equal parts that are multiples of the block size, so that
/// their CRCs combine from those taken at sealing. Pure.
struct PartPlan: Sendable, Equatable {
    let size: Int
    /// All parts but the last.
    let partBytes: Int
    /// 1: one request for the whole.
    var count: Int { size <= partBytes ? 1 : (size - 1) / partBytes + 1 }

    /// Large enough that a request's cost does not count, small enough that connections share a file.
    static let usualPartBytes = 32 << 20

    init(size: Int, partBytes: Int) {
        self.size = max(0, size)
        self.partBytes = max(1, partBytes)
    }

    /// For an upload. `preferred` is rounded up to whole blocks and raised for files that would have too many parts.
    ///
    /// Errors: INVALID_ARGUMENT for a file that no number of parts can carry.
    static func upload(
        size: Int, preferred: Int = usualPartBytes, capabilities: ObjectStoreCapabilities, path: String
    ) throws(StorageError) -> PartPlan {
        let whole = max(min(preferred, 5 << 30), usualPartBytes)
        if size <= min(whole, capabilities.maximumPutBytes) { return PartPlan(size: size, partBytes: max(1, size)) }
        let parts = max(1, min(10_000, capabilities.maximumParts))
        let least = max(preferred, capabilities.partBytes.lowerBound, size / parts + (size % parts == 0 ? 0 : 1))
        let partBytes = CRC32C.blockCount(size: least).multipliedReportingOverflow(by: CRC32C.blockSize).partialValue
        let most = capabilities.partBytes.upperBound / CRC32C.blockSize * CRC32C.blockSize
        let fitting = min(partBytes, most)
        guard fitting > 0, (size - 1) / fitting < parts else {
            throw StorageError(
                .invalidArgument,
                "\(quoted(path)) has \(size) bytes; the store takes at most \(parts) parts of \(most) bytes",
                details: [("path", .string(path)), ("size", JSONValue(size))])
        }
        return PartPlan(size: size, partBytes: fitting)
    }

    /// The bytes of a part, counted from 0.
    func range(_ index: Int) -> Range<Int> {
        let (product, overflow) = index.multipliedReportingOverflow(by: partBytes)
        let start = overflow ? size : min(size, product)
        return start..<(start + min(partBytes, size - start))
    }

    /// The CRC of a part, from those of the file's blocks.
    func crc32c(_ index: Int, blocks: [UInt32]) -> UInt32 {
        let range = range(index)
        let first = min(blocks.count, range.lowerBound / CRC32C.blockSize)
        let last = min(blocks.count, first + CRC32C.blockCount(size: range.count))
        return CRC32C.combine(blocks: blocks[first..<last], size: range.count)
    }

    /// One request: a part of a file by its place, or the whole.
    struct Unit: Sendable, Equatable {
        var file: Int
        var part: Int
    }

    /// The order of all requests. Parts of a few large files take turns, so that none of them waits for the end, and small
    /// files are spread among them: those wait for answers while parts fill the link.
    static func order(_ plans: [PartPlan]) -> [Unit] {
        let large = plans.indices.filter { plans[$0].count > 1 }
        let small = plans.indices.filter { plans[$0].count == 1 }
        var parts: [Unit] = []
        for group in stride(from: 0, to: large.count, by: 4).map({ large[$0..<min(large.count, $0 + 4)] }) {
            for part in 0..<(group.map { plans[$0].count }.max() ?? 0) {
                for file in group where part < plans[file].count { parts.append(Unit(file: file, part: part)) }
            }
        }
        if parts.isEmpty { return small.map { Unit(file: $0, part: 0) } }
        var order: [Unit] = []
        order.reserveCapacity(parts.count + small.count)
        var placed = 0
        for (index, part) in parts.enumerated() {
            order.append(part)
            let due = (index + 1) * small.count / parts.count
            while placed < due {
                order.append(Unit(file: small[placed], part: 0))
                placed += 1
            }
        }
        return order
    }
}
