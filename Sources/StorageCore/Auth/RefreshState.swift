/// When credentials are renewed, and what a caller gets meanwhile. Pure: times, random numbers and results come in.
///
/// How long credentials are good is measured on `CLOCK_BOOTTIME` from the moment they came: setting the wall clock later changes
/// nothing, and a wall clock that is wrong shows in the store's refusal, which `rejected` brings here.
struct RefreshState: Sendable {
    /// What a caller does.
    enum Step: Sendable {
        case use(AWSCredentials)
        /// Use these, and begin to renew them behind the caller's back.
        case useAndRefresh(AWSCredentials)
        /// Begin a renewal and wait for it.
        case refresh
        /// Wait for the renewal that is on its way.
        case join
        /// Ask again after that long: the last try is too recent.
        case wait(milliseconds: Int64)
        case fail(StorageError)
    }

    /// How long before the end renewal begins, and how long before it callers wait for it, in milliseconds.
    static let advisory: Int64 = 300_000
    static let mandatory: Int64 = 30_000
    /// Between the end of one try and the next.
    static let spacing: Int64 = 1_000
    static let longestPause: Int64 = 60_000
    /// For credentials that come expired by our clock: it may be wrong, or their source says they go on being good.
    static let doubtfulLife: Int64 = 300_000

    private(set) var current: AWSCredentials?
    private(set) var isRefreshing = false
    /// On `CLOCK_BOOTTIME`; `.max`: never.
    private var refreshAt = Int64.max
    private var mustRefreshAt = Int64.max
    private var endsAt = Int64.max
    private var lastTry: Int64?
    private var failures = 0
    /// Of the last renewal; nil: it succeeded.
    private(set) var lastError: StorageError?

    /// `rejected`: what the store refused, whatever its time says. `boot`: now on `CLOCK_BOOTTIME`, in milliseconds.
    mutating func ask(rejected: AWSCredentials?, boot: Int64) -> Step {
        // Somebody else has renewed them since the caller took his: they are the answer.
        let isRejected = rejected != nil && rejected == current
        if let current, !isRejected {
            if boot < refreshAt { return .use(current) }
            if boot < mustRefreshAt {
                guard !isRefreshing, boot >= nextTry else { return .use(current) }
                isRefreshing = true
                return .useAndRefresh(current)
            }
        }
        if isRefreshing { return .join }
        if boot < nextTry {
            // Still good, if only for seconds, and just tried in vain.
            if let current, !isRejected, boot < endsAt { return .use(current) }
            if let lastError { return .fail(lastError) }
            return .wait(milliseconds: nextTry - boot)
        }
        isRefreshing = true
        return .refresh
    }

    /// What a renewal brought. `now`: seconds since 1970; `random`: from 0 to 1, so that a thousand ranks do not ask at once.
    mutating func finish(
        _ result: Result<AWSCredentials, StorageError>, now: Double, boot: Int64, random: Double
    ) {
        isRefreshing = false
        lastTry = boot
        switch result {
        case .failure(let error):
            // A cancelled caller says nothing about the source.
            lastError = error.code == .cancelled ? nil : error
            failures += 1
        case .success(let fresh):
            (lastError, failures) = (nil, 0)
            current = fresh
            schedule(fresh, now: now, boot: boot, random: random)
        }
    }

    private mutating func schedule(_ fresh: AWSCredentials, now: Double, boot: Int64, random: Double) {
        guard let expiresAt = fresh.expiresAt else {
            (refreshAt, mustRefreshAt, endsAt) = (.max, .max, .max)
            return
        }
        var life = Int64(max(-1e12, min(1e12, (expiresAt - now) * 1000)))
        // Ten years are no promise that anybody keeps track of; and nothing here may overflow.
        if life <= 0 { life = Self.doubtfulLife }
        let early = min(Self.advisory, life / 4)
        let jitter = Int64(Double(early) * 0.5 * max(0, min(1, random)))
        endsAt = boot + life
        mustRefreshAt = endsAt - min(Self.mandatory, life / 10)
        refreshAt = min(mustRefreshAt, endsAt - early - jitter)
    }

    /// Never more than one try per second; after failures ever fewer.
    private var nextTry: Int64 {
        guard let lastTry else { return .min }
        guard failures > 0 else { return lastTry + Self.spacing }
        return lastTry + min(Self.longestPause, Self.spacing << min(failures - 1, 10))
    }

    /// Until when the current ones are good by our clock; for warnings. Milliseconds from `boot`, nil: no end is known.
    func remaining(boot: Int64) -> Int64? { endsAt == .max ? nil : endsAt - boot }
}
