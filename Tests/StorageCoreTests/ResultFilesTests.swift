import Glibc
import Synchronization
import Testing

@testable import StorageCore

@Suite struct ResultFilesTests {
    private let scratch: MetricsScratch
    private let faults = FaultyCalls()

    init() throws { scratch = try MetricsScratch() }

    private func files(batchBytes: Int = 1 << 20) -> ResultFiles {
        ResultFiles(
            runDirectory: scratch.path, runID: "0123456789abcdef0123456789abcdef",
            origin: { EpochOrigin(hostname: "h", processID: 7, startedAt: Double($0) * 100) },
            localTime: { _ in LocalTime(year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5) },
            calls: faults.calls, batchBytes: batchBytes)
    }

    private func log(_ epoch: Int) -> MetricsLog { MetricsLog(runDirectory: scratch.path, epoch: epoch) }

    private func report(_ epoch: Int, _ rows: [(index: Int, metrics: String)]) throws {
        let log = log(epoch)
        for row in rows {
            try log.append(
                index: row.index, time: Double(epoch * 100 + row.index), checkpointName: nil, metricsJSON: row.metrics)
        }
        try log.close()
    }

    private var results: [JSONValue] {
        get throws { try scratch.text("result.json").split(separator: "\n").map { try JSONParser.parse(String($0)) } }
    }

    private var table: [String] {
        get throws { try scratch.text("progress.csv").split(separator: "\r\n").map(String.init) }
    }

    private var places: [String] {
        get throws {
            try results.map { "\($0["raystorage_epoch"]?.intValue ?? -1).\($0["raystorage_index"]?.intValue ?? -1)" }
        }
    }

    private var tablePlaces: [String] {
        get throws {
            try table.dropFirst().map { line in
                line.split(separator: ",", omittingEmptySubsequences: false).suffix(2).joined(separator: ".")
            }
        }
    }

