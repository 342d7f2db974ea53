import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// A directory of a test's own, removed with it.
final class MetricsScratch {
    let path: String

    init() throws {
        path = "/tmp/raystorage-metrics-test-\(Environment.system.randomHex(8))"
        try System.makeDirectories(path)
    }

    deinit { try? System.removeTree(path) }

    func text(_ name: String) throws -> String {
        let file = try OpenFile(Path.join(path, name), O_RDONLY)
        return String(decoding: try file.readAll(limit: 1 << 30), as: UTF8.self)
    }

    func append(_ text: String, to name: String) throws {
        let file = try OpenFile(Path.join(path, name), O_WRONLY | O_CREAT | O_APPEND)
        try file.write(Array(text.utf8))
    }

    var segments: [String] {
        get throws { try MetricsSegmentName.list(runDirectory: path).map(\.fileName) }
    }

    var rows: [Int] {
        get throws { try MetricsHistory.read(runDirectory: path).map(\.sequence.index) }
    }
}

/// System calls that fail on demand.
final class FaultyCalls: Sendable {
    struct Plan: Sendable {
        /// For each of the next writes how many bytes are taken, or minus an errno; then all of them.
        var writes: [Int] = []
        /// For each of the next fsyncs an errno, or 0 for success; then success.
        var syncs: [Int32] = []
        /// What a failing fsync takes: that many bytes at the end become zero.
        var loses = 0
        var truncatesFail = false
        var writeCount = 0
        var syncCount = 0
    }

    let plan = Mutex(Plan())

    var calls: FileCalls {
        var calls = FileCalls.system
        calls.write = { descriptor, bytes, count in
            let outcome = self.plan.withLock { plan in
                plan.writeCount += 1
                return plan.writes.isEmpty ? count : plan.writes.removeFirst()
            }
            guard outcome >= 0 else {
                errno = Int32(-outcome)
                return -1
            }
            return Glibc.write(descriptor, bytes, min(count, outcome))
        }
        calls.synchronize = { descriptor in
            let (number, loss) = self.plan.withLock { plan in
                plan.syncCount += 1
                return (plan.syncs.isEmpty ? 0 : plan.syncs.removeFirst(), plan.loses)
            }
            if number != 0, loss > 0 { Self.zero(loss, of: descriptor) }
            errno = number
            return number == 0 ? 0 : -1
        }
        calls.truncate = { descriptor, length in
            if self.plan.withLock({ $0.truncatesFail }) {
                errno = EIO
                return -1
            }
            return ftruncate(descriptor, off_t(length))
        }
        return calls
    }

    private static func zero(_ count: Int, of descriptor: Int32) {
        var info = stat()
        // Another descriptor: with O_APPEND pwrite appends.
        let file = open("/proc/self/fd/\(descriptor)", O_WRONLY)
        guard file >= 0, fstat(file, &info) == 0 else { return }
        let length = min(count, Int(info.st_size))
        _ = pwrite(file, [UInt8](repeating: 0, count: length), length, info.st_size - length)
        close(file)
    }
}

@Suite struct MetricsLogTests {
    private let scratch: MetricsScratch
    private let faults = FaultyCalls()

    init() throws { scratch = try MetricsScratch() }

    private func log(
        epoch: Int = 1, segmentBytes: Int = 64 << 20, tailBytes: Int = 8 << 20, lineBytes: Int = 16 << 20,
        isDurable: Bool = true
    ) -> MetricsLog {
        MetricsLog(
            runDirectory: scratch.path, epoch: epoch, rank: 0, isDurable: isDurable,
            limits: MetricsLog.Limits(segmentBytes: segmentBytes, tailBytes: tailBytes, lineBytes: lineBytes),
            calls: faults.calls)
    }

    private func report(_ log: MetricsLog, _ index: Int, _ metrics: String = "{}") throws(StorageError) {
        try log.append(index: index, time: 1.5, checkpointName: nil, metricsJSON: metrics)
    }

    private var firstSegment: String {
        get throws { try scratch.text(".raystorage/metrics/1-0-0.jsonl") }
    }

    @Test func `a report is one line, written by one call`() throws {
        let log = log()
        #expect(try scratch.segments == [])
        try log.append(
            index: 17, time: 1_795_425_570.12, checkpointName: "best \"1\"",
            metricsJSON: "{\"loss\":\n NaN,\r\n\"s\":\"\\n\"}")
        try report(log, 18, "{ }")
        let lines =
            #"{"index":17,"time":1795425570.12,"checkpoint":"best \"1\"","metrics":{"loss":  NaN,  "s":"\n"}}"#
            + "\n" + #"{"index":18,"time":1.5,"checkpoint":null,"metrics":{ }}"# + "\n"
        #expect(try firstSegment == lines)
        #expect(faults.plan.withLock { $0.writeCount } == 2)
    }

