/// When it is said that requests to one server keep failing, and when that they go through again: soon for the first one, then
/// ever more rarely, however many fail side by side. Pure: the time comes in.
struct RetryNotice: Sendable, Equatable {
    /// An operation that got no further for so long is worth a word.
    var firstMilliseconds: Int64 = 5_000
    /// Between two words at first, doubled each time.
    var shortestIntervalMilliseconds: Int64 = 10_000
    var longestIntervalMilliseconds: Int64 = 300_000

    /// Operations that get no further, and since when.
    private var stuck: [Int: Int64] = [:]
    /// When the first of those began of which was said that they fail; nil: nothing was said since the last good news.
    private var failingSince: Int64?
    private var toldAt: Int64?
    private var troubledAt: Int64?
    private var interval: Int64 = 0

    /// An operation has failed, got no further for `idle` milliseconds, and is tried again. How many are in that state when
    /// it is to be told of, else nil.
    mutating func failed(_ id: Int, idle: Int64, now: Int64) -> Int? {
        guard idle >= firstMilliseconds else { return nil }
        stuck[id] = now - idle
        // After a quiet while the next trouble is a new one.
        if let troubledAt, now - idle - troubledAt >= longestIntervalMilliseconds { interval = 0 }
        troubledAt = now
        if let toldAt, now - toldAt < interval { return nil }
        toldAt = now
        interval = min(longestIntervalMilliseconds, max(shortestIntervalMilliseconds, interval * 2))
        failingSince = failingSince ?? stuck.values.min()
        return stuck.count
    }

    /// An operation has ended without an answer that says that the server works.
    mutating func ended(_ id: Int) { stuck[id] = nil }

    /// An operation was answered. For how many milliseconds the server had failed when that is to be told, else nil.
    mutating func answered(_ id: Int, now: Int64) -> Int64? {
        stuck[id] = nil
        guard stuck.isEmpty, let since = failingSince else { return nil }
        failingSince = nil
        return now - since
    }
}
