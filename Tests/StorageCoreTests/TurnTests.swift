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
}