    @Test func `reads back what was reported`() throws {
        let log = log()
        try log.append(index: 0, time: 2, checkpointName: "größe", metricsJSON: #"{"loss":-Infinity,"a":{"b":[1]}}"#)
        try log.close()
        let row = try #require(try MetricsHistory.read(runDirectory: scratch.path).first)
        #expect(row.sequence == ReportSequence(epoch: 1, index: 0))
        #expect(row.time == 2 && row.checkpointName == "größe" && row.rank == 0)
        #expect(row.metrics.compact == #"{"loss":-Infinity,"a":{"b":[1]}}"#)
    }

    @Test(arguments: ["", "[]", "3", "{", "{\"a\":}", "{} {}", "{\"a\":\"\n\"}", "nul"])
    func `refuses metrics that are no JSON object`(text: String) throws {
        let log = log()
        let error = #expect(throws: StorageError.self) { try report(log, 0, text) }
        #expect(error?.code == .invalidArgument)
        try report(log, 0)
        #expect(try scratch.rows == [0])
    }

    @Test func `refuses a line beyond the limit and a closed log`() throws {
        let log = log(lineBytes: 100)
        let long = #expect(throws: StorageError.self) {
            try report(log, 0, "{\"a\":\"\(String(repeating: "x", count: 100))\"}")
        }
        #expect(long?.code == .invalidArgument)
        try report(log, 5)
        try log.close()
        try log.close()
        let closed = #expect(throws: StorageError.self) { try report(log, 6) }
        #expect(closed?.code == .closed)
        #expect(try scratch.rows == [5])
    }

