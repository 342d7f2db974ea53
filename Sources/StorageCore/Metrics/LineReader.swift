internal import CStorage
internal import Glibc

/// Reads the whole lines of a file that may still grow. What stands behind the last newline is no line yet.
struct LineReader {
    /// A longer line is taken for a torn end: the log refuses lines of half that size.
    static let maximumLineBytes = 32 << 20
    static let chunkBytes = 1 << 20

    let file: OpenFile
    /// Where the next line begins.
    private(set) var offset: Int
    private var pending: [UInt8] = []

    init(_ path: String, from offset: Int = 0) throws(StorageError) {
        file = try OpenFile(path, O_RDONLY)
        self.offset = offset
    }

    /// Hands out the lines that are there by now, without their newline, until `body` returns false.
    mutating func forEach(_ body: (UnsafeBufferPointer<UInt8>) throws(StorageError) -> Bool) throws(StorageError) {
        var chunk = [UInt8](repeating: 0, count: Self.chunkBytes)
        while true {
            let place = offset + pending.count
            let count = try System.check("read", file.path) {
                chunk.withUnsafeMutableBytes { cs_pread(file.descriptor, $0.baseAddress, $0.count, off_t(place)) }
            }
            if count == 0 || pending.count > Self.maximumLineBytes { return }
            pending += chunk[..<count]
            guard try deliver(body) else { return }
        }
    }

    /// Delivers the whole lines of `pending` and drops them; false when `body` has had enough.
    private mutating func deliver(
        _ body: (UnsafeBufferPointer<UInt8>) throws(StorageError) -> Bool
    ) throws(StorageError) -> Bool {
        var used = 0
        let result = pending.withUnsafeBufferPointer { bytes -> Result<Bool, StorageError> in
            do throws(StorageError) {
                while let start = bytes.baseAddress, used < bytes.count,
                    let newline = memchr(start + used, 0x0A, bytes.count - used)
                {
                    let length = UnsafeRawPointer(newline) - UnsafeRawPointer(start + used)
                    let line = UnsafeBufferPointer(rebasing: bytes[used..<(used + length)])
                    let goesOn = try body(line)
                    ForkYield.passed(used, used + length + 1)
                    used += length + 1
                    if !goesOn { return .success(false) }
                }
                return .success(true)
            } catch {
                return .failure(error)
            }
        }
        pending.removeFirst(used)
        offset += used
        return try result.get()
    }
}
