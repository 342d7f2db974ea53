/// How many requests run at a time: what a link can use is found by trying. Pure.
///
/// It doubles while that makes the transfer faster, then goes by single steps, up again when a step up has paid and down
/// when it has not. A store that asks to slow down halves it, and it opens slowly after that.
struct TransferWindow: Sendable, Equatable {
    /// At least 1.
    private(set) var size: Int
    private(set) var maximum: Int
    /// Whether requests had to wait for it: otherwise its size says nothing.
    var isFull = false

    private enum Phase: Sendable, Equatable { case doubling, probing, resting }
    private var phase = Phase.doubling
    private var lastRate = 0.0
    /// Before the last step up.
    private var sizeBefore: Int
    private var quietRounds = 0
    private var work = 0
    private var count = 0
    private var roundStart: Int64
    private var lastCut: Int64?

    private static let first = 8
    /// What a request costs beside its bytes.
    private static let requestWork = 256 << 10
    private static let shortestRound: Int64 = 50_000_000
    /// After a cut, until a while has gone by without another.
    private static let cautiousRound: Int64 = 1_000_000_000
    private static let caution: Int64 = 10_000_000_000
    /// Requests that run together fail together: one cut for all of them.
    private static let cutPause: Int64 = 500_000_000
    private static let roundsBetweenProbes = 8

    init(maximum: Int, now: Int64) {
        self.maximum = max(1, maximum)
        size = min(Self.first, self.maximum)
        sizeBefore = size
        roundStart = now
    }

    /// Another maximum, at least 1. A window that had reached the old one goes on opening.
    mutating func limit(_ maximum: Int) {
        if maximum > self.maximum, size == self.maximum, lastCut == nil { (phase, lastRate) = (.doubling, 0) }
        self.maximum = max(1, maximum)
        size = min(size, self.maximum)
        sizeBefore = min(sizeBefore, self.maximum)
    }

    mutating func moved(_ bytes: Int, now: Int64) {
        work += Self.requestWork + max(0, bytes)
        count += 1
        let elapsed = now - roundStart
        guard count >= size, elapsed >= shortestRound(now) else { return }
        if isFull { judge(Double(work) / Double(elapsed)) }
        begin(now)
    }

    mutating func cut(now: Int64) {
        // What fails says that the round was no good, whatever else has moved.
        if let lastCut, now - lastCut < Self.cutPause { return begin(now) }
        lastCut = now
        size = max(1, size / 2)
        sizeBefore = size
        phase = .probing
        lastRate = 0
        begin(now)
    }

    private func shortestRound(_ now: Int64) -> Int64 {
        guard let lastCut, now - lastCut < Self.caution else { return Self.shortestRound }
        return Self.cautiousRound
    }

    private mutating func begin(_ now: Int64) {
        (work, count, roundStart, isFull) = (0, 0, now, false)
    }

    /// Only a step of our own is judged by what became of the rate. That a smaller window moves less is no reason to make
    /// it smaller still.
    private mutating func judge(_ rate: Double) {
        switch phase {
        case .doubling:
            if rate <= lastRate * 1.1 {
                size = sizeBefore
                rest()
            } else if size == maximum {
                rest()
            } else {
                sizeBefore = size
                size = min(maximum, size * 2)
            }
        case .probing:
            if rate > lastRate * 1.02 {
                step()
            } else {
                size = sizeBefore
                rest()
            }
        case .resting:
            quietRounds += 1
            if quietRounds >= Self.roundsBetweenProbes { step() }
        }
        lastRate = rate
    }

    private mutating func step() {
        phase = .probing
        sizeBefore = size
        size = min(maximum, size + 1)
    }

    private mutating func rest() {
        phase = .resting
        quietRounds = 0
    }
}

/// A limit on bytes per second with bursts of a quarter of a second. A request may run while there is anything left, and
/// what it takes beyond that has to be earned before the next one. Pure.
struct TokenBucket: Sendable, Equatable {
    private var rate: Double
    private var tokens: Double
    private var updatedAt: Int64

    init(bytesPerSecond: Int, now: Int64) {
        rate = Double(max(1, bytesPerSecond))
        tokens = rate / 4
        updatedAt = now
    }

    var isEmpty: Bool { tokens <= 0 }

    mutating func take(_ bytes: Int) { tokens -= Double(bytes) }

    /// `bytesPerSecond`: from now on; nil: as before.
    mutating func refill(now: Int64, bytesPerSecond: Int?) {
        if now > updatedAt {
            tokens = min(rate / 4, tokens + Double(now - updatedAt) / 1e9 * rate)
            updatedAt = now
        }
        guard let bytesPerSecond else { return }
        rate = Double(max(1, bytesPerSecond))
        tokens = min(tokens, rate / 4)
    }

    /// The instant from which something is there.
    func refilled(after now: Int64) -> Int64 {
        guard tokens <= 0 else { return now }
        return updatedAt + Int64(min(1e15, (1 - tokens) / rate * 1e9)) + 1
    }
}
