internal import Glibc

/// Buffers of one size that tasks borrow; as many exist as were in use at once, and none when nobody works. Shared by
/// everything that one run copies, it is what bounds its bytes in flight.
final class BufferPool: @unchecked Sendable {
    // Proof for @unchecked: the variables are only touched with `monitor` locked, and a buffer's memory belongs to its
    // one borrower.

    /// 512 KiB stay in a core's second-level cache between the read, the CRC and the write.
    static let bufferSize = 512 << 10

    /// How many may be in use at once.
    let limit: Int
    private let monitor = Monitor()
    private var free: [UnsafeMutableRawBufferPointer] = []
    private var inUse = 0
    private var most = 0

    /// `limitBytes`: of all buffers together; one is always allowed.
    init(limitBytes: Int = .max) { limit = max(1, limitBytes / Self.bufferSize) }

    deinit { free.forEach { $0.deallocate() } }

    /// The most that were ever in use at once.
    var peak: Int { monitor.withLock { most } }

    /// Waits for a buffer where the limit is reached. Who holds one waits for nothing but the files, so that this ends when
    /// they answer.
    func withBuffer<Value>(
        _ progress: Progress, _ body: (UnsafeMutableRawBufferPointer) throws(StorageError) -> Value
    ) throws(StorageError) -> Value {
        let buffer = try take(progress)
        defer { giveBack(buffer) }
        return try body(buffer)
    }

    private func take(_ progress: Progress) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        try monitor.withLock { () throws(StorageError) in
            while inUse >= limit {
                try progress.checkCancelled()
                _ = Deadline(timeoutMilliseconds: 100).wait(on: monitor)
            }
            inUse += 1
            most = max(most, inUse)
            return free.popLast() ?? .allocate(byteCount: Self.bufferSize, alignment: 4096)
        }
    }

    private func giveBack(_ buffer: UnsafeMutableRawBufferPointer) {
        monitor.withLock {
            inUse -= 1
            free.append(buffer)
            if inUse == 0 {
                free.forEach { $0.deallocate() }
                free = []
            }
            monitor.signal()
        }
    }
}
