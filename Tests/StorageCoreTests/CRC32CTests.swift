import Testing

@testable import StorageCore

@Suite struct CRC32CTests {
    @Test func `gives the values of RFC 3720`() {
        #expect(CRC32C.of(Array("123456789".utf8)) == 0xE306_9283)
        #expect(CRC32C.of([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(CRC32C.of([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(CRC32C.of([]) == 0)
    }

    @Test(arguments: [0, 1, 2, 7, 8, 63, 64, 4096, 100_003])
    func `combines pieces to the value of the whole`(length: Int) {
        var generator = SeededGenerator(UInt64(length) + 1)
        let bytes = generator.bytes(length)
        for cut in Set([0, 1, length / 3, length / 2, length]) where cut <= length {
            let first = CRC32C.of(Array(bytes[..<cut]))
            let second = CRC32C.of(Array(bytes[cut...]))
            #expect(CRC32C.combine(first, second, secondLength: length - cut) == CRC32C.of(bytes))
        }
    }

    @Test(arguments: [0, 1, 3, 31, 4096, 8 << 20, (8 << 20) + 5])
    func `runs over zeros as if they were there`(count: Int) {
        let start = CRC32C.of([1, 2, 3])
        let direct = CRC32C.of([1, 2, 3] + [UInt8](repeating: 0, count: count))
        #expect(CRC32C.updateZeros(start, count: count) == direct)
    }

    @Test func `runs over more zeros than any memory holds`() {
        let half = CRC32C.updateZeros(0, count: 1 << 45)
        let whole = CRC32C.updateZeros(0, count: 1 << 46)
        #expect(CRC32C.combine(half, half, secondLength: 1 << 45) == whole)
        #expect(CRC32C.updateZeros(half, count: 1 << 45) == whole)
    }

    @Test func `puts blocks together`() {
        var generator = SeededGenerator(9)
        let bytes = generator.bytes(2 * CRC32C.blockSize + 77)
        let blocks = stride(from: 0, to: bytes.count, by: CRC32C.blockSize).map {
            CRC32C.of(Array(bytes[$0..<min(bytes.count, $0 + CRC32C.blockSize)]))
        }
        #expect(blocks.count == CRC32C.blockCount(size: bytes.count))
        #expect(CRC32C.combine(blocks: blocks, size: bytes.count) == CRC32C.of(bytes))
    }

    @Test(arguments: [1, 2, 4, 16]) func `plans every byte of every file once`(workers: Int) {
        let block = CRC32C.blockSize
        let sizes =
            [0, 1, 5 * block, 100 * block + 3, 7, 0, block, block + 1, 999 * block] + Array(repeating: 9, count: 99)
        let plan = WorkPlan(sizes: sizes, workers: workers)
        var seen = sizes.map { _ in [Range<Int>]() }
        for item in plan.items {
            switch item {
            case .files(let range): for file in range { seen[file].append(0..<sizes[file]) }
            case .part(let file, let bytes):
                #expect(
                    bytes.lowerBound % block == 0 && (bytes.upperBound % block == 0 || bytes.upperBound == sizes[file]))
                #expect(bytes.count <= WorkPlan.largestPart)
                seen[file].append(bytes)
            }
        }
        for (index, ranges) in seen.enumerated() {
            #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == sizes[index])
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
            #expect(plan.parts[index] ?? 1 == ranges.count)
        }
    }
}
