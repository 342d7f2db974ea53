import Testing

@testable import StorageCore

/// Places on the line of history: `1.4` is report 4 of epoch 1.
@Suite struct HistoryTests {
    static func attempt(_ epoch: Int, _ index: Int) -> AttemptID {
        AttemptID(sequence: ReportSequence(epoch: epoch, index: index), nonce: "\(epoch)a")
    }

    static func entry(_ epoch: Int, _ index: Int, _ name: String? = nil) -> CheckpointEntry {
        let attempt = attempt(epoch, index)
        let own = CheckpointName.automatic(attempt.sequence)
        return CheckpointEntry(
            attempt: attempt, name: name ?? own, physicalName: name.map { "\($0)~\(attempt)" } ?? own,
            metrics: .object([]))
    }

    /// Each epoch with where it went on from; nil: from nothing.
    static func history(_ points: [(epoch: Int, turn: Int, from: AttemptID?)]) -> History {
        var history = History()
        for point in points {
            history.add(
                History.ResumePoint(
                    turn: point.turn, attempt: point.from,
                    physicalName: point.from.map { CheckpointName.automatic($0.sequence) }), epoch: point.epoch)
        }
        return history
    }

    private func onLine(_ history: History, of epoch: Int, _ places: [(Int, Int)]) -> [Bool] {
        places.map { history.isOnLine(ReportSequence(epoch: $0.0, index: $0.1), of: epoch) }
    }

    @Test func `an epoch's own reports are on its line, however many`() {
        let history = Self.history([(1, 0, nil)])
        #expect(onLine(history, of: 1, [(1, 0), (1, 1_000_000), (2, 0), (0, 0)]) == [true, true, false, false])
    }

    @Test func `the line ends at the report that was resumed from`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 4))])
        #expect(onLine(history, of: 2, [(1, 3), (1, 4), (1, 5), (2, 0)]) == [true, true, false, true])
        // What is stray for the new epoch is still on the line of the old one.
        #expect(onLine(history, of: 1, [(1, 5), (2, 0)]) == [true, false])
    }

    @Test func `a line leads through several epochs, each cut where the next began`() {
        let history = Self.history([
            (1, 0, nil), (2, 0, Self.attempt(1, 4)), (3, 0, Self.attempt(2, 1)), (4, 0, Self.attempt(1, 2)),
            (5, 0, Self.attempt(4, 0)),
        ])
        #expect(onLine(history, of: 3, [(1, 4), (1, 5), (2, 1), (2, 2), (3, 9)]) == [true, false, true, false, true])
        // Epoch 4 went back on purpose: 2 and 3 and the end of 1 are strays.
        #expect(
            onLine(history, of: 5, [(1, 2), (1, 3), (2, 0), (3, 0), (4, 0), (4, 1), (5, 0)])
                == [true, false, false, false, true, false, true])
    }

    @Test func `the highest turn of an epoch counts, in whatever order the records are read`() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let turns: [AttemptID?] = [Self.attempt(1, 6), Self.attempt(1, 4), Self.attempt(1, 2)]
            let history = Self.history([(1, 0, nil)] + order.map { (2, $0, turns[$0]) })
            #expect(onLine(history, of: 2, [(1, 2), (1, 3), (1, 4)]) == [true, false, false])
        }
    }

    @Test func `after falling back to the beginning nothing older is on the line`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 0)), (2, 1, nil)])
        #expect(onLine(history, of: 2, [(1, 0), (2, 0)]) == [false, true])
    }

    @Test func `an epoch without a record has only itself on its line`() {
        let history = Self.history([(1, 0, nil)])
        #expect(onLine(history, of: 3, [(1, 0), (3, 0)]) == [false, true])
    }

    @Test func `a record that points forwards or at itself ends the line instead of hanging`() {
        let history = Self.history([(1, 0, Self.attempt(2, 0)), (2, 0, Self.attempt(1, 5)), (3, 0, Self.attempt(3, 1))])
        #expect(onLine(history, of: 2, [(1, 5), (1, 6), (3, 0)]) == [true, false, false])
        #expect(onLine(history, of: 3, [(3, 7), (2, 0)]) == [true, false])
    }

    @Test func `an epoch that died before it wrote where it resumed from is passed over`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 0)), (5, 0, Self.attempt(2, 3))])
        #expect(history.lastStarted(before: 5) == 2)
        #expect(history.lastStarted(before: 6) == 5)
        #expect(history.lastStarted(before: 1) == nil)
    }

    // MARK: - Candidates

    @Test func `candidates are those on the line, the latest first`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 4))])
        let foreign = CheckpointEntry(attempt: nil, name: "ray", physicalName: "ray", metrics: .object([]))
        let entries = [
            Self.entry(1, 5), Self.entry(2, 0), foreign, Self.entry(1, 4), Self.entry(2, 10), Self.entry(1, 0),
        ]
        #expect(history.candidates(entries, of: 2).map(\.id) == ["2-10-2a", "2-0-2a", "1-4-1a", "1-0-1a"])
        #expect(history.candidates(entries, of: 1).map(\.id) == ["1-5-1a", "1-4-1a", "1-0-1a"])
        #expect(history.candidates(entries, of: 3).isEmpty)
    }

    @Test func `what others did between two epochs stands between them, and does not end the line`() {
        var history = Self.history([(1, 0, nil)])
        history.add(
            History.ResumePoint(
                turn: 0, attempt: nil, physicalName: "ray", behind: ReportSequence(epoch: 1, index: 2)), epoch: 2)
        // Epoch 2 committed nothing before Ray's second turn.
        history.add(
            History.ResumePoint(
                turn: 0, attempt: nil, physicalName: "ray2", behind: ReportSequence(epoch: 2, index: -1)), epoch: 3)
        #expect(onLine(history, of: 3, [(1, 2), (1, 3), (2, 0), (3, 0)]) == [true, false, false, true])
        let foreign = ["ray", "other", "ray2"].map {
            CheckpointEntry(attempt: nil, name: $0, physicalName: $0, metrics: .object([]))
        }
        let entries = [Self.entry(1, 0), Self.entry(1, 2), Self.entry(1, 3), Self.entry(3, 0)]
        #expect(
            history.candidates(entries, foreign: foreign, of: 3).map(\.id)
                == ["3-0-3a", "ray2", "ray", "1-2-1a", "1-0-1a"])
        #expect(history.behind("ray", of: 3) == ReportSequence(epoch: 1, index: 2))
        #expect(history.behind("other", of: 3) == nil)
    }

    // MARK: - Statuses

    private func statuses(_ history: History, _ entries: [CheckpointEntry], of epoch: Int?) -> [String] {
        let found = history.statuses(entries, of: epoch)
        return entries.map { found[$0.id]?.rawValue ?? "?" }
    }

    @Test func `commits beyond the resume point are stray`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 1))])
        let entries = [Self.entry(1, 0), Self.entry(1, 1), Self.entry(1, 2), Self.entry(2, 0)]
        #expect(statuses(history, entries, of: 2) == ["committed", "committed", "stray", "committed"])
        #expect(statuses(history, entries, of: 1) == ["committed", "committed", "committed", "stray"])
        #expect(statuses(history, entries, of: nil) == ["stray", "stray", "stray", "stray"])
    }

    @Test func `checkpoints of others are unverified, and take no name from ours`() {
        let history = Self.history([(1, 0, nil)])
        let foreign = CheckpointEntry(attempt: nil, name: "best", physicalName: "best", metrics: .object([]))
        #expect(statuses(history, [foreign, Self.entry(1, 0, "best")], of: 1) == ["unverified", "committed"])
    }

    @Test func `a name means the checkpoint on the line, whichever order they are listed in`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 1))])
        let old = Self.entry(1, 2, "best")
        let new = Self.entry(2, 0, "best")
        #expect(statuses(history, [old, new], of: 2) == ["superseded", "committed"])
        #expect(statuses(history, [new, old], of: 2) == ["committed", "superseded"])
        // Seen from the line of epoch 1 it is the other way round.
        #expect(statuses(history, [old, new], of: 1) == ["committed", "superseded"])
    }

    @Test func `of three with one name all but one are superseded`() {
        let history = Self.history([(1, 0, nil), (2, 0, Self.attempt(1, 0)), (3, 0, Self.attempt(1, 0))])
        let entries = [Self.entry(1, 1, "n"), Self.entry(2, 0, "n"), Self.entry(3, 0, "n")]
        #expect(statuses(history, entries, of: 3) == ["superseded", "superseded", "committed"])
        // Strays only: the later one.
        #expect(statuses(history, Array(entries.prefix(2)), of: 3) == ["superseded", "stray"])
    }

    @Test func `names are told apart byte by byte`() {
        let history = Self.history([(1, 0, nil)])
        let entries = [Self.entry(1, 0, "\u{E9}"), Self.entry(1, 1, "e\u{301}")]
        #expect(statuses(history, entries, of: 1) == ["committed", "committed"])
    }
}

