import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// From the rename to the word "committed", and what another trainer may do in between.
@Suite struct PublicationTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture() }

    /// Starts a report and does not wait.
    private func begin(_ run: TrainingRun, _ content: String = "x", name: String? = nil) throws -> Report {
        var options = ReportOptions()
        options.checkpointDirName = name
        return try run.report(
            metricsJSON: Array("{}".utf8), directory: try fixture.source(content), options: options)
    }

    private func wait(_ report: Report) throws { try report.wait(Deadline(timeoutMilliseconds: 600_000)) }

    // MARK: - The order

    @Test func `a report is committed on the disk, in the snapshot and before the fence, and then it says so`()
        async throws
    {
        let fixture = fixture
        let box = Mutex<Report?>(nil)
        let seen = Mutex<[String]>([])
        let isArmed = Flag()
        let run = try await fixture.train(hook: { moment, call in
            guard moment == .before, isArmed.isSet else { return }
            guard call == "replace \(RunLayout.snapshot)" || call == "read \(RunLayout.fence(1))" else { return }
            // The commit may be here before its report is in the box.
            while box.withLock({ $0 }) == nil { await Engine.shared.sleep(milliseconds: 1) }
            guard let report = box.withLock({ $0 }) else { return }
            let isVisible = (try? fixture.exists("c/\(RunLayout.manifest)")) == true
            seen.withLock { $0.append("\(call) \(isVisible) \(report.currentState.name)") }
        })
        isArmed.raise()
        let report = try begin(run, name: "c")
        box.withLock { $0 = report }
        try wait(report)
        let steps = seen.withLock { $0 }
        #expect(steps.suffix(2).last == "read \(RunLayout.fence(1)) true UPLOADING")
        let snapshot = try #require(steps.firstIndex(of: "replace \(RunLayout.snapshot) true UPLOADING"))
        #expect(snapshot < steps.count - 1)
        #expect(report.currentState == .committed)
        try fixture.close(run)
    }

    @Test func `returned means durable: a kill right after is nothing to the next launch`() async throws {
        let run = try await fixture.train()
        try fixture.report(run, "content", metrics: #"{"loss":1}"#)
        try fixture.kill(run)
        let next = try await fixture.open()
        #expect(next.resumedFrom?.metrics == .make(["loss": 1]) && next.recovered.isEmpty)
    }

    @Test func `reports are committed in the order of their calls`() async throws {
        let order = Mutex<[Int]>([])
        let fixture = fixture
        let run = try await fixture.train(hook: { moment, call in
            guard moment == .after, call == "replace \(RunLayout.snapshot)" else { return }
            if let count = try? fixture.snapshot().entries.last?.sequence.index {
                order.withLock { if $0.last != count { $0.append(count) } }
            }
        })
        // The first is large, the others are quick.
        let reports = try [String(repeating: "x", count: 20_000_000), "1", "2", "3"].map { try begin(run, $0) }
        for report in reports.reversed() { try wait(report) }
        #expect(order.withLock { $0 } == [0, 1, 2, 3])
        try fixture.close(run)
    }

    // MARK: - Taken over

    @Test func `fenced after the commit and before saying so: the newcomer has it, the holder says superseded`()
        async throws
    {
        let (fixture, newcomer, once) = (fixture, Newcomer(), Once())
        let isArmed = Flag()
        let run = try await fixture.train(hook: { moment, call throws(StorageError) in
            // The snapshot is written between the rename and the look at the fence.
            guard isArmed.isSet, moment == .after, call == "replace \(RunLayout.snapshot)" else { return }
            try await once.run { () throws(StorageError) in try await newcomer.takeOver(fixture) }
        })
        isArmed.raise()
        let report = try begin(run, name: "c")
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .superseded && report.currentState == .failed)
        #expect(error?.detailsDocument["holder_epoch"] == 2)
        // Nobody was told that it is durable, and it is: the newcomer's list was later.
        #expect(newcomer.run?.resumedFrom?.physicalName == "c")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["c committed"])
        let again = #expect(throws: StorageError.self) { try begin(run) }
        #expect(again?.code == .superseded)
        #expect(throws: StorageError.self) { try fixture.close(run) }
        #expect(try !fixture.exists(RunLayout.closed(1)))
    }

    @Test func `fenced between its look and its commit: never said, stray at most, never latest`() async throws {
        let (fixture, newcomer, once) = (fixture, Newcomer(), Once())
        let isArmed = Flag()
        let run = try await fixture.train(hook: { moment, call throws(StorageError) in
            guard isArmed.isSet, moment == .after, call == "read \(RunLayout.fence(1))" else { return }
            try await once.run { () throws(StorageError) in try await newcomer.takeOver(fixture) }
        })
        try fixture.report(run, name: "before")
        isArmed.raise()
        let report = try begin(run, name: "late")
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .superseded)
        #expect(newcomer.run?.resumedFrom?.physicalName == "before")
        let statuses = try await fixture.statuses()
        #expect(statuses == ["before committed", "late stray"])
        let latest = try await fixture.latest()
        #expect(latest == "before")
        #expect(throws: StorageError.self) { try fixture.close(run) }
    }

    @Test func `a superseded holder commits nothing more and leaves what it captured to its host`() async throws {
        let fixture = fixture
        let run = try await fixture.train()
        let second = try await Newcomer().takeOver(fixture)
        let report = try begin(run, "captured", name: "c")
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .superseded)
        #expect(try !fixture.exists("c"))
        #expect(throws: StorageError.self) { try fixture.close(run) }
        try fixture.kill(second)
        // Its own host finishes it.
        let third = try await fixture.open("a")
        #expect(third.recovered == ["c"])
    }

    @Test func `a superseded holder evicts nothing, and leaves result.json to the new one`() async throws {
        let fixture = fixture
        let run = try await fixture.train { $0.retention.numToKeep = 1 }
        try fixture.report(run, name: "kept")
        let before = try fixture.text(RunLayout.results)
        let second = try await Newcomer().takeOver(fixture)
        await #expect(throws: StorageError.self) { try await run.opened.hold.renew() }
        let report = try? begin(run, name: "more")
        if let report { #expect(throws: StorageError.self) { try wait(report) } }
        run.metrics.derive()
        #expect(throws: StorageError.self) { try fixture.close(run) }
        #expect(try fixture.text(RunLayout.results) == before && fixture.exists("kept"))
        #expect(second.resumedFrom?.physicalName == "kept")
    }

    // MARK: - Storage that does not say

    @Test func `when the storage does not say the report is unknown, nothing is deleted and the next one works`()
        async throws
    {
        let isAway = Flag()
        let run = try await fixture.train(
            change: { $0.retryTimeoutMilliseconds = 50 },
            hook: { moment, call throws(StorageError) in
                if isAway.isSet, moment == .before, call == "read \(RunLayout.fence(1))" {
                    throw StorageError(.network, "away", isRetryable: true)
                }
            })
        isAway.raise()
        let unknown = try begin(run, name: "unknown")
        let error = #expect(throws: StorageError.self) { try wait(unknown) }
        #expect(error?.code == .network && unknown.currentState == .unknown)
        _ = isAway.clear()
        try fixture.report(run, name: "next")
        #expect(try run.opened.store.unfinished().map(\.sequence.index) == [0])
        try fixture.close(run)
        let opened = try await fixture.open()
        #expect(opened.recovered == ["unknown"] && opened.resumedFrom?.physicalName == "next")
    }

    @Test func `a snapshot that cannot be written does not keep a checkpoint from being committed`() async throws {
        let isFull = Flag()
        let run = try await fixture.train(
            change: {
                $0.retryTimeoutMilliseconds = 50
                $0.retention.numToKeep = 1
            },
            hook: { moment, call throws(StorageError) in
                if isFull.isSet, moment == .before, call == "replace \(RunLayout.snapshot)" {
                    throw StorageError(.noSpace, "full", isRetryable: true)
                }
            })
        try fixture.report(run, name: "first")
        isFull.raise()
        try fixture.report(run, name: "second")
        #expect(!LogLines.shared.with("writing the snapshot: full").isEmpty)
        // What it displaced was not announced, so it is there.
        #expect(try fixture.exists("first") && fixture.snapshot().entries.map(\.name) == ["first"])
        _ = isFull.clear()
        try fixture.report(run, name: "third")
        try fixture.close(run)
        #expect(try fixture.snapshot().entries.map(\.name) == ["third"])
        #expect(try !fixture.exists("first") && !fixture.exists("second"))
    }

    @Test func `an attempt that somebody removed before its commit fails, and its name may be tried again`()
        async throws
    {
        let fixture = fixture
        let isArmed = Flag()
        let once = Once()
        let run = try await fixture.train(hook: { moment, call throws(StorageError) in
            guard isArmed.isSet, moment == .after, call == "read \(RunLayout.fence(1))" else { return }
            // A heartbeat looks at the fence too: before the attempt is sealed there is nothing to remove.
            let attempts = (try? System.list(fixture.path(RunLayout.attempts))) ?? []
            guard
                attempts.contains(where: {
                    (try? fixture.exists("\(RunLayout.attempts)/\($0)/\(RunLayout.manifest)")) == true
                })
            else { return }
            try await once.run { () throws(StorageError) in
                try System.removeTree(fixture.path(RunLayout.attempts))
                try System.makeDirectory(fixture.path(RunLayout.attempts))
            }
        })
        isArmed.raise()
        let report = try begin(run, name: "c")
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .precondition && report.currentState == .failed)
        try fixture.report(run, name: "c")
        #expect(try !fixture.exists("c"))
        let latest = try await fixture.latest()
        #expect(latest == "c~1-1-\(run.opened.hold.epoch.nonce)")
        try fixture.close(run)
    }

    @Test func `what stands at the place of a commit is not replaced`() async throws {
        let fixture = fixture
        let isArmed = Flag()
        let run = try await fixture.train(hook: { moment, call in
            if isArmed.isSet, moment == .after, call == "read \(RunLayout.fence(1))" {
                try? fixture.write("c/data", "theirs")
            }
        })
        isArmed.raise()
        let report = try begin(run, name: "c")
        let error = #expect(throws: StorageError.self) { try wait(report) }
        #expect(error?.code == .alreadyExists)
        #expect(try fixture.text("c/data") == "theirs")
        #expect(try run.opened.store.unfinished().isEmpty)
        try fixture.close(run)
    }
}
