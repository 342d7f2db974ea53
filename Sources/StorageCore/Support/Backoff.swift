internal import Glibc

/// Whether and when a failed step is tried again. Pure: attempt, elapsed time and a random number come in.
struct RetryPolicy: Sendable, Equatable {
    /// Without success for so long, the step has failed.
    var timeoutMilliseconds: Int64
    /// The same while the other side has never answered anything: an address that is wrong does not mend by itself.
    var firstAnswerMilliseconds: Int64 = 30_000
    /// The first pause is drawn from zero to this, doubled each time.
    var firstPauseMilliseconds: Int64 = 100
    var longestPauseMilliseconds: Int64 = 15_000
    /// A disk that fails or is full does not mend by itself: a few tries, for the sake of what frees space meanwhile.
    var attemptsOnLocalFailure = 3
    /// Tries in all; nil: as many as the time allows.
    var attempts: Int?
    /// A server may ask for a longer pause, up to this.
    var longestAskedPauseMilliseconds: Int64 = 60_000

    /// The pause before the next try; nil: give up. `random` is from 0 to 1 (full jitter); `asked` is what the other side
    /// asked for (`Retry-After`).
    func pause(
        after error: StorageError, attempt: Int, elapsedMilliseconds: Int64, random: Double, asked: Int64? = nil
    ) -> Int64? {
        guard error.isRetryable, elapsedMilliseconds < timeoutMilliseconds else { return nil }
        if let attempts, attempt >= attempts { return nil }
        if error.code == .noSpace || error.errorNumber == EIO, attempt >= attemptsOnLocalFailure { return nil }
        let ceiling = min(longestPauseMilliseconds, firstPauseMilliseconds << min(attempt - 1, 20))
        let drawn = Int64(Double(ceiling) * min(1, max(0, random)))
        let pause = max(drawn, min(asked ?? 0, longestAskedPauseMilliseconds))
        return min(pause, timeoutMilliseconds - elapsedMilliseconds)
    }
}

extension Engine {
    /// Cancels `progress` if `body` takes longer.
    func limit<Value: Sendable>(
        _ progress: Progress, milliseconds: Int64, _ body: () async -> Value
    ) async -> Value {
        let hasEnded = Flag()
        spawn { [self] in
            var rest = milliseconds
            while rest > 0, !hasEnded.isSet {
                await sleep(milliseconds: min(rest, 50))
                rest -= 50
            }
            if !hasEnded.isSet { progress.cancel() }
        }
        defer { hasEnded.raise() }
        return await body()
    }

    /// Repeats a step as the policy says. The last error carries the number of attempts.
    func retrying<Value: Sendable>(
        _ policy: RetryPolicy, environment: Environment, progress: Progress,
        _ step: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        let start = environment.bootMilliseconds()
        var attempt = 1
        while true {
            var failure: StorageError
            do throws(StorageError) { return try await step() } catch { failure = error }
            try progress.checkCancelled()
            let elapsed = environment.bootMilliseconds() - start
            let random = Double(UInt32(environment.randomHex(4), radix: 16) ?? 0) / Double(UInt32.max)
            guard
                let pause = policy.pause(
                    after: failure, attempt: attempt, elapsedMilliseconds: elapsed, random: random)
            else {
                if attempt > 1 { failure.details.append(("attempts", JSONValue(attempt))) }
                throw failure
            }
            await sleep(milliseconds: pause)
            attempt += 1
        }
    }
}
