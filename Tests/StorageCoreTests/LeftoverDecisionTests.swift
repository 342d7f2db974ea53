import Testing

@testable import StorageCore

/// The whole table: what becomes of an attempt whose trainer is dead, for every combination of facts.
@Suite struct LeftoverDecisionTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var hasDirectory: Bool
        var isSealed: Bool
        var journal: Journal
        var hasSource: Bool
        var owner: Owner
        var testDescription: String {
            "\(owner) \(journal)\(hasDirectory ? " directory" : "")\(isSealed ? " sealed" : "")\(hasSource ? " source" : "")"
        }
    }

    /// What the journal entry says, and of which boot.
    enum Journal: CaseIterable, Sendable { case none, intent, handedIntent, complete, completeOfOtherBoot }
    /// Whose it is: by the journal entry, else by the epoch's record.
    enum Owner: CaseIterable, Sendable { case us, other, unknownEpoch }

    static let table: [Case] = Owner.allCases.flatMap { owner in
        Journal.allCases.flatMap { journal in
            [false, true].flatMap { hasDirectory in
                [false, true].flatMap { isSealed in
                    [false, true].map { hasSource in
                        Case(
                            hasDirectory: hasDirectory, isSealed: isSealed, journal: journal, hasSource: hasSource,
                            owner: owner)
                    }
                }
            }
        }
    }

    private static func record(_ journal: Journal, host: String) -> CapturedRecord? {
        if journal == .none { return nil }
        return CapturedRecord(
            runID: "r", attempt: HistoryTests.attempt(1, 0), name: "n", physicalName: "n", metrics: .object([]),
            hostID: host, bootID: journal == .completeOfOtherBoot ? "earlier" : "now", createdAt: 0, durability: .fsync,
            isComplete: journal == .complete || journal == .completeOfOtherBoot,
            source: journal == .handedIntent ? "/from" : nil)
    }

    private static func decide(_ row: Case) -> LeftoverDecision {
        let host = row.owner == .other ? "them" : "us"
        return LeftoverDecision.decide(
            LeftoverDecision.Facts(
                hasDirectory: row.hasDirectory, isSealed: row.isSealed, captured: record(row.journal, host: host),
                epochHostID: row.owner == .unknownEpoch ? nil : host, hasSource: row.hasSource),
            hostID: "us", bootID: "now")
    }

    @Test(arguments: table) func `every combination of facts has its end`(row: Case) {
        let decision = Self.decide(row)
        let isOurs = row.owner == .us || (row.owner == .unknownEpoch && row.journal != .none)
        if !isOurs {
            // Never touched: its host may be about to finish it.
            #expect(decision == .leave)
        } else if !row.hasDirectory {
            #expect(decision == .discard)
        } else if row.isSealed {
            // The manifest is the proof, whatever boot and journal say.
            #expect(decision == .commit)
        } else {
            switch row.journal {
            case .none, .intent: #expect(decision == .discard)
            case .handedIntent:
                // Somebody may have made the directory anew: what came by the rename is never thrown away.
                #expect(decision == .giveBack(to: row.hasSource ? "/from.returned-1-0-1a" : "/from"))
            case .complete: #expect(decision == .sealAndCommit)
            case .completeOfOtherBoot:
                guard case .lost(let reason) = decision else {
                    Issue.record("not lost but \(decision)")
                    return
                }
                #expect(reason.contains("machine went down"))
            }
        }
    }

    @Test func `what its trainer had begun to fsync is written anew, in the same boot`() {
        for (journal, isSealed, expected) in [
            (Journal.complete, false, LeftoverDecision.rewriteAndCommit), (.complete, true, .commit),
            (.none, false, .discard), (.intent, false, .discard),
        ] {
            let facts = LeftoverDecision.Facts(
                hasDirectory: true, isSealed: isSealed, hasBegunSealing: true,
                captured: Self.record(journal, host: "us"), epochHostID: "us", hasSource: false)
            #expect(LeftoverDecision.decide(facts, hostID: "us", bootID: "now") == expected)
        }
        let other = LeftoverDecision.Facts(
            hasDirectory: true, isSealed: false, hasBegunSealing: true,
            captured: Self.record(.completeOfOtherBoot, host: "us"), epochHostID: "us", hasSource: false)
        guard case .lost = LeftoverDecision.decide(other, hostID: "us", bootID: "now") else {
            Issue.record("not lost")
            return
        }
    }

    @Test func `the journal entry says whose it is, not the epoch`() {
        // A drained epoch of another host with our journal entry, and the other way round.
        for (captured, epoch, expected) in [("us", "them", LeftoverDecision.sealAndCommit), ("them", "us", .leave)] {
            let facts = LeftoverDecision.Facts(
                hasDirectory: true, isSealed: false, captured: Self.record(.complete, host: captured),
                epochHostID: epoch, hasSource: false)
            #expect(LeftoverDecision.decide(facts, hostID: "us", bootID: "now") == expected)
        }
    }

    @Test func `with a journal entry that cannot be read it is lost, unless its manifest proves it`() {
        for (isSealed, expected) in [(true, LeftoverDecision.commit), (false, .lost("its journal entry is damaged"))] {
            let facts = LeftoverDecision.Facts(
                hasDirectory: true, isSealed: isSealed, captured: nil, epochHostID: "us", hasSource: false,
                hasDamagedJournal: true)
            #expect(LeftoverDecision.decide(facts, hostID: "us", bootID: "now") == expected)
            #expect(LeftoverDecision.decide(facts, hostID: "them", bootID: "now") == .leave)
        }
    }

    @Test func `the journal entry survives the way through its file`() throws {
        for journal in [Journal.intent, .handedIntent, .complete] {
            let record = try #require(Self.record(journal, host: "us"))
            #expect(CapturedRecord(try JSONParser.parse(record.document.compactBytes)) == record)
        }
    }

    @Test(arguments: ["run_id", "attempt", "name", "physical_name", "host_id", "boot_id"])
    func `a journal entry without a member is none`(member: String) throws {
        let record = try #require(Self.record(.complete, host: "us"))
        let members = (record.document.objectValue ?? []).filter { $0.key != member }
        #expect(CapturedRecord(.object(members)) == nil)
    }

    @Test func `a journal entry that does not say complete is an intent`() throws {
        let record = try #require(Self.record(.complete, host: "us"))
        let members = (record.document.objectValue ?? []).filter { $0.key != "complete" }
        #expect(CapturedRecord(.object(members))?.isComplete == false)
    }
}
