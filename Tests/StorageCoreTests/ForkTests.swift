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

/// What computes for long without a call of the file system, one after another.
private enum Computation: CaseIterable {
    case parser, escapes, validation, writer, manifestWriter, manifestReader, tree, sort, segment, table, tableReader,
        hash

    /// Makes what it needs; the computation itself meets the gate nowhere but where it lets forks pass.
    func prepared() throws -> @Sendable () -> Void {
        let members = (0..<20_000).map { JSONMember("layer/\($0)", .number(Double($0))) }
        let object = JSONValue.object(members)
        let text = object.compactBytes
        let nested = JSONValue.object([JSONMember("a", object), JSONMember("b", object)])
        let files = (0..<5_000).map { ManifestTests.file("file-\($0)") }
        switch self {
        case .parser: return { _ = try? JSONParser.parse(text) }
        case .escapes:
            let escapes = Array("\"".utf8) + [UInt8](repeating: UInt8(ascii: "\\"), count: 400_000) + Array("\"".utf8)
            return { _ = try? JSONParser.parse(escapes) }
        case .validation: return { _ = try? JSONParser.validate(text) }
        case .writer: return { _ = object.compactBytes }
        case .manifestWriter:
            let manifest = try ManifestTests.manifest(files)
            return { _ = manifest.document }
        case .manifestReader:
            let document = try ManifestTests.manifest(files).document
            return { _ = try? Manifest.parse(document, path: "m") }
        case .tree:
            let reader = ManifestReader(path: "m")
            return { try? reader.checkTree(files) }
        case .sort:
            return {
                var unsorted = files
                PathBytes.sort(&unsorted) { $0.path }
            }
        case .segment:
            let line = Array("{\"index\":1,\"time\":1,\"checkpoint\":null,\"metrics\":{}}\n".utf8)
            let bytes = Array(repeatElement(line, count: 5_000).joined())
            return { _ = MetricsHistory.rows(bytes, of: MetricsSegmentName(epoch: 1, rank: 0, number: 0)) }
        case .table: return { _ = ProgressTable(firstRow: nested) }
        case .tableReader:
            let table = ProgressTable(firstRow: .make(["raystorage_epoch": 1, "raystorage_index": 1]))
            let line = [UInt8](repeating: UInt8(ascii: ","), count: 200_000)
            return { _ = table.sequence(ofLine: line) }
        case .hash:
            let bytes = [UInt8](repeating: 1, count: 8 << 20)
            return { _ = Hashing.sha256(bytes) }
        }
    }
}

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

    @Test func `P12 a fork does not wait for the end of a long computation`() async {
        await #expect(processExitsWith: .success) {
            cs_fork_limit(1_000_000)
            for computation in Computation.allCases {
                let compute = try computation.prepared()
                let (entered, forked, ended) = (Flag(), Flag(), Flag())
                alarm(120)
                #expect(
                    NamedThread.start("computing") {
                        entered.raise()
                        // Never leaves by itself.
                        while !forked.isSet { compute() }
                        ended.raise()
                    })
                while !entered.isSet { sched_yield() }
                let child = forkProcess()
                if child == 0 { _exit(0) }
                forked.raise()
                var status: Int32 = 0
                #expect(waitpid(child, &status, 0) == child && status == 0)
                while !ended.isSet { sched_yield() }
            }
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
