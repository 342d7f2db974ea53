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
    /// Passes under way, between whose files no memory is given back.
    private var passes = 0

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

    /// For many small files: buffers go back to the system behind the last of them, not behind each.
    func forPass<Value: Sendable>(
        _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        monitor.withLock { passes += 1 }
        defer {
            monitor.withLock {
                passes -= 1
                release()
            }
        }
        return try await body()
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
            release()
            monitor.signal()
        }
    }

    /// With the monitor locked.
    private func release() {
        guard inUse == 0, passes == 0 else { return }
        free.forEach { $0.deallocate() }
        free = []
    }
}
