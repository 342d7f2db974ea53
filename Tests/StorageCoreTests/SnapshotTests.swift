import Testing

@testable import StorageCore

/// Written by ray 2.60.0: two ranks, ranked by "loss", "min".
private let rayRun =
    #"""
    {"ray_version":"2.60.0","checkpoint_results":[{"version":0,"checkpoint_dir_name":"checkpoint_2026-11-23_09-13-20.653446","metrics":{"step":5,"loss":8.0,"rank":0,"nested":{"a":1.5},"s":"x"}},{"version":0,"checkpoint_dir_name":"checkpoint_2026-11-23_09-13-06.808529","metrics":{"step":1,"loss":3.0,"rank":0,"nested":{"a":1.5},"s":"x"}},{"version":0,"checkpoint_dir_name":"checkpoint_2026-11-23_09-13-18.666405","metrics":{"step":3,"loss":3.0,"rank":0,"nested":{"a":1.5},"s":"x"}},{"version":0,"checkpoint_dir_name":"checkpoint_2026-11-23_09-13-39.006320","metrics":{"step":6,"loss":1.0,"rank":0,"nested":{"a":1.5},"s":"x"}}],"checkpoint_report_indices":[5,1,3,6],"latest_checkpoint_result":{"version":0,"checkpoint_dir_name":"checkpoint_2026-11-23_09-13-39.006320","metrics":{"step":6,"loss":1.0,"rank":0,"nested":{"a":1.5},"s":"x"}},"pending_training_results":[],"pending_validation_specs":[],"current_report_index":7,"validated_checkpoint_dir_names":[],"timed_out_validation_checkpoint_dir_names":[],"failed_validation_checkpoint_dir_names":[]}
    """#

/// Written by ray 2.60.0: one name reported twice.
private let rayDuplicate =
    #"""
    {"ray_version":"2.60.0","checkpoint_results":[{"version":0,"checkpoint_dir_name":"same","metrics":{"i":1}}],"checkpoint_report_indices":[1],"latest_checkpoint_result":{"version":0,"checkpoint_dir_name":"same","metrics":{"i":1}},"pending_training_results":[],"pending_validation_specs":[],"current_report_index":2,"validated_checkpoint_dir_names":[],"timed_out_validation_checkpoint_dir_names":[],"failed_validation_checkpoint_dir_names":[]}
    """#

private func attempt(_ epoch: Int, _ index: Int) -> AttemptID {
    AttemptID(sequence: ReportSequence(epoch: epoch, index: index), nonce: "0123456789abcdef")
}

private func entry(_ name: String, _ epoch: Int, _ index: Int, _ metrics: JSONValue = .object([])) -> Snapshot.Entry {
    Snapshot.Entry(
        physicalName: name, name: name, attempt: attempt(epoch, index),
        sequence: ReportSequence(epoch: epoch, index: index), metrics: metrics)
}

@Suite struct SnapshotTests {
    private let ours = Snapshot.Ours(runID: "ab", epoch: 2, generation: 5, evicting: [attempt(1, 3)])

    @Test func `reads what Ray wrote`() throws {
        let snapshot = try Snapshot(decoding: rayRun.utf8, path: "s")
        #expect(snapshot.ours == nil)
        #expect(snapshot.reportCount == 7)
        #expect(snapshot.latest == "checkpoint_2026-11-23_09-13-39.006320")
        #expect(snapshot.entries.map(\.sequence.index) == [5, 1, 3, 6])
        #expect(
            snapshot.entries.allSatisfy { $0.sequence.epoch == 0 && $0.attempt == nil && $0.name == $0.physicalName })
        #expect(snapshot.entries.map { $0.metrics["loss"]?.doubleValue } == [8, 3, 3, 1])
    }

    @Test func `gives Ray back what Ray wrote, number for number`() throws {
        let text = rayRun.replacing(
            #""validated_checkpoint_dir_names":[]"#,
            with: #""validated_checkpoint_dir_names":["checkpoint_2026-11-23_09-13-18.666405"]"#)
        let snapshot = try Snapshot(decoding: text.utf8, path: "s")
        #expect(String(decoding: snapshot.encoded, as: UTF8.self) == text)
    }

    @Test func `reads back what it wrote`() throws {
        let metrics = try JSONParser.parse(#"{"loss":NaN,"a":{"b":-Infinity},"n":123456789012345678901234567890}"#)
        var snapshot = Snapshot(
            entries: [entry("b~2-0-0123456789abcdef", 2, 0, metrics), entry("checkpoint_000001_000000004", 1, 4)],
            latest: "b~2-0-0123456789abcdef", reportCount: 9, ours: ours)
        snapshot.entries[0].name = "b"
        let read = try Snapshot(decoding: snapshot.encoded, path: "s")
        #expect(read.encoded == snapshot.encoded)
        #expect(read.entries.map(\.name) == ["b", "checkpoint_000001_000000004"])
        #expect(read.entries.map(\.attempt) == snapshot.entries.map(\.attempt))
        #expect(read.ours == ours)
        #expect(read.latest == snapshot.latest && read.reportCount == 9)
    }

    @Test func `Ray's numbers grow with epoch and index`() throws {
        let snapshot = Snapshot(
            entries: [entry("c", 2, 0), entry("a", 1, 0), entry("d", 2, 7), entry("b", 1, 5)], latest: nil,
            reportCount: 0, ours: ours)
        let document = try JSONParser.parse(snapshot.encoded)
        #expect(document["checkpoint_report_indices"] == .array([6, 0, 7, 5]))
        #expect(document["current_report_index"] == 8)
        #expect(document["latest_checkpoint_result"] == .null)
    }

    @Test func `a latest that is not listed is none, as Ray would fail on it`() throws {
        let snapshot = Snapshot(entries: [entry("a", 1, 0)], latest: "gone", reportCount: 1, ours: ours)
        #expect(try JSONParser.parse(snapshot.encoded)["latest_checkpoint_result"] == .null)
        let text = rayRun.replacing(
            #""latest_checkpoint_result":{"version":0,"checkpoint_dir_name":"checkpoint"#,
            with: #""latest_checkpoint_result":{"version":0,"checkpoint_dir_name":"other"#)
        #expect(try Snapshot(decoding: text.utf8, path: "s").latest == nil)
    }

    @Test func `a directory listed twice is one checkpoint, as last reported`() throws {
        let text = rayDuplicate.replacing(
            #""checkpoint_results":["#,
            with: #""checkpoint_results":[{"checkpoint_dir_name":"same","metrics":{"i":0}},"#
        ).replacing(#"indices":[1]"#, with: #"indices":[0,1]"#)
        let snapshot = try Snapshot(decoding: text.utf8, path: "s")
        #expect(snapshot.entries.count == 1)
        #expect(snapshot.entries.first?.metrics["i"] == 1)
        #expect(snapshot.latest == "same")
    }

    @Test func `names that look alike are told apart by their bytes`() throws {
        let snapshot = Snapshot(
            entries: [entry("\u{E9}", 1, 0), entry("e\u{301}", 1, 1)], latest: "\u{E9}", reportCount: 2, ours: ours)
        let read = try Snapshot(decoding: snapshot.encoded, path: "s")
        #expect(read.entries.map(\.sequence.index) == [0, 1])
        #expect(read.latest.map { Array($0.utf8) } == Array("\u{E9}".utf8))
    }

    @Test func `ignores members that it does not know`() throws {
        let text = rayDuplicate.replacing(#"{"ray_version""#, with: #"{"new":[1],"raystorage":null,"ray_version""#)
        #expect(try Snapshot(decoding: text.utf8, path: "s").ours == nil)
        #expect(try Snapshot(decoding: #"{"checkpoint_results":[]}"#.utf8, path: "s").entries.isEmpty)
    }

    @Test(arguments: [
        "", "{", "[]", "{}", "null", #"{"checkpoint_results":{}}"#, #"{"checkpoint_results":[1]}"#,
        #"{"checkpoint_results":[{}]}"#, #"{"checkpoint_results":[{"checkpoint_dir_name":"../evil"}]}"#,
        #"{"checkpoint_results":[{"checkpoint_dir_name":"/abs"}]}"#,
        #"{"checkpoint_results":[{"checkpoint_dir_name":".raystorage/trash"}]}"#,
        #"{"checkpoint_results":[{"checkpoint_dir_name":""}]}"#,
        #"{"checkpoint_results":[{"checkpoint_dir_name":"a\u0000b"}]}"#,
        #"{"checkpoint_results":[{"checkpoint_dir_name":"a","metrics":3}]}"#,
        #"{"checkpoint_results":[],"checkpoint_report_indices":[1]}"#,
        #"{"checkpoint_results":[],"raystorage":{"schema":1}}"#,
        #"{"checkpoint_results":[],"raystorage":{"schema":1,"run_id":"a","epoch":-1,"generation":0}}"#,
        #"{"checkpoint_results":[],"raystorage":{"schema":1,"run_id":"a","epoch":1,"generation":0,"evicting":["x"]}}"#,
    ])
    func `says that a damaged snapshot is damaged, and where`(text: String) {
        let error = #expect(throws: StorageError.self) { try Snapshot(decoding: text.utf8, path: "/r/s.json") }
        #expect(error?.code == .checksum)
        #expect(error?.detailsDocument["path"] == "/r/s.json")
    }

    @Test func `refuses what a newer library wrote`() {
        let text = #"{"checkpoint_results":[],"raystorage":{"schema":2}}"#
        let error = #expect(throws: StorageError.self) { try Snapshot(decoding: text.utf8, path: "s") }
        #expect(error?.code == .notSupported)
    }

    @Test func `our own index reads back what it wrote`() throws {
        let index = CheckpointIndex(
            runID: "ab",
            entries: [
                CheckpointIndex.Entry(
                    attempt: attempt(1, 2), name: "n", physicalName: "n~1",
                    metrics: .make(["loss": .number(.infinity)]),
                    bytes: 10, files: 2, createdAt: 1.5)
            ], evicted: [attempt(1, 0)])
        #expect(try CheckpointIndex(decoding: index.encoded, path: "i") == index)
        let text = String(decoding: index.encoded, as: UTF8.self)
        for broken in [
            text.replacing("1-2-0", with: "1-2-X"), text.replacing("\"bytes\":10", with: "\"bytes\":-1"), "7",
        ] {
            #expect(throws: StorageError.self) { try CheckpointIndex(decoding: broken.utf8, path: "i") }
        }
    }
}
