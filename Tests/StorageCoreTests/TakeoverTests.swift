import Synchronization
import Testing

@testable import StorageCore

@Suite struct TakeoverTests {
    private let fixture: RunFixture

    init() throws { fixture = try RunFixture() }

    /// An epoch of another host that is dead, with a checkpoint.
    private func dead(_ host: String = "b") async throws {
        let opened = try await fixture.open(host)
        try await fixture.commit(opened, 0)
        try fixture.kill(opened)
    }

    // MARK: - The order

    @Test func `epoch, fence, leftovers, list, resume record: in this order`() async throws {
        let first = try await fixture.open()
        try await fixture.commit(first, 0)
        let leftover = try await fixture.leave(first, 1, .sealed)
        try fixture.kill(first)
        let fixture = fixture
        let steps = Mutex<[String]>([])
        let second = try await fixture.open(hook: { moment, call in
            let isFinished = (try? fixture.exists(RunLayout.attempt(leftover))) == false
            let isMeant = [
                "create \(RunLayout.epoch(2))", "post \(RunLayout.fence(1))", "list ",
                "create \(RunLayout.resume(2, 0))", "replace \(RunLayout.snapshot)",
            ].contains(call)
            if isMeant, moment == .before { steps.withLock { $0.append("\(call) \(isFinished)") } }
        })
        #expect(
            steps.withLock { $0 } == [
                "create \(RunLayout.epoch(2)) false", "post \(RunLayout.fence(1)) false", "list  true",
                "create \(RunLayout.resume(2, 0)) true", "replace \(RunLayout.snapshot) true",
            ])
        #expect(second.recovered == ["checkpoint_000001_000000001"])
        #expect(second.resumedFrom?.attempt == leftover)
    }

    @Test func `the holder makes its fence before anybody needs to look for it`() async throws {
        let opened = try await fixture.open()
        #expect(try fixture.text(RunLayout.fence(1)) == "")
        try fixture.kill(opened)
        _ = try await fixture.open()
        #expect(EpochRecord(try #require(try fixture.document(RunLayout.fence(1))))?.number == 2)
    }

    @Test func `a fence that was raised before its holder could make it stays raised`() async throws {
        let fixture = fixture
        let error = await #expect(throws: StorageError.self) {
            _ = try await fixture.open(hook: { moment, call in
                if moment == .before, call == "create \(RunLayout.fence(1))" {
                    try? fixture.write(RunLayout.fence(1), HoldTests.record(2).document.compact)
                }
            })
        }
        #expect(error?.code == .superseded)
    }

    @Test func `every earlier holder that did not say goodbye is fenced, and nobody else`() async throws {
        for number in 1...4 {
            if number == 2 {
                try fixture.close(try await fixture.train())
            } else {
                try fixture.kill(try await fixture.open())
            }
        }
        #expect(try (1...4).map { try !fixture.text(RunLayout.fence($0)).isEmpty } == [true, false, true, false])
    }

    // MARK: - Epochs

    @Test func `after a thousand launches opening reads each of them once`() async throws {
        for number in 1...1000 {
            let record = HoldTests.record(number)
            try fixture.write(RunLayout.epoch(number), record.document.compact)
            try fixture.write(RunLayout.heartbeat(number), "000000000001\n")
            try fixture.write(RunLayout.fence(number), number == 1000 ? "" : record.document.compact)
            try fixture.write(RunLayout.resume(number, 0), #"{"attempt":null,"physical_name":null}"#)
            if number == 1000 { try fixture.write(RunLayout.closed(number), "{}") }
        }
        let calls = Mutex<[String: Int]>([:])
        let opened = try await fixture.open(hook: { moment, call in
            if moment == .before { calls.withLock { $0[call, default: 0] += 1 } }
        })
        #expect(opened.hold.epoch.number == 1001)
        let count = calls.withLock { $0.values.reduce(0, +) }
        // Listed, and where it went on from.
        #expect(count > 2000 && count < 2000 + 40)
        let many = calls.withLock { $0.filter { $0.value > 3 && !$0.key.contains("/1001/") } }
        #expect(many.isEmpty)
    }

    @Test func `those that died before they chose are fenced, and the last that chose`() async throws {
        for number in 1...6 {
            try fixture.write(RunLayout.epoch(number), HoldTests.record(number).document.compact)
            try fixture.write(RunLayout.fence(number), "")
            if number < 4 { try fixture.write(RunLayout.resume(number, 0), #"{"attempt":null}"#) }
            try fixture.write(RunLayout.closed(6), "{}")
        }
        _ = try await fixture.open()
        #expect(
            try (1...6).map { try !fixture.text(RunLayout.fence($0)).isEmpty }
                == [false, false, true, true, true, false])
    }

    @Test func `what the last holder fell back to until it was fenced counts`() async throws {
        try await dead("a")
        let second = try await fixture.open()
        try fixture.kill(second)
        let fixture = fixture
        let third = try await fixture.open(hook: { moment, call in
            // It falls back to the beginning between our look at the epochs and the fence.
            if moment == .before, call == "post \(RunLayout.fence(2))" {
                try? fixture.write(
                    RunLayout.resume(2, 1), #"{"attempt":null,"physical_name":null,"report_index_base":1}"#)
            }
        })
        #expect(third.resumedFrom == nil)
    }

    @Test func `two that take over at the same time get two epochs, and the later one finds the other alive`()
        async throws
    {
        try await dead("a")
        let fixture = fixture
        let barrier = Barrier(2)
        let outcomes = await withTaskGroup(of: Result<OpenedRun, StorageError>.self) { group in
            for (number, host) in ["b", "c"].enumerated() {
                group.addTask {
                    await Self.race(host, fixture, barrier)
                }
                // Each is a process of its own: the second starts when the first is on its way.
                while barrier.arrived <= number { await Engine.shared.sleep(milliseconds: 1) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        let winners = outcomes.compactMap { try? $0.get() }
        #expect(winners.map(\.hold.epoch.number) == [2])
        let errors = outcomes.compactMap { outcome -> StorageError? in
            if case .failure(let error) = outcome { error } else { nil }
        }
        #expect(errors.map(\.code) == [.runInUse])
        #expect(errors.first?.detailsDocument["holder_epoch"] == 2)
        #expect(try !fixture.exists(RunLayout.epoch(3)))
    }

    private static func race(
        _ host: String, _ fixture: RunFixture, _ barrier: Barrier
    ) async -> Result<OpenedRun, StorageError> {
        let once = Once()
        do {
            let opened = try await fixture.open(
                host, change: { $0.heartbeatMilliseconds = 500 },
                hook: { moment, call throws(StorageError) in
                    guard moment == .before, call == "create \(RunLayout.epoch(2))" else { return }
                    try await once.run {
                        fixture.forgetOpen()
                        // Both have looked before either creates.
                        await barrier.arrive()
                    }
                })
            return .success(opened)
        } catch {
            return .failure((error as? StorageError) ?? StorageError(.internal, "\(error)"))
        }
    }

    @Test func `an epoch's number is never used again, whatever is in its record`() async throws {
        try await dead()
        try fixture.write(RunLayout.epoch(7), "{}")
        // Without a record nobody has it.
        try fixture.write(RunLayout.heartbeat(9), "")
        let opened = try await fixture.open()
        #expect(opened.hold.epoch.number == 8)
    }

    @Test(arguments: ["9223372036854775807", "-3", "0", "007", "x", "18446744073709551616"])
    func `what is no epoch is passed over`(name: String) async throws {
        try fixture.write("\(RunLayout.epochs)\(name)/epoch.json", "{}")
        let opened = try await fixture.open()
        #expect(opened.hold.epoch.number == 1)
    }

    @Test func `attempts of a run that was removed and made anew are not those of the old one`() async throws {
        let old = try await fixture.open()
        let attempt = try await fixture.leave(old, 0, .sealed)
        try fixture.kill(old)
        try System.removeTree(fixture.root)
        let new = try await fixture.open()
        #expect(new.runID != old.runID && new.hold.epoch.nonce != old.hold.epoch.nonce)
        #expect(new.hold.epoch.number == old.hold.epoch.number)
        #expect(try new.store.commit(attempt, as: "c") == .aborted)
    }

    // MARK: - Who holds it

    @Test func `a live holder on another host is in the way, and nothing is written`() async throws {
        let holder = try await fixture.open("b") { $0.heartbeatMilliseconds = 100 }
        let error = await #expect(throws: StorageError.self) { _ = try await fixture.open("a") }
        #expect(error?.code == .runInUse && error?.isRetryable == true)
        #expect(error?.detailsDocument["holder_epoch"] == 1)
        #expect(error?.message.contains(holder.hold.epoch.holder) == true)
        #expect(try !fixture.exists("\(RunLayout.epochs)2") && fixture.text(RunLayout.fence(1)).isEmpty)
    }

    @Test func `a dead holder on this host is not waited for`() async throws {
        let first = try await fixture.open()
        first.hold.release()
        first.lock.release()
        // Its T is a minute: watching would take three.
        let second = try await fixture.open()
        #expect(second.hold.epoch.number == 2)
    }

    @Test func `nor is one on another host that said goodbye`() async throws {
        try fixture.close(try await fixture.train("b"))
        let second = try await fixture.open()
        #expect(second.hold.epoch.number == 2)
        #expect(try fixture.text(RunLayout.fence(1)).isEmpty)
    }

    @Test func `one process opens a run once`() async throws {
        let opened = try await fixture.open()
        _ = OpenRuns.shared.enter(opened.runID)
        let takeover = Takeover(
            options: fixture.options("b"), environment: .system, engine: .shared, progress: Progress())
        let error = await #expect(throws: StorageError.self) { _ = try await takeover.open() }
        #expect(error?.code == .runInUse)
        #expect(try !fixture.exists(RunLayout.epoch(2)))
    }

    @Test func `an opening that fails lets go of everything`() async throws {
        try await dead("a")
        for call in ["epoch.json", "fence", "list ", "resume-0.json", "replace \(RunLayout.snapshot)"] {
            await #expect(throws: StorageError.self) {
                _ = try await fixture.open(hook: { moment, current throws(StorageError) in
                    if moment == .before, current.hasPrefix("read") == false, current.hasSuffix(call) {
                        throw StorageError(.io, "away")
                    }
                })
            }
            let id = try #require(try fixture.runID())
            #expect(OpenRuns.shared.enter(id), "after \(call)")
            OpenRuns.shared.leave(id)
        }
        let opened = try await fixture.open()
        #expect(opened.resumedFrom?.sequence == ReportSequence(epoch: 1, index: 0))
    }

    // MARK: - Where

    @Test func `a run inside another run is refused before anything is written`() async throws {
        _ = try await fixture.open()
        let error = await #expect(throws: StorageError.self) {
            _ = try await fixture.open("a") { $0.storagePath = fixture.path("checkpoint_x") }
        }
        #expect(error?.code == .invalidArgument && error?.detailsDocument["run"] == .string(fixture.root))
        #expect(try !fixture.exists("checkpoint_x"))
    }

    @Test func `a run around another run is refused`() async throws {
        _ = try await fixture.open()
        let error = await #expect(throws: StorageError.self) {
            _ = try await fixture.open("a") {
                $0.storagePath = fixture.tree.path
                $0.name = "storage"
            }
        }
        #expect(error?.code == .invalidArgument)
        #expect(try System.status(fixture.tree.at("storage/.raystorage")) == nil)
    }

    @Test func `a run that must be new or must exist is refused otherwise, before anything is written`() async throws {
        let missing = await #expect(throws: StorageError.self) { _ = try await fixture.open { $0.resume = .must } }
        #expect(missing?.code == .notFound)
        let from = await #expect(throws: StorageError.self) { _ = try await fixture.open { $0.resumeFrom = "c" } }
        #expect(from?.code == .notFound)
        #expect(try System.status(fixture.root) == nil)
        try fixture.close(try await fixture.train { $0.resume = .never })
        let exists = await #expect(throws: StorageError.self) { _ = try await fixture.open { $0.resume = .never } }
        #expect(exists?.code == .alreadyExists)
        let name = await #expect(throws: StorageError.self) { _ = try await fixture.open { $0.resumeFrom = "c" } }
        #expect(name?.code == .notFound)
        #expect(try !fixture.exists(RunLayout.epoch(2)))
        let opened = try await fixture.open { $0.resume = .must }
        #expect(opened.hold.epoch.number == 2)
    }
}
