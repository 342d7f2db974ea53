internal import CStorage
internal import Glibc
internal import Synchronization

/// Carries out what the scheduler decides: requests to one store pass here, from whatever report or restore they come.
final class TransferGate: Sendable {
    typealias Job = TransferScheduler.Job
    typealias Ticket = TransferScheduler.Ticket

    private struct State {
        var scheduler: TransferScheduler
        /// Suspended until their ticket starts; false: it never will.
        var waiting: [Ticket: CheckedContinuation<Bool, Never>] = [:]
        /// Decided before anybody was suspended.
        var answered: [Ticket: Bool] = [:]
        var timer: Int64?
    }
    private let state: Mutex<State>

    init(limits: TransferScheduler.Limits) {
        state = Mutex(State(scheduler: TransferScheduler(limits: limits, now: cs_monotonic_ns())))
    }

    /// The one of this process that the store shares.
    static func shared(_ store: any ObjectStore) -> TransferGate {
        Engine.shared.only(TransferGate.self, of: store.queueName) { TransferGate(limits: usualLimits) }
    }

    /// What this machine should have when nobody says otherwise.
    static var usualLimits: TransferScheduler.Limits { .usual(cores: Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    var limits: TransferScheduler.Limits { state.withLock { $0.scheduler.limits } }
    /// Requests that run, and that may run, now.
    var load: (running: Int, window: Int) {
        state.withLock { ($0.scheduler.runningCount, $0.scheduler.window.size) }
    }

    /// Requests at a time of one job by itself.
    func concurrency(_ job: Job) -> Int { state.withLock { $0.scheduler.concurrency(job) } }

    /// To be told of what a store suffers that repeats its tries itself.
    func slowDown() { state.withLock { $0.scheduler.slowDown(now: cs_monotonic_ns()) } }

    /// Runs `body` as a job: its requests queue here, in the order of reports (nil: before them). `body` gets what is to
    /// cancel its requests: that happens when `progress` is cancelled, and `body` may do it to end what runs beside it.
    /// None of those that wait will run then.
    func job(
        order: ReportSequence?, terms: TransferScheduler.Terms = .init(), progress: Progress,
        _ body: (Job, Progress) async throws(StorageError) -> Void
    ) async throws(StorageError) {
        let job = state.withLock { $0.scheduler.open(order: order, terms: terms) }
        let life = Progress()
        progress.lead(life)
        let hasEnded = Flag()
        watch(job, life, hasEnded)
        defer {
            progress.release(life)
            hasEnded.raise()
            close(job)
        }
        try await body(job, life)
    }

    /// One request of that many bytes, when its turn has come. `body` gets what it is to pass to the store: cancelled with
    /// `life`, it carries the slot that the request gives back while it waits for something else.
    func request<Value: Sendable>(
        _ job: Job, bytes: Int, life: Progress, _ body: (Progress) async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        guard let ticket = state.withLock({ $0.scheduler.ask(job, bytes: bytes) }) else { throw Self.ended }
        pump()
        guard await isGranted(ticket) else { throw Self.ended }
        let progress = Progress(slot: Slot(gate: self, ticket: ticket))
        life.lead(progress)
        defer { life.release(progress) }
        do throws(StorageError) {
            let value = try await body(progress)
            finish(ticket, .moved, bytes)
            return value
        } catch {
            let isSlow = error.code == .throttled || error.code == .timeout || error.code == .network
            finish(ticket, isSlow ? .slowedDown : .failed, 0)
            throw error
        }
    }

    private struct Slot: RequestSlot {
        let gate: TransferGate
        let ticket: Ticket

        func release() {
            gate.state.withLock { $0.scheduler.pause(ticket) }
            gate.pump()
        }

        func reclaim() async throws(StorageError) {
            switch gate.state.withLock({ $0.scheduler.resume(ticket) }) {
            case .running: return
            case .never: throw TransferGate.ended
            case .queued:
                gate.pump()
                guard await gate.isGranted(ticket) else { throw TransferGate.ended }
            }
        }
    }

    private static let ended = StorageError(.cancelled, "cancelled by the caller")

    private func isGranted(_ ticket: Ticket) async -> Bool {
        // Most often at once: nothing is suspended then.
        if let answer = state.withLock({ $0.answered.removeValue(forKey: ticket) }) { return answer }
        return await withCheckedContinuation { continuation in
            let answer = state.withLock { state -> Bool? in
                if let answer = state.answered.removeValue(forKey: ticket) { return answer }
                state.waiting[ticket] = continuation
                return nil
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    private func finish(_ ticket: Ticket, _ outcome: TransferScheduler.Outcome, _ bytes: Int) {
        state.withLock { $0.scheduler.finish(ticket, outcome, bytes: bytes, now: cs_monotonic_ns()) }
        pump()
    }

    private func close(_ job: Job) {
        let woken = state.withLock { state in
            Self.answer(state.scheduler.close(job), false, &state)
        }
        for continuation in woken { continuation.resume(returning: false) }
    }

    /// Starts what may start, and comes back when a limit on bytes per second is all that holds the rest.
    private func pump() {
        let now = cs_monotonic_ns()
        let (woken, instant) = state.withLock { state in
            let woken = Self.answer(state.scheduler.start(now: now), true, &state)
            var instant = state.scheduler.nextStart(now: now)
            if let earlier = state.timer, let later = instant, earlier <= later { instant = nil }
            if instant != nil { state.timer = instant }
            return (woken, instant)
        }
        for continuation in woken { continuation.resume(returning: true) }
        guard let instant else { return }
        Engine.shared.spawn { [self] in
            await Engine.shared.sleep(milliseconds: max(1, (instant - now) / 1_000_000))
            state.withLock { if $0.timer == instant { $0.timer = nil } }
            pump()
        }
    }

    private static func answer(
        _ tickets: [Ticket], _ answer: Bool, _ state: inout State
    ) -> [CheckedContinuation<Bool, Never>] {
        var woken: [CheckedContinuation<Bool, Never>] = []
        for ticket in tickets {
            if let continuation = state.waiting.removeValue(forKey: ticket) {
                woken.append(continuation)
            } else {
                state.answered[ticket] = answer
            }
        }
        return woken
    }

    /// Requests that wait for their turn hear of a cancellation from nobody else.
    private func watch(_ job: Job, _ life: Progress, _ hasEnded: Flag) {
        Engine.shared.spawn { [self] in
            while !hasEnded.isSet {
                if life.isCancelled { return close(job) }
                await Engine.shared.sleep(milliseconds: 50)
            }
        }
    }
}

/// Tells the gate of a store what it suffers: a store is opened before its gate is known.
final class TroubleRelay: Sendable {
    private let gate = Mutex<TransferGate?>(nil)

    func tell(_ trouble: StoreTrouble) { gate.withLock { $0 }?.slowDown() }
    func lead(to gate: TransferGate) { self.gate.withLock { $0 = gate } }
}
