import Testing

@testable import StorageCore

/// P13: whether Ray went on with a run after our last epoch, decided from what lies on the storage.
@Suite struct RaysTurnTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var latest: String?
        var reports: Int
        var isOurs = false
        var ours: [String] = ["checkpoint_000001_000000000"]
        var lastStart: History.ResumePoint? = History.ResumePoint(turn: 0, attempt: nil, physicalName: nil)
        var found: String?
    }

    static func start(_ rayReports: Int?) -> History.ResumePoint {
        History.ResumePoint(turn: 0, attempt: nil, physicalName: "checkpoint_ray", rayReports: rayReports)
    }

    static let cases = [
        Case(
            testDescription: "a run of Ray's alone", latest: "checkpoint_ray", reports: 3, ours: [], lastStart: nil,
            found: "checkpoint_ray"),
        Case(testDescription: "our snapshot", latest: "checkpoint_ray", reports: 3, isOurs: true),
        Case(testDescription: "Ray reported after us", latest: "checkpoint_ray", reports: 3, found: "checkpoint_ray"),
        Case(
            testDescription: "Ray opened ours and reported metrics only", latest: "checkpoint_000001_000000000",
            reports: 9),
        Case(testDescription: "Ray reported no checkpoint at all", latest: nil, reports: 9),
        Case(
            testDescription: "our last epoch chose with this snapshot, and died before it wrote its own",
            latest: "checkpoint_ray", reports: 3, lastStart: start(3)),
        Case(
            testDescription: "and Ray went on after that", latest: "checkpoint_ray", reports: 4, lastStart: start(3),
            found: "checkpoint_ray"),
        Case(
            testDescription: "our last epoch chose with a snapshot of ours", latest: "checkpoint_ray", reports: 0,
            lastStart: start(nil), found: "checkpoint_ray"),
    ]

    @Test(arguments: cases) func `P13: who was there last`(example: Case) {
        var entries: [Snapshot.Entry] = []
        if let latest = example.latest {
            entries = [
                Snapshot.Entry(
                    physicalName: latest, name: latest, attempt: nil, sequence: .start, metrics: .object([]))
            ]
        }
        let snapshot = Snapshot(
            entries: entries, latest: example.latest, reportCount: example.reports,
            ours: example.isOurs ? Snapshot.Ours(runID: "ab", epoch: 1, generation: 1, evicting: []) : nil)
        let ours = Set(example.ours.map { Array($0.utf8) })
        #expect(RaysTurn.latest(snapshot, ours: ours, lastStart: example.lastStart) == example.found)
        #expect(RaysTurn.latest(nil, ours: ours, lastStart: example.lastStart) == nil)
    }

    private func foreign(_ name: String, _ number: Int?) -> CheckpointEntry {
        CheckpointEntry(attempt: nil, name: name, physicalName: name, metrics: .object([]), reportNumber: number)
    }

    @Test func `P13: what Ray reported in its turn comes first, the latest before the others`() {
        let all = [
            foreign("before", 1), foreign("r1", 5), foreign("r2", 6), foreign("unlisted", nil), foreign("r3", 7),
        ]
        let entries = all.filter { $0.physicalName != "unlisted" }.map {
            Snapshot.Entry(
                physicalName: $0.physicalName, name: $0.name, attempt: nil, sequence: .start, metrics: .object([]))
        }
        let snapshot = Snapshot(entries: entries, latest: "r2", reportCount: 8, ours: nil)
        func names(_ latest: String, _ published: Int?) -> [String] {
            RaysTurn.candidates(latest: latest, snapshot: snapshot, foreign: all, published: published).map(\.name)
        }
        #expect(names("r3", 4) == ["r3", "r2", "r1"])
        #expect(names("r3", nil) == ["r3", "r2", "r1", "before"])
        // Its directory is gone: said so by whoever looks at it.
        #expect(names("gone", 4) == ["gone", "r3", "r2", "r1"])
    }

    @Test func `P13: the order of the reports is one order, ours and Ray's`() {
        func own(_ epoch: Int, _ index: Int, _ number: Int) -> CheckpointEntry {
            var entry = HistoryTests.entry(epoch, index)
            entry.reportNumber = number
            return entry
        }
        let merged = CheckpointEntry.chronological(
            [foreign("unknown", nil), foreign("r0", 0), foreign("r3", 3), foreign("r6", 6)],
            [own(1, 0, 1), own(1, 1, 2), own(2, 0, 4)])
        #expect(
            merged.map { RunFixture.short($0.physicalName) } == ["unknown", "r0", "1.0", "1.1", "r3", "2.0", "r6"])
    }
}