    @Test func `a row has the user's metrics and Ray's columns`() throws {
        let log = log(1)
        try log.append(index: 0, time: 102.5, checkpointName: "c~1", metricsJSON: #"{"loss":NaN,"n":{"a":[1,2]}}"#)
        try log.append(
            index: 2, time: 104, checkpointName: nil, metricsJSON: #"{"loss":-Infinity,"n":{"a":true},"new":1}"#)
        try files().update()
        let head =
            #""timestamp":102,"checkpoint_dir_name":"c~1","should_checkpoint":true,"done":false,"training_iteration":1,"#
        let date = #""trial_id":"01234567_00000","date":"2026-01-02_03-04-05","#
        let first =
            #"{"loss":NaN,"n":{"a":[1,2]},"# + head + date
            + #""time_this_iter_s":2.5,"time_total_s":2.5,"pid":7,"hostname":"h","node_ip":null,"config":{},"#
            + #""time_since_restore":2.5,"iterations_since_restore":1,"raystorage_epoch":1,"raystorage_index":0}"#
        let second =
            #"{"loss":-Infinity,"n":{"a":true},"new":1,"timestamp":104,"checkpoint_dir_name":null,"done":false,"#
            + #""training_iteration":2,"# + date
            + #""time_this_iter_s":1.5,"time_total_s":4.0,"pid":7,"hostname":"h","node_ip":null,"config":{},"#
            + #""time_since_restore":4.0,"iterations_since_restore":2,"raystorage_epoch":1,"raystorage_index":2}"#
        #expect(try scratch.text("result.json") == first + "\n" + second + "\n")
        let header =
            "loss,timestamp,checkpoint_dir_name,should_checkpoint,done,training_iteration,trial_id,date,"
            + "time_this_iter_s,time_total_s,pid,hostname,node_ip,time_since_restore,iterations_since_restore,"
            + "raystorage_epoch,raystorage_index,n/a\r\n"
        let rest = "01234567_00000,2026-01-02_03-04-05,"
        #expect(
            try scratch.text("progress.csv") == header
                + "nan,102,c~1,True,False,1,\(rest)2.5,2.5,7,h,,2.5,1,1,0,\"[1,2]\"\r\n"
                + "-inf,104,,,False,2,\(rest)1.5,4.0,7,h,,4.0,2,1,2,True\r\n")
    }

    @Test func `the user's own keys stay, but for those that place the row`() throws {
        try report(
            1, [(0, #"{"timestamp":"mine","date":1,"raystorage_epoch":9,"should_checkpoint":5,"config":2,"pid":null}"#)]
        )
        try files().update()
        let row = try #require(try results.first)
        #expect(row["timestamp"] == "mine" && row["date"] == 1 && row["config"] == 2)
        #expect(row["pid"] == .null && row["raystorage_epoch"] == 1 && row["should_checkpoint"] == nil)
        #expect(row.objectValue.map { Set($0.map(\.key)).count == $0.count } == true)
    }

    @Test func `counts on over epochs and restarts`() throws {
        try report(1, [(0, "{}"), (1, "{}")])
        try files().update()
        try report(2, [(0, "{}"), (4, "{}")])
        try files().update()
        #expect(try places == ["1.0", "1.1", "2.0", "2.4"])
        #expect(try results.map { $0["training_iteration"]?.intValue } == [1, 2, 3, 4])
        #expect(try results.map { $0["iterations_since_restore"]?.intValue } == [1, 2, 1, 2])
        #expect(try results.map { $0["time_total_s"]?.doubleValue } == [0, 1, 1, 5])
        #expect(try results.map { $0["time_since_restore"]?.doubleValue } == [0, 1, 0, 4])
        #expect(
            try MetricsHistory.resultRows(
                runDirectory: scratch.path, runID: "0123456789abcdef",
                origin: { EpochOrigin(hostname: "h", processID: 7, startedAt: Double($0) * 100) },
                localTime: { _ in LocalTime(year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5) }) == results)
    }

    @Test func `adds only what is new, also while a line is being written`() throws {
        let log = log(1)
        let files = files(batchBytes: 1)
        try files.update()
        #expect(try System.status(Path.join(scratch.path, "result.json")) == nil)
        try log.append(index: 0, time: 0, checkpointName: nil, metricsJSON: "{}")
        try scratch.append(#"{"index":1,"time":1,"checkpoint":null,"#, to: ".raystorage/metrics/1-0-0.jsonl")
        try files.update()
        #expect(try places == ["1.0"])
        try scratch.append("\"metrics\":{}}\n", to: ".raystorage/metrics/1-0-0.jsonl")
        try files.update()
        try files.update()
        #expect(try places == ["1.0", "1.1"])
        #expect(try tablePlaces == ["1.0", "1.1"])
    }

    @Test func `rows that were written again count once`() throws {
        try report(1, [(0, "{}"), (1, "{}")])
        try report(1, [(0, "{}"), (1, "{}"), (2, "{}")])
        try files().update()
        #expect(try places == ["1.0", "1.1", "1.2"])
        #expect(try results.last?["training_iteration"] == 3)
    }

    @Test(arguments: [false, true]) func `no row is lost when reports arrive out of order`(reopened: Bool) throws {
        let log = log(1)
        let live = files()
        for (count, index) in [3, 0, 4, 2, 1].enumerated() {
            try log.append(index: index, time: Double(101 + count), checkpointName: nil, metricsJSON: "{}")
            // A new one finds rows in the files that it has not written.
            try (reopened ? files() : live).update()
        }
        try log.close()
        #expect(try places == ["1.3", "1.0", "1.4", "1.2", "1.1"])
        #expect(try tablePlaces == ["1.3", "1.0", "1.4", "1.2", "1.1"])
        #expect(try results.map { $0["training_iteration"]?.intValue } == [1, 2, 3, 4, 5])
        #expect(try results.map { $0["time_total_s"]?.doubleValue } == [1, 2, 3, 4, 5])
    }

    /// A trainer that was superseded keeps its own segment for ever.
    @Test func `a late row of an earlier epoch comes behind those of the later one`() throws {
        let first = log(1)
        try first.append(index: 0, time: 101, checkpointName: nil, metricsJSON: "{}")
        try report(2, [(1, "{}")])
        let live = files()
        try live.update()
        try first.append(index: 1, time: 103, checkpointName: nil, metricsJSON: "{}")
        try live.update()
        try first.append(index: 2, time: 104, checkpointName: nil, metricsJSON: "{}")
        try files().update()
        #expect(try places == ["1.0", "2.1", "1.1", "1.2"])
        #expect(try tablePlaces == ["1.0", "2.1", "1.1", "1.2"])
        #expect(try results.map { $0["time_since_restore"]?.doubleValue } == [1, 1, 3, 4])
        #expect(try results.map { $0["iterations_since_restore"]?.intValue } == [1, 1, 2, 3])
    }

    @Test func `rows of a file that another program wrote anew are known`() throws {
        try report(1, [(0, "{}"), (1, "{}")])
        try scratch.append(#"{"raystorage_index": 1, "raystorage_epoch": 1, "x": 1}"# + "\n", to: "result.json")
        try files().update()
        #expect(try places == ["1.1", "1.0"])
    }

    @Test(arguments: [
        (#"{"a":1,"raystorage_epoch":12,"raystorage_index":345}"#, ReportSequence(epoch: 12, index: 345)),
        (#"{"raystorage_index":3,"raystorage_epoch":1}"#, ReportSequence(epoch: 1, index: 3)),
        (#"{"a":{"raystorage_epoch":1,"raystorage_index":3}}"#, nil),
        (#"{"a":",\"raystorage_epoch\":1,\"raystorage_index\":3}"}"#, nil),
        (#"{"raystorage_epoch":1,"raystorage_index":-3}"#, ReportSequence(epoch: 1, index: -3)),
        (#"[1,"raystorage_epoch":1,"raystorage_index":3}"#, nil), ("", nil), ("{", nil), ("}", nil),
        (#"{"raystorage_epoch":99999999999999999999,"raystorage_index":3}"#, nil),
    ])
    func `a line tells its place`(text: String, place: ReportSequence?) {
        let found = Array(text.utf8).withUnsafeBufferPointer { ResultRowMaker.sequence(ofLine: $0) }
        #expect(found == place)
    }

    /// Every length that a crash can leave of either file.
    @Test func `any torn end is cut off and derived again`() throws {
        try report(1, [(0, #"{"a":"x,\"y\"\n"}"#), (1, "{}"), (2, "{}")])
        try files().update()
        let whole = [try scratch.text("result.json"), try scratch.text("progress.csv")]
        for (name, text) in zip(["result.json", "progress.csv"], whole) {
            for length in stride(from: 0, to: text.utf8.count, by: 3) {
                try System.check("truncate", name) { truncate(Path.join(scratch.path, name), off_t(length)) }
                if length % 2 == 0 { try scratch.append("\0\0\0\n\0\0", to: name) }
                try files().update()
                #expect(try scratch.text(name) == text)
            }
            try System.unlink(Path.join(scratch.path, name))
            try files().update()
        }
        #expect(try [scratch.text("result.json"), scratch.text("progress.csv")] == whole)
    }

    @Test func `goes on after a full disk without a torn or a missing row`() throws {
        let files = files(batchBytes: 300)
        try report(1, [(0, "{}")])
        try files.update()
        try report(1, [(1, "{}"), (2, "{}"), (3, "{}")])
        faults.plan.withLock { $0.writes = [1 << 20, 100, -Int(ENOSPC)] }
        let error = #expect(throws: StorageError.self) { try files.update() }
        #expect(error?.code == .noSpace)
        faults.plan.withLock {
            $0.writes = [40, -Int(EIO)]
            $0.truncatesFail = true
        }
        #expect(throws: StorageError.self) { try files.update() }
        faults.plan.withLock { $0 = FaultyCalls.Plan() }
        try files.update()
        #expect(try places == ["1.0", "1.1", "1.2", "1.3"])
        #expect(try tablePlaces == ["1.0", "1.1", "1.2", "1.3"])
        #expect(try table.count == 5)
    }

    @Test func `goes on behind rows of Ray's`() throws {
        try scratch.append("{\"loss\": 1, \"training_iteration\": 1}\n{\"loss\"", to: "result.json")
        try scratch.append("loss,training_iteration\r\n1,1\r\n", to: "progress.csv")
        try report(1, [(0, "{\"loss\":5}"), (1, "{\"loss\":6}")])
        let files = files()
        try files.update()
        #expect(try results.map { $0["loss"]?.intValue } == [1, 5, 6])
        #expect(try scratch.text("progress.csv") == "loss,training_iteration\r\n1,1\r\n5,1\r\n6,2\r\n")
        try self.files().update()
        #expect(try results.count == 3)
        #expect(try table.count == 4)
    }

    @Test func `other ranks' rows are not in the files`() throws {
        try report(1, [(0, "{}")])
        let other = MetricsLog(runDirectory: scratch.path, epoch: 1, rank: 1)
        for index in 0..<2 { try other.append(index: index, time: 0, checkpointName: nil, metricsJSON: "{}") }
        try files().update()
        #expect(try places == ["1.0"])
        #expect(try scratch.rows == [0, 0, 1])
    }

    @Test func `an epoch tells its host and process`() throws {
        try System.makeDirectories(Path.join(scratch.path, ".raystorage/epochs/3"))
        try scratch.append(#"{"epoch":3,"hostname":"n1","pid":42,"started_at":5}"#, to: RunLayout.epoch(3))
        #expect(
            EpochOrigin.read(runDirectory: scratch.path, epoch: 3)
                == EpochOrigin(hostname: "n1", processID: 42, startedAt: 5))
        #expect(EpochOrigin.read(runDirectory: scratch.path, epoch: 4) == EpochOrigin())
        #expect(ResultFiles.resultsName == RunLayout.results)
        #expect(MetricsSegmentName.directory + "/" == RunLayout.metrics)
    }

    @Test func `a clock that is set back gives no negative times`() throws {
        let log = log(1)
        for (index, time) in [110.0, 90, 95, .nan, 96].enumerated() {
            try log.append(index: index, time: time, checkpointName: nil, metricsJSON: "{}")
        }
        try files().update()
        #expect(try results.map { $0["time_this_iter_s"]?.doubleValue } == [10, 0, 5, 0, 0])
    }

    @Test func `reads rows of a result file of Ray's`() throws {
        try scratch.append("{\"a\": NaN, \"b\": {\"c\": 1}}\n\n[1]\n{\"a\": 2}\n{\"a\"", to: "result.json")
        let rows = try MetricsHistory.rows(ofResultFile: Path.join(scratch.path, "result.json"))
        #expect(rows.map(\.compact) == [#"{"a":NaN,"b":{"c":1}}"#, #"{"a":2}"#])
        #expect(try MetricsHistory.rows(ofResultFile: Path.join(scratch.path, "none")).isEmpty)
    }

    @Test(arguments: ["a,b", "a\"b", "\"", ",", "", "é,\"ü\""])
    func `a column's name survives the header`(name: String) throws {
        let row = JSONValue.object([JSONMember("x", 1), JSONMember(name, 2), JSONMember("y", 3)])
        let table = ProgressTable(firstRow: row)
        #expect(ProgressTable(header: table.header.dropLast(2))?.columns == ["x", name, "y"])
    }
}
