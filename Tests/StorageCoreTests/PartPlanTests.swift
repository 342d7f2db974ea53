import Testing

@testable import StorageCore

@Suite struct PartPlanTests {
    private func plan(_ size: Int, preferred: Int = PartPlan.usualPartBytes) throws -> PartPlan {
        try .upload(size: size, preferred: preferred, capabilities: MemoryObjectStore.usual, path: "f")
    }

    @Test func `up to 32 MiB are one request, beyond that equal parts of whole blocks`() throws {
        for size in [0, 1, CRC32C.blockSize, 32 << 20] { #expect(try plan(size).count == 1) }
        let two = try plan(32 << 20 + 1)
        #expect(two.count == 2 && two.range(1).count == 1)
        #expect(try plan(100 << 20, preferred: 9 << 20).partBytes == 16 << 20)
    }

    @Test(arguments: [1 << 30, 320_000 << 20, 320_000 << 20 + 1, 5 << 40, 48 << 40])
    func `never more than 10,000 parts`(size: Int) throws {
        let plan = try plan(size)
        #expect(plan.count <= 10_000)
        #expect(plan.partBytes % CRC32C.blockSize == 0)
        #expect(plan.range(plan.count - 1).upperBound == size && !plan.range(plan.count - 1).isEmpty)
        #expect(plan.range(plan.count - 2).count == plan.partBytes)
    }

    @Test func `a file that no number of parts can carry is refused`() {
        #expect(throws: StorageError.self) { try plan(60 << 40) }
        #expect(throws: StorageError.self) { try plan(.max) }
    }

    @Test func `a part's CRC is combined from those of its blocks`() throws {
        var random = SeededGenerator(7)
        let bytes = random.bytes(3 * CRC32C.blockSize + 77)
        let blocks = stride(from: 0, to: bytes.count, by: CRC32C.blockSize).map {
            CRC32C.of(Array(bytes[$0..<min(bytes.count, $0 + CRC32C.blockSize)]))
        }
        let plan = PartPlan(size: bytes.count, partBytes: 2 * CRC32C.blockSize)
        for part in 0..<plan.count {
            let direct = CRC32C.of(Array(bytes[plan.range(part)]))
            #expect(plan.crc32c(part, blocks: blocks) == direct)
        }
    }

    @Test func `every part and file has its turn once, small ones among the large`() {
        let sizes = [1, 200, 3, 90, 2, 400, 1, 1]
        let plans = sizes.map { PartPlan(size: $0, partBytes: 10) }
        let order = PartPlan.order(plans)
        let count: Int = plans.reduce(0) { $0 + $1.count }
        #expect(order.count == count)
        for (file, plan) in plans.enumerated() {
            let parts = order.filter { $0.file == file }.map(\.part)
            #expect(parts == Array(0..<plan.count))
        }
        let large = order.map(\.file).filter { plans[$0].count > 1 }
        #expect(Array(large.prefix(4)) == [1, 3, 5, 1])
        let firstSmall = order.firstIndex { plans[$0.file].count == 1 } ?? order.count
        #expect(firstSmall < order.count / 2)
    }
}