    @Test func `takes reports in any order; of two lines of one report the first counts`() throws {
        let log = log()
        for (index, metrics) in [(2, "{}"), (3, "{}"), (0, #"{"a":1}"#), (3, #"{"a":2}"#), (1, "{}")] {
            try report(log, index, metrics)
        }
        let rows = try MetricsHistory.read(runDirectory: scratch.path)
        #expect(rows.map(\.sequence.index) == [0, 1, 2, 3])
        #expect(rows.map(\.metrics.compact) == [#"{"a":1}"#, "{}", "{}", "{}"])
    }

    @Test func `many threads leave whole lines`() throws {
        let log = log(segmentBytes: 10_000)
        let next = Mutex(0)
        let threads = (0..<4).map { _ in
            TestThread {
                for _ in 0..<500 {
                    next.withLock { index in
                        try? log.append(index: index, time: 0, checkpointName: nil, metricsJSON: "{\"i\":\(index)}")
                        index += 1
                    }
                    try? log.sync()
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(try scratch.rows == Array(0..<2000))
        #expect(try scratch.segments.count > 5)
    }

    @Test func `a full disk refuses the line and leaves nothing of it`() throws {
        let log = log()
        try report(log, 0)
        faults.plan.withLock { $0.writes = [10, -Int(ENOSPC)] }
        let error = #expect(throws: StorageError.self) { try report(log, 1) }
        #expect(error?.code == .noSpace)
        #expect(try firstSegment.hasSuffix("{}}\n"))
        try report(log, 1)
        #expect(try scratch.rows == [0, 1])
        #expect(try firstSegment.split(separator: "\n").count == 2)
    }

    @Test func `a short write is tried again, and not for ever`() throws {
        let log = log()
        faults.plan.withLock { $0.writes = [3, -Int(EINTR), 5] }
        try report(log, 0)
        faults.plan.withLock { $0.writes = [3, 3, 3, 3] }
        let error = #expect(throws: StorageError.self) { try report(log, 1) }
        #expect(error?.code == .io && error?.isRetryable == true)
        #expect(try scratch.rows == [0])
    }

    @Test func `a piece that cannot be cut off stays alone`() throws {
        let log = log()
        try report(log, 0)
        faults.plan.withLock {
            $0.writes = [10, -Int(ENOSPC)]
            $0.truncatesFail = true
        }
        #expect(throws: StorageError.self) { try report(log, 1) }
        faults.plan.withLock { $0.writes = [] }
        try report(log, 2)
        try report(log, 3)
        #expect(try scratch.rows == [0, 2, 3])
        // And it does not come back as a line of a new segment.
        faults.plan.withLock { $0.syncs = [EIO] }
        try log.sync()
        try System.unlink(Path.join(scratch.path, ".raystorage/metrics/1-0-0.jsonl"))
        #expect(try scratch.rows == [0, 2, 3])
    }

    @Test func `a torn end is no row, nor are zeros`() throws {
        let log = log()
        try report(log, 0)
        try scratch.append(
            "\0\0\0\n{\"index\":1}\n{\"index\":2,\"time\":1,\"checkpoint\":null,\"metrics\":{}",
            to: ".raystorage/metrics/1-0-0.jsonl")
        #expect(try scratch.rows == [0])
        try scratch.append("}", to: ".raystorage/metrics/1-0-0.jsonl")
        #expect(try scratch.rows == [0])
        try scratch.append("\n", to: ".raystorage/metrics/1-0-0.jsonl")
        #expect(try scratch.rows == [0, 2])
    }

    @Test func `goes on in a new segment at the size limit`() throws {
        let log = log(segmentBytes: 120)
        for index in 0..<5 { try report(log, index) }
        #expect(try scratch.segments == ["1-0-0.jsonl", "1-0-1.jsonl", "1-0-2.jsonl"])
        #expect(try scratch.rows == [0, 1, 2, 3, 4])
        try log.sync()
        #expect(faults.plan.withLock { $0.syncCount } == 3)
    }

    @Test func `syncs only what is new`() throws {
        let log = log()
        try log.sync()
        try report(log, 0)
        try log.sync()
        try log.sync()
        #expect(faults.plan.withLock { $0.syncCount } == 1)
        try report(log, 1)
        try log.close()
        #expect(faults.plan.withLock { $0.syncCount } == 2)
    }

    @Test func `syncs nothing when durability is none`() throws {
        let log = log(segmentBytes: 120, isDurable: false)
        for index in 0..<5 { try report(log, index) }
        try log.close()
        #expect(faults.plan.withLock { $0.syncCount } == 0)
        #expect(try scratch.rows == [0, 1, 2, 3, 4])
    }

    /// The old segment is removed: what an fsync refused may be gone from the disk.
    @Test(arguments: [8 << 20, 100, 0])
    func `what a failed fsync may have lost is written again`(tailBytes: Int) throws {
        let log = log(segmentBytes: 400, tailBytes: tailBytes)
        for index in 0..<3 { try report(log, index) }
        try log.sync()
        for index in 3..<9 { try report(log, index) }
        #expect(try scratch.segments.count == 2)
        faults.plan.withLock { $0.syncs = [EIO, EIO] }
        try log.sync()
        #expect(try scratch.rows == Array(0..<9))
        let kept = try firstSegment.split(separator: "\n").prefix(3).joined(separator: "\n") + "\n"
        try System.unlink(Path.join(scratch.path, ".raystorage/metrics/1-0-0.jsonl"))
        try System.unlink(Path.join(scratch.path, ".raystorage/metrics/1-0-1.jsonl"))
        try scratch.append(kept, to: ".raystorage/metrics/1-0-0.jsonl")
        #expect(try scratch.rows == Array(0..<9))
        try report(log, 9)
        try log.close()
        #expect(try scratch.rows == Array(0..<10))
    }

    @Test(arguments: [(8 << 20, 2000), (0, 2000), (8 << 20, 3)])
    func `P14: lines that were synced before and lie in the lost block are written again`(
        tailBytes: Int, count: Int
    ) throws {
        let log = log(tailBytes: tailBytes)
        for index in 0..<count {
            try report(log, index)
            if index % 7 == 0 { try log.sync() }
        }
        try log.sync()
        try report(log, count, #"{"last":true}"#)
        faults.plan.withLock {
            $0.syncs = [EIO]
            $0.loses = 4096
        }
        try log.sync()
        #expect(try scratch.rows.prefix(count) == Array(0..<count)[...])
        if tailBytes > 0 { #expect(try scratch.rows.last == count) }
        // Bounded: not the whole log again.
        #expect(try scratch.text(".raystorage/metrics/1-0-1.jsonl").utf8.count < 70_000)
    }

    @Test func `a file whose fsync failed once is never trusted again`() throws {
        let log = log()
        try report(log, 0)
        // The first segment fails, the rewrite cannot be written.
        faults.plan.withLock {
            $0.syncs = [EIO]
            $0.writes = [-Int(ENOSPC)]
        }
        let error = #expect(throws: StorageError.self) { try log.sync() }
        #expect(error?.code == .noSpace)
        #expect(try scratch.segments == ["1-0-0.jsonl"])
        try report(log, 1)
        // Now everything works; the first segment must not count as synced.
        try log.sync()
        try System.unlink(Path.join(scratch.path, ".raystorage/metrics/1-0-0.jsonl"))
        #expect(try scratch.rows == [0, 1])
    }

    @Test func `a rewrite that cannot be synced either is an error, and the next one heals`() throws {
        let log = log()
        try report(log, 0)
        faults.plan.withLock { $0.syncs = [EIO, EIO] }
        #expect(throws: StorageError.self) { try log.sync() }
        try log.sync()
        for number in 0..<2 { try System.unlink(Path.join(scratch.path, ".raystorage/metrics/1-0-\(number).jsonl")) }
        #expect(try scratch.rows == [0])
    }

    @Test func `another log of the same epoch takes another segment`() throws {
        try report(log(), 0)
        try report(log(), 1)
        #expect(try scratch.segments == ["1-0-0.jsonl", "1-0-1.jsonl"])
    }

    @Test func `history goes by epoch and index, as numbers`() throws {
        for epoch in [10, 2, 1] {
            let log = log(epoch: epoch, segmentBytes: 60)
            for index in 0..<12 { try report(log, index) }
        }
        try scratch.append("x", to: ".raystorage/metrics/notes.txt")
        let rows = try MetricsHistory.read(runDirectory: scratch.path).map(\.sequence)
        #expect(rows == rows.sorted() && rows.count == 36)
        #expect(try MetricsHistory.read(runDirectory: "/tmp/none-\(Environment.system.randomHex(4))").isEmpty)
    }
}

/// A plain thread with a join.
final class TestThread: @unchecked Sendable {
    private var handle = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Box(body))
        pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, box.toOpaque())
    }

    func join() { pthread_join(handle, nil) }

    private final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}
