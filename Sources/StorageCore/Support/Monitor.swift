internal import CStorage
internal import Glibc

/// A lock with a condition, for threads that wait for state: callers of the C interface and the engine's own. Tasks do
/// not wait on it; they suspend.
public final class Monitor: @unchecked Sendable {
    // Proof for @unchecked: both are pthread objects on the heap that are only touched through pthread calls, and they
    // live as long as self.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// Creates an unlocked monitor.
    public init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` with the lock held. Not recursive.
    public func withLock<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        lock()
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Whoever has it may be waiting for a disk, and forks are not to wait along.
    private func lock() {
        if pthread_mutex_trylock(mutex) == 0 { return }
        let depth = cs_fork_pause()
        pthread_mutex_lock(mutex)
        cs_fork_resume(depth)
    }

    /// Waits for a signal, with the lock held; also returns without one, so test the condition again.
    public func wait() {
        let depth = cs_fork_pause()
        pthread_cond_wait(condition, mutex)
        cs_fork_resume(depth)
    }

    /// Waits for a signal until that instant of `CLOCK_MONOTONIC`; false when the instant came first.
    public func wait(untilMonotonic nanoseconds: Int64) -> Bool {
        var time = timespec(
            tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        let depth = cs_fork_pause()
        defer { cs_fork_resume(depth) }
        return pthread_cond_timedwait(condition, mutex, &time) == 0
    }

    /// Wakes every waiter.
    public func broadcast() { pthread_cond_broadcast(condition) }

    /// Wakes one waiter.
    public func signal() { pthread_cond_signal(condition) }
}

/// When a wait ends: after `timeoutMilliseconds` from now (-1: never).
public struct Deadline: Sendable {
    /// The instant on `CLOCK_MONOTONIC`, nil for never.
    public let monotonicNanoseconds: Int64?

    /// Counts from now; negative means never.
    public init(timeoutMilliseconds: Int64) {
        guard timeoutMilliseconds >= 0 else {
            monotonicNanoseconds = nil
            return
        }
        let (nanoseconds, overflow) = timeoutMilliseconds.multipliedReportingOverflow(by: 1_000_000)
        let (instant, tooLate) = cs_monotonic_ns().addingReportingOverflow(overflow ? .max / 2 : nanoseconds)
        monotonicNanoseconds = tooLate ? nil : instant
    }

    /// Whether the instant has come.
    public var isPast: Bool { monotonicNanoseconds.map { cs_monotonic_ns() >= $0 } ?? false }

    /// Waits on a monitor that is locked until signalled or past; false when past.
    public func wait(on monitor: Monitor) -> Bool {
        guard let instant = monotonicNanoseconds else {
            monitor.wait()
            return true
        }
        return monitor.wait(untilMonotonic: instant)
    }
}
