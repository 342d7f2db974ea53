internal import Glibc
internal import Synchronization

/// Buffers of one size that tasks borrow; as many exist as were ever in use at once.
final class BufferPool: Sendable {
    /// 512 KiB stay in a core's second-level cache between the read, the CRC and the write.
    static let bufferSize = 512 << 10

    private struct Buffer: @unchecked Sendable {
        // Proof for @unchecked: the memory belongs to whoever holds the value, and only one does.
        let bytes: UnsafeMutableRawBufferPointer
    }
    private let free = Mutex<[Buffer]>([])

    deinit { free.withLock { $0.forEach { $0.bytes.deallocate() } } }

    func withBuffer<Value>(
        _ body: (UnsafeMutableRawBufferPointer) throws(StorageError) -> Value
    ) throws(StorageError) -> Value {
        let buffer =
            free.withLock { $0.popLast() }
            ?? Buffer(bytes: .allocate(byteCount: Self.bufferSize, alignment: 4096))
        defer { free.withLock { $0.append(buffer) } }
        return try body(buffer.bytes)
    }
}
