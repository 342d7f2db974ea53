internal import Synchronization

/// Requests that workers take one after another; cheap enough for hundreds of thousands of small files.
final class UnitQueue: Sendable {
    private struct State {
        var next = 0
        /// To be done again, before the rest.
        var again: [PartPlan.Unit] = []
        /// The first one; nothing is begun after it.
        var failure: StorageError?
    }
    private let units: [PartPlan.Unit]
    private let state = Mutex(State())

    init(_ units: [PartPlan.Unit]) { self.units = units }

    func take() -> PartPlan.Unit? {
        state.withLock { state in
            if state.failure != nil { return nil }
            if let unit = state.again.popLast() { return unit }
            guard state.next < units.count else { return nil }
            state.next += 1
            return units[state.next - 1]
        }
    }

    func putBack(_ units: [PartPlan.Unit]) { state.withLock { $0.again.append(contentsOf: units.reversed()) } }

    /// Has `body` done for every unit, by as many workers as the job may have requests at a time by its own terms: the gate
    /// shares out what the store takes. The first error is thrown, and cancels `life`: what runs beside it would be
    /// in vain.
    func run(
        _ gate: TransferGate, _ job: TransferGate.Job, life: Progress,
        _ body: @escaping @Sendable (PartPlan.Unit) async throws(StorageError) -> Void
    ) async throws(StorageError) {
        let workers = min(units.count, gate.concurrency(job))
        guard workers > 0 else { return }
        do throws(StorageError) {
            try await Engine.shared.forEach(Array(0..<workers), limit: workers) { [self] _ throws(StorageError) in
                try await work(life, body)
            }
        } catch {
            // The others say only that they were cancelled.
            throw state.withLock { $0.failure } ?? error
        }
    }

    private func work(
        _ life: Progress, _ body: (PartPlan.Unit) async throws(StorageError) -> Void
    ) async throws(StorageError) {
        while let unit = take() {
            do throws(StorageError) {
                try life.checkCancelled()
                try await body(unit)
            } catch {
                state.withLock { $0.failure = $0.failure ?? error }
                life.cancel()
                throw error
            }
        }
    }
}
