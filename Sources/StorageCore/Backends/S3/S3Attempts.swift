/// The tries of one operation: what has been tried, and what comes next. Pure: failures, times and random numbers come in.
struct S3Attempts: Sendable {
    enum Step: Sendable, Equatable {
        /// At once: something was learnt that changes the request.
        case again
        case wait(milliseconds: Int64)
        case giveUp
    }
    /// What a try is made with, as far as it was learnt.
    enum Lesson: Sendable, Equatable {
        case region(String)
        /// `scheme://host[:port]` of a redirect, for this operation only.
        case host(HTTPURL)
        case clock(storeTime: Double)
        case credentials
    }

    let operation: S3Operation
    let policy: RetryPolicy
    private(set) var number = 0
    /// A try ended without an answer that says what it did.
    private(set) var isUncertain = false
    /// The next try must not use a connection that was used before.
    private(set) var needsFreshConnection = false
    private var moves = 0
    private var resent = 0
    private var hasRefreshed = false
    private var hasCorrectedClock = false

    /// Redirects of one operation.
    private static let maximumMoves = 3
    /// Tries with bytes that arrive damaged.
    private static let maximumResent = 2
    /// A difference of clocks that explains a refusal, in seconds.
    private static let suspiciousSkew = 240.0

    init(_ operation: S3Operation, policy: RetryPolicy) {
        self.operation = operation
        var policy = policy
        if let attempts = operation.attempts { policy.attempts = min(attempts, policy.attempts ?? attempts) }
        self.policy = policy
    }

    mutating func begin() { number += 1 }

    /// What the failure teaches, if that may help and was not tried yet.
    mutating func lesson(
        from failure: S3Failure, endpoint: S3Endpoint, now: Double, isTemporary: Bool
    ) -> Lesson? {
        switch remedy(failure, now: now, isTemporary: isTemporary) {
        case .otherRegion:
            guard moves < Self.maximumMoves else { return nil }
            moves += 1
            if let region = failure.region, S3Endpoint.isRegion(region), region != endpoint.signingRegion {
                return .region(region)
            }
            if 302...308 ~= failure.status, let location = failure.location.flatMap({ HTTPURL($0) }),
                location.scheme == endpoint.scheme
            {
                return .host(location)
            }
            return nil
        case .freshCredentials:
            guard !hasRefreshed else { return nil }
            hasRefreshed = true
            return .credentials
        case .correctClock:
            guard !hasCorrectedClock, let date = failure.date else { return nil }
            hasCorrectedClock = true
            return .clock(storeTime: date)
        default: return nil
        }
    }

    /// Answers to HEAD have no body that says why, so the likely reasons are tried.
    private func remedy(_ failure: S3Failure, now: Double, isTemporary: Bool) -> S3ErrorCode.Remedy {
        guard operation.method == "HEAD", failure.code.isEmpty, [400, 403].contains(failure.status) else {
            return failure.remedy
        }
        if let region = failure.region, !region.isEmpty, failure.status == 400 { return .otherRegion }
        if let date = failure.date, abs(date - now) > Self.suspiciousSkew, !hasCorrectedClock { return .correctClock }
        return isTemporary ? .freshCredentials : failure.remedy
    }

    /// What tries go by after a failure. `hasAnswered`: anything has ever come from where they go.
    func policy(after failure: S3Failure, hasAnswered: Bool) -> RetryPolicy {
        guard !hasAnswered, failure.connectFailure != nil else { return policy }
        var policy = policy
        policy.timeoutMilliseconds = min(policy.timeoutMilliseconds, policy.firstAnswerMilliseconds)
        return policy
    }

    /// What to do after a failure that taught nothing.
    mutating func next(
        after failure: S3Failure, elapsedMilliseconds: Int64, random: Double, hasAnswered: Bool
    ) -> Step {
        let wasReached = failure.status != 0
        if !wasReached || failure.status >= 500 || failure.status == 408 || failure.status == 200 { isUncertain = true }
        needsFreshConnection = !wasReached || failure.status >= 500
        if failure.remedy == .sendAgain {
            guard resent < Self.maximumResent else { return .giveUp }
            resent += 1
        }
        // Who has answered before may be under repair.
        if !hasAnswered, failure.connectFailure?.isCertain == true { return .giveUp }
        let pause = policy(after: failure, hasAnswered: hasAnswered).pause(
            after: failure.error, attempt: number, elapsedMilliseconds: elapsedMilliseconds, random: random,
            asked: failure.askedPauseMilliseconds)
        return pause.map { .wait(milliseconds: $0) } ?? .giveUp
    }
}
