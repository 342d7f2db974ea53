import Synchronization

@testable import StorageCore

/// Another host that takes a run over, though its holder is alive: the holder's T counts as short. Keeps what it opened, for
/// hooks to hand out.
final class Newcomer: Sendable {
    private let opened = Mutex<OpenedRun?>(nil)

    var run: OpenedRun? { opened.withLock { $0 } }

    @discardableResult
    func takeOver(_ fixture: RunFixture) async throws(StorageError) -> OpenedRun {
        do {
            // As `kill`, without ending anybody.
            let epoch = try fixture.document(RunLayout.epoch(1))
            var record = EpochRecord(epoch ?? .null)
            record?.heartbeatMilliseconds = 10
            if let record { try fixture.write(RunLayout.epoch(1), record.document.compact) }
            let run = try await fixture.open("b")
            opened.withLock { $0 = run }
            return run
        } catch {
            throw (error as? StorageError) ?? StorageError(.internal, "\(error)")
        }
    }
}
