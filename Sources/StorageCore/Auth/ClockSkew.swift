internal import Synchronization

/// How far the local clock is from a server's, learnt from its `Date` header. A pure value.
struct ClockOffset: Sendable, Equatable {
    /// Seconds to add to the local time.
    private(set) var seconds = 0.0

    /// A difference below this is latency and rounding: S3 takes signatures that are up to 15 minutes off.
    static let tolerance = 240.0

    /// The signature was refused because of its time.
    static func isRefusal(_ code: String) -> Bool {
        switch code {
        case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "SignatureNotYetCurrent": true
        default: false
        }
    }

    /// Learns from a response; true when the offset is a new one, so that another try makes sense. `server`: its `Date`,
    /// `local`: when it arrived, both in seconds since 1970. A refusal counts however small the difference.
    mutating func learn(server: Double?, local: Double, isRefused: Bool = false) -> Bool {
        guard let server, server.isFinite, local.isFinite else { return false }
        let difference = server - local
        // To the second, so that a refusal for another reason does not go on for ever.
        guard abs(difference - seconds) > (isRefused ? 1 : Self.tolerance) else { return false }
        seconds = abs(difference) < 1 ? 0 : difference
        return true
    }
}

/// The offset of one endpoint, shared by its requests.
final class ClockSkew: Sendable {
    private let state = Mutex(ClockOffset())

    /// Seconds to add to the local time.
    var offset: Double { state.withLock { $0.seconds } }

    /// After a refusal because of time.
    @discardableResult
    func learn(storeTime: Double, localTime: Double) -> Bool {
        state.withLock { $0.learn(server: storeTime, local: localTime, isRefused: true) }
    }

    /// From any response: its `Date` header and the code of its error, if it is one.
    @discardableResult
    func learn(date: String?, errorCode: String?, localTime: Double) -> Bool {
        let server = date.flatMap { UTCTime.parse(httpDate: $0) }
        let isRefused = errorCode.map(ClockOffset.isRefusal) ?? false
        return state.withLock { $0.learn(server: server, local: localTime, isRefused: isRefused) }
    }
}