@Suite struct NameClaimTests {
    private typealias H = HistoryTests
    private let history = HistoryTests.history([(1, 0, nil), (2, 0, HistoryTests.attempt(1, 4))])

    private func decide(_ existing: [AttemptID], failed: Set<AttemptID> = []) -> NameClaim {
        NameClaim.decide(existing: existing, history: history, epoch: 2, failed: failed)
    }

    @Test func `a name that nobody has is ours under its plain name`() {
        #expect(decide([]) == .first)
    }

    @Test func `a name of this epoch is taken, evicted or not`() {
        #expect(decide([H.attempt(2, 3)]) == .taken(by: H.attempt(2, 3)))
    }

    @Test(arguments: [0, 4]) func `a name from before the resume point is taken`(index: Int) {
        #expect(decide([H.attempt(1, index)]) == .taken(by: H.attempt(1, index)))
    }

    @Test func `a name from beyond the resume point gets a directory of its own`() {
        #expect(decide([H.attempt(1, 5)]) == .further)
    }

    @Test func `one claim on the line is enough, wherever it stands among others`() {
        #expect(decide([H.attempt(1, 5), H.attempt(2, 0)]) == .taken(by: H.attempt(2, 0)))
        #expect(decide([H.attempt(1, 4), H.attempt(1, 7)]) == .taken(by: H.attempt(1, 4)))
    }

    @Test func `a name whose report failed may be tried again, in a directory of its own`() {
        #expect(decide([H.attempt(2, 3)], failed: [H.attempt(2, 3)]) == .further)
        let both = [H.attempt(2, 3), H.attempt(2, 4)]
        #expect(decide(both, failed: [both[0]]) == .taken(by: both[1]))
    }

    @Test func `after falling back further the names beyond are free again`() {
        var fallen = history
        fallen.add(History.ResumePoint(turn: 1, attempt: H.attempt(1, 2), physicalName: nil), epoch: 2)
        #expect(NameClaim.decide(existing: [H.attempt(1, 4)], history: fallen, epoch: 2, failed: []) == .further)
    }
}
