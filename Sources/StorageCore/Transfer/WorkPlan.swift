internal import Glibc

/// How the bytes of many files are cut into pieces that threads take one after another. Pure.
struct WorkPlan: Sendable {
    enum Item: Sendable, Equatable {
        /// Whole files, by index.
        case files(Range<Int>)
        /// Some bytes of one large file; a multiple of the block size but for the end of the file.
        case part(file: Int, bytes: Range<Int>)
    }

    /// In the order in which they are best begun.
    private(set) var items: [Item] = []
    /// How many parts each large file has, by index of the file.
    private(set) var parts: [Int: Int] = [:]

    static let largestPart = 64 << 20
    private static let filesPerBatch = 32
    private static let bytesPerBatch = 16 << 20

    /// `workers`: how many threads share the work.
    init(sizes: [Int], workers: Int) {
        let total = ByteSum.of(sizes)
        let block = CRC32C.blockSize
        // Small enough that every thread gets some of one file, large enough that it reads on for a while.
        let fair = max(0, total) / max(1, 4 * workers) / block * block
        let part = min(Self.largestPart, max(block, fair))
        var start = 0
        var batchBytes = 0
        func endBatch(at end: Int) {
            if start < end { items.append(.files(start..<end)) }
            start = end
            batchBytes = 0
        }
        for (index, size) in sizes.enumerated() {
            if size > part {
                endBatch(at: index)
                start = index + 1
                var from = 0
                while from < size {
                    let to = size - from > part ? from + part : size
                    items.append(.part(file: index, bytes: from..<to))
                    from = to
                }
                parts[index] = (size + part - 1) / part
                continue
            }
            batchBytes += size
            if index + 1 - start >= Self.filesPerBatch || batchBytes >= min(part, Self.bytesPerBatch) {
                endBatch(at: index + 1)
            }
        }
        endBatch(at: sizes.count)
    }

    /// Threads for work that moves bytes: more than cores only where calls wait for a network.
    static func workers(onNetwork: Bool) -> Int {
        let cores = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        return onNetwork ? Engine.shared.width : min(Engine.shared.width, max(2, min(8, cores)))
    }
}
