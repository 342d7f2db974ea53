internal import CStorage
internal import Synchronization

/// A mutex that is held over calls of the file system: who waits for it lets forks pass.
///
/// With a plain `Mutex` the holder, back from its call, would wait for a fork, the fork for the one that waits for the mutex, and
/// that one for the holder.
struct SlowMutex<Value: ~Copyable>: ~Copyable, Sendable {
    private let mutex: Mutex<Value>

    init(_ value: consuming sending Value) { mutex = Mutex(value) }

    borrowing func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        if let result = try mutex.withLockIfAvailable(body) { return result }
        let depth = cs_fork_pause()
        return try mutex.withLock { (value) throws(Failure) in
            cs_fork_resume(depth)
            return try body(&value)
        }
    }
}
