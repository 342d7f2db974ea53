internal import Synchronization

/// Checkpoint directories that this process is reading: eviction waits for them.
final class Pins: Sendable {
    private let counts = Mutex<[[UInt8]: Int]>([:])

    static var shared: Pins { Engine.shared.only(Pins.self) { Pins() } }

    func pin(_ directory: String) { counts.withLock { $0[Array(directory.utf8), default: 0] += 1 } }

    func unpin(_ directory: String) {
        counts.withLock { counts in
            let key = Array(directory.utf8)
            guard let count = counts[key] else { return }
            counts[key] = count > 1 ? count - 1 : nil
        }
    }

    func isPinned(_ directory: String) -> Bool { counts.withLock { $0[Array(directory.utf8)] != nil } }

    /// Runs `body` while the directory is pinned.
    static func holding<Value>(
        _ directory: String, _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        let pins = shared
        pins.pin(directory)
        defer { pins.unpin(directory) }
        return try await body()
    }
}
