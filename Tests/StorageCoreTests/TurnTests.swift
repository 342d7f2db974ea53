import Synchronization
import Testing

@testable import StorageCore

@Suite struct TurnTests {
    private final class Counts: Sendable {
        let state = Mutex<(now: Int, most: Int, all: Int)>((0, 0, 0))
        func enter() {
            state.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
                $0.all += 1
            }
        }
        func leave() { state.withLock { $0.now -= 1 } }
    }

    @Test func `lets one through at a time, also after an error`() async throws {
        let turn = Turn()
        let counts = Counts()
        try await Engine.shared.forEach(Array(0..<50), limit: 8) { index throws(StorageError) in
            do throws(StorageError) {
                try await turn.take { () async throws(StorageError) in
                    counts.enter()
                    await Engine.shared.sleep(milliseconds: 0)
                    counts.leave()
                    if index % 7 == 0 { throw StorageError(.io, "on purpose") }
                }
            } catch {}
        }
        let (_, most, all) = counts.state.withLock { $0 }
        #expect(most == 1)
        #expect(all == 50)
    }

    private final class Order: Sendable {
        private let words = Mutex<[String]>([])
        var seen: [String] { words.withLock { $0 } }
        func add(_ word: String) { words.withLock { $0.append(word) } }
    }

    private func until(_ condition: () -> Bool) async {
        while !condition() { await Engine.shared.sleep(milliseconds: 1) }
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 who is cancelled while waiting goes though the turn is held, and the next one still gets it`() async throws
    {
        let turn = Turn()
        let isFree = Flag()
        let impatient = Progress()
        let order = Order()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) {
                try await turn.take { () async throws(StorageError) in
                    order.add("holds")
                    await until { isFree.isSet }
                    order.add("ends")
                }
            }
            await until { order.seen == ["holds"] }
            group.addTask(executorPreference: Engine.shared) {
                let error = await #expect(throws: StorageError.self) {
                    try await turn.take(impatient) { () async throws(StorageError) in
                        order.add("never")
                    }
                }
                #expect(error?.code == .cancelled)
                order.add("gone")
                isFree.raise()
            }
            await until { turn.waitingCount == 1 }
            group.addTask(executorPreference: Engine.shared) {
                try await turn.take(Progress()) { () async throws(StorageError) in order.add("next")
                }
            }
            await until { turn.waitingCount == 2 }
            impatient.cancel()
            try await group.waitForAll()
        }
        #expect(order.seen == ["holds", "gone", "ends", "next"])
        // Nobody holds it any more, and who is cancelled beforehand does not begin.
        try await turn.take(Progress()) { () async throws(StorageError) in order.add("last") }
        let error = await #expect(throws: StorageError.self) {
            try await turn.take(impatient) { () async throws(StorageError) in order.add("never") }
        }
        #expect(error?.code == .cancelled && order.seen.last == "last")
    }

    @Test func `what becomes true between two looks is in one of both lists`() {
        var numbers = Array(0..<10)
        var asked: Set<Int> = []
        // True from the second time on that it is asked.
        let taken = numbers.extract { !asked.insert($0).inserted || $0 % 3 == 0 }
        #expect(taken == [0, 3, 6, 9] && numbers == [1, 2, 4, 5, 7, 8])
    }
}
