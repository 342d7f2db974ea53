/// A token bucket for the repeated tries of everybody who uses one store, so that an outage does not become a storm.
///
/// A try that finds it empty is put off, not refused: what is uploaded must survive outages of any length. Pure: the time
/// comes in.
struct RetryBudget: Sendable, Equatable {
    var capacity = 100.0
    /// Tries per second once it is empty.
    var refillPerSecond = 5.0
    /// What a success gives back.
    var refundPerSuccess = 0.5

    private var tokens: Double
    private var updatedAt: Int64

    init(capacity: Double = 100, refillPerSecond: Double = 5, now: Int64) {
        self.capacity = capacity
        self.refillPerSecond = refillPerSecond
        tokens = capacity
        updatedAt = now
    }

    /// Takes a token, perhaps one that is still to come; the milliseconds until it is there.
    mutating func take(now: Int64) -> Int64 {
        refill(now)
        tokens -= 1
        return tokens >= 0 ? 0 : Int64(-tokens / refillPerSecond * 1000)
    }

    mutating func succeeded(now: Int64) {
        refill(now)
        tokens = min(capacity, tokens + refundPerSuccess)
    }

    private mutating func refill(_ now: Int64) {
        guard now > updatedAt else { return }
        tokens = min(capacity, tokens + Double(now - updatedAt) / 1000 * refillPerSecond)
        updatedAt = now
    }
}

/// When the bytes of one request last got further than in any try before: what "no byte has moved" is measured by. A
/// connection that breaks at the same byte every time is no progress.
struct ByteProgress: Sendable, Equatable {
    private(set) var advancedAt: Int64
    private var moved = 0
    private var furthest = 0

    init(now: Int64) { advancedAt = now }

    /// `bytes`: what it need not move again.
    mutating func beginTry(at bytes: Int = 0) { moved = bytes }

    /// So many milliseconds do not count: it could not have moved anything.
    mutating func excuse(_ milliseconds: Int64) { advancedAt += max(0, milliseconds) }

    mutating func move(_ bytes: Int, now: Int64) {
        moved += bytes
        guard moved > furthest else { return }
        furthest = moved
        advancedAt = now
    }
}
