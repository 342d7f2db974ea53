import Synchronization
import Testing

@testable import StorageCore

@Suite struct EngineTests {
    @Test func `runs tasks on its own threads and wakes sleepers`() async {
        let engine = Engine.shared
        await withCheckedContinuation { continuation in
            engine.spawn {
                await engine.sleep(milliseconds: 5)
                continuation.resume()
            }
        }
    }

    @Test func `visits every element once and returns the earliest failure`() async {
        let seen = Mutex<[Int: Int]>([:])
        let failure = await Task(executorPreference: Engine.shared) { () -> StorageError? in
            do throws(StorageError) {
                try await Engine.shared.forEach(Array(0..<1000)) { element throws(StorageError) in
                    seen.withLock { $0[element, default: 0] += 1 }
                }
                try await Engine.shared.forEach(Array(0..<50), limit: 1) { element throws(StorageError) in
                    if element >= 7 { throw StorageError(.io, "element \(element)") }
                }
                return nil
            } catch { return error }
        }.value
        #expect(seen.withLock { $0.count == 1000 && $0.values.allSatisfy { $0 == 1 } })
        #expect(failure?.message == "element 7")
    }
}
