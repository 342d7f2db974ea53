import CStorage
import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// A handler of fork() takes no context.
private enum Moment {
    static let isForking = Atomic<Bool>(false)
    static let hasLeft = Atomic<Bool>(false)

    /// Registered last, called first.
    static func watch() {
        cs_fork_enter()
        cs_fork_leave()
        pthread_atfork({ Moment.isForking.store(true, ordering: .sequentiallyConsistent) }, nil, nil)
    }
}

private final class Held: Sendable { let mutex = SlowMutex(()) }

/// Forks and locks; each in a process of its own. A fork that hangs ends with an alarm.
struct ForkTests {
    @Test func `P12 a fork waits until nobody is within our code`() async {
        await #expect(processExitsWith: .success) {
            alarm(300)
            Moment.watch()
            cs_fork_limit(250_000)
            let entered = Flag()
            #expect(
                NamedThread.start("inside") {
                    entered.raise()
                    while !Moment.isForking.load(ordering: .sequentiallyConsistent) {}
                    // Long enough for a fork that does not wait.
                    let end = cs_monotonic_ns() + 50_000_000
                    while cs_monotonic_ns() < end {}
                    Moment.hasLeft.store(true, ordering: .sequentiallyConsistent)
                })
            while !entered.isSet { sched_yield() }
            let child = forkProcess()
            if child == 0 { _exit(Moment.hasLeft.load(ordering: .sequentiallyConsistent) ? 0 : 3) }
            var status: Int32 = 0
            #expect(waitpid(child, &status, 0) == child && status == 0)
        }
    }

    @Test func `P12 a fork does not wait for who waits, nor for the disk, nor for itself`() async {
        await #expect(processExitsWith: .success) {
            alarm(300)
            cs_fork_limit(1_000_000)
            let monitor = Monitor()
            var ends: [Int32] = [0, 0]
            #expect(cs_pipe(&ends) == 0)
            let (reading, ready) = (ends[0], (0..<5).map { _ in Flag() })
            let held = Held()
            let waiters: [@Sendable () -> Void] = [
                {
                    var byte: UInt8 = 0
                    ready[0].raise()
                    _ = cs_read(reading, &byte, 1)
                },
                {
                    monitor.withLock {
                        ready[1].raise()
                        monitor.wait()
                        monitor.wait()
                    }
                },
                {
                    held.mutex.withLock { _ in
                        var byte: UInt8 = 0
                        ready[3].raise()
                        _ = cs_read(reading, &byte, 1)
                    }
                },
                {
                    while !ready[3].isSet { sched_yield() }
                    ready[4].raise()
                    held.mutex.withLock { _ in }
                },
                {
                    monitor.withLock {
                        ready[2].raise()
                        _ = monitor.wait(untilMonotonic: .max)
                    }
                },
            ]
            for waiter in waiters { #expect(NamedThread.start("waiting", waiter)) }
            while ready.contains(where: { !$0.isSet }) { sched_yield() }
            // Whoever forks may be within our code.
            cs_fork_enter()
            defer { cs_fork_leave() }
            let child = forkProcess()
            if child == 0 {
                // Nor is the child's gate shut.
                let own = Flag()
                _ = NamedThread.start("own") { own.raise() }
                while !own.isSet { sched_yield() }
                _exit(0)
            }
            var status: Int32 = 0
            #expect(waitpid(child, &status, 0) == child && status == 0)
        }
    }
}
