import Glibc
import Synchronization
import Testing

@testable import StorageCore

@Suite struct BackoffTests {
    private let policy = RetryPolicy(timeoutMilliseconds: 60_000)
    private static let passing = StorageError(.io, "busy", isRetryable: true)

    private func pause(
        _ error: StorageError = passing, attempt: Int = 1, elapsed: Int64 = 0, random: Double = 1
    ) -> Int64? {
        policy.pause(after: error, attempt: attempt, elapsedMilliseconds: elapsed, random: random)
    }

    @Test func `the longest pause doubles up to a limit`() {
        #expect((1...10).map { pause(attempt: $0) } == [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000])
        #expect(pause(attempt: .max) == 15_000)
    }

    @Test(arguments: 1...9) func `the pause is drawn from nothing to the longest`(attempt: Int) throws {
        let longest = try #require(pause(attempt: attempt, random: 1))
        #expect(pause(attempt: attempt, random: 0) == 0)
        #expect(pause(attempt: attempt, random: 0.5) == longest / 2)
        var random = SeededRandom(UInt64(attempt))
        for _ in 0..<1000 {
            let value = try #require(pause(attempt: attempt, random: Double(random.below(1 << 30)) / Double(1 << 30)))
            #expect(value >= 0 && value <= longest)
        }
    }

    @Test(arguments: [-1.0, 2.0, .infinity, -.infinity]) func `a random number out of range is cut to it`(value: Double)
    {
        #expect(pause(random: value) == (value > 0 ? 100 : 0))
    }

    @Test func `the last pause ends at the time limit, and then it is over`() {
        #expect(pause(attempt: 9, elapsed: 59_000) == 1000)
        #expect(pause(attempt: 9, elapsed: 59_999) == 1)
        #expect(pause(attempt: 9, elapsed: 60_000) == nil)
        #expect(pause(attempt: 1, elapsed: .max) == nil)
    }

    @Test(arguments: StorageError.Code.all) func `an error that no retry mends ends at once`(code: StorageError.Code) {
        #expect(pause(StorageError(code, "")) == nil)
    }

    @Test(arguments: [ENOSPC, EDQUOT, EIO]) func `a disk that is full or broken gets three tries`(number: Int32) {
        let error = StorageError.system(number, "write", "/x")
        #expect((1...4).map { pause(error, attempt: $0) != nil } == [true, true, false, false])
    }

    @Test(arguments: [ESTALE, EAGAIN, ETIMEDOUT, EBUSY]) func `a file server that is away gets all the time`(
        number: Int32
    ) {
        #expect(pause(StorageError.system(number, "write", "/x"), attempt: 1000, elapsed: 59_999) != nil)
    }

    // MARK: - Carried out

    /// A clock that only moves when it is told to, and steps that take that long.
    private func retry(
        _ policy: RetryPolicy, progress: Progress = Progress(), _ step: @escaping @Sendable (Int) -> StorageError?
    ) async -> (result: Result<Int, StorageError>, tries: Int) {
        let clock = FakeClock()
        let tries = Counter()
        let environment = clock.environment
        do throws(StorageError) {
            let value = try await Engine.shared.retrying(policy, environment: environment, progress: progress) {
                () throws(StorageError) -> Int in
                let number = tries.next() + 1
                clock.advance(1000)
                if let error = step(number) { throw error }
                return number
            }
            return (.success(value), tries.next())
        } catch {
            return (.failure(error), tries.next())
        }
    }

    private var quick: RetryPolicy { RetryPolicy(timeoutMilliseconds: 5_000, firstPauseMilliseconds: 0) }

    @Test func `a step that succeeds later gives its value`() async throws {
        let (result, tries) = await retry(quick) { $0 < 4 ? Self.passing : nil }
        #expect(try result.get() == 4 && tries == 4)
    }

    @Test func `a step that never succeeds ends with its last error and the number of attempts`() async {
        let (result, tries) = await retry(quick) { StorageError(.io, "try \($0)", isRetryable: true) }
        #expect(tries == 5)
        let error = #expect(throws: StorageError.self) { try result.get() }
        #expect(error?.message == "try 5" && error?.detailsDocument["attempts"] == 5)
    }

    @Test func `an error that no retry mends is handed on as it is`() async {
        let (result, tries) = await retry(quick) { _ in StorageError(.permissionDenied, "no") }
        let error = #expect(throws: StorageError.self) { try result.get() }
        #expect(tries == 1 && error?.code == .permissionDenied && error?.detailsDocument["attempts"] == nil)
    }

    @Test func `a cancelled step is not tried again`() async {
        let progress = Progress()
        let (result, tries) = await retry(quick, progress: progress) { _ in
            progress.cancel()
            return Self.passing
        }
        let error = #expect(throws: StorageError.self) { try result.get() }
        #expect(tries == 1 && error?.code == .cancelled)
    }

    @Test(arguments: [0, 20] as [Int64]) func `what takes longer than it may is cancelled`(limit: Int64) async throws {
        let progress = Progress()
        let wasCancelled = await Engine.shared.limit(progress, milliseconds: limit) {
            let deadline = Deadline(timeoutMilliseconds: 60_000)
            while !progress.isCancelled, !deadline.isPast { await Engine.shared.sleep(milliseconds: 1) }
            return progress.isCancelled
        }
        #expect(wasCancelled)
    }

    @Test func `what ends in time is not cancelled later`() async throws {
        let progress = Progress()
        let value = await Engine.shared.limit(progress, milliseconds: 100) { 7 }
        // Longer than the limit, so that it would show.
        await Engine.shared.sleep(milliseconds: 250)
        #expect(value == 7 && !progress.isCancelled)
    }
}

/// A clock that moves when it is told to, or by so much at each look.
final class FakeClock: Sendable {
    private let boot = Mutex<Int64>(1_000_000)
    let step: Int64

    init(step: Int64 = 0) { self.step = step }

    func advance(_ milliseconds: Int64) { boot.withLock { $0 += milliseconds } }

    /// The machine's own environment but for this clock.
    var environment: Environment {
        var environment = Environment.system
        environment.bootMilliseconds = { [self] in
            boot.withLock { now in
                now += step
                return now
            }
        }
        return environment
    }
}
