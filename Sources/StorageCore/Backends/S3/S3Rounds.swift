/// Rounds of requests for one purpose, each with tries of its own, between which something is looked at or left out: one
/// backoff and one limit of time for all of them. Pure: times and random numbers come in.
struct S3Rounds: Sendable {
    let policy: RetryPolicy
    /// Tells it apart from other operations (`S3Contact`).
    let id: Int
    /// Tries of all rounds since something got further.
    private(set) var tries = 0
    private(set) var advancedAt: Int64

    init(policy: RetryPolicy, id: Int, now: Int64) {
        self.policy = policy
        self.id = id
        advancedAt = now
    }

    /// Part of it is done.
    mutating func advance(now: Int64) { (tries, advancedAt) = (0, now) }

    /// So many milliseconds do not count.
    mutating func excuse(_ milliseconds: Int64) { advancedAt += max(0, milliseconds) }

    /// The pause before the next round after one of so many tries; nil: give up. `asked`: what the store asked for.
    mutating func pause(
        after error: StorageError, tries count: Int = 1, asked: Int64? = nil, now: Int64, random: Double
    ) -> Int64? {
        tries += max(1, count)
        return policy.pause(
            after: error, attempt: tries, elapsedMilliseconds: now - advancedAt, random: random,
            asked: asked)
    }
}
