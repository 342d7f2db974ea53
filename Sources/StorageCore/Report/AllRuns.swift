internal import Synchronization

/// The open runs of this process, for `shutdown`.
final class AllRuns: Sendable {
    private let runs = Mutex<[ObjectIdentifier: TrainingRun]>([:])
    static var shared: AllRuns { Engine.shared.only(AllRuns.self) { AllRuns() } }
    func add(_ run: TrainingRun) { runs.withLock { $0[ObjectIdentifier(run)] = run } }
    func remove(_ run: TrainingRun) { runs.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(run)) } }
    var all: [TrainingRun] { runs.withLock { Array($0.values) } }
}
