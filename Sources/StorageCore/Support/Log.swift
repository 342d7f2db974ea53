internal import CStorage

/// The library's log: a ring that the host pulls from (`raystorage_log_next`), since we never call the host.
public final class Log: @unchecked Sendable {
    // Proof for @unchecked: `lines` is only touched with `monitor` locked.
    /// How much a line matters.
    public enum Level: String, Sendable { case debug, info, warning, error }

    /// The ring of this process.
    public static var shared: Log { Engine.shared.log }
    /// Lines kept; a slow reader loses the oldest.
    public static let capacity = 1000

    private let monitor = Monitor()
    private var lines: [JSONValue] = []

    /// Adds a line. `details` go into the line's document as they are.
    public func write(_ level: Level, _ message: String, _ details: [(String, JSONValue)] = []) {
        let time = Double(cs_realtime_ns()) / 1e9
        let line = JSONValue.object(
            [
                JSONMember("time", .number(time)), JSONMember("level", .string(level.rawValue)),
                JSONMember("message", .string(message)),
            ] + details.map { JSONMember($0.0, $0.1) })
        monitor.withLock {
            if lines.count >= Self.capacity { lines.removeFirst() }
            lines.append(line)
            monitor.signal()
        }
    }

    /// The oldest line, waiting for one until the deadline.
    public func next(_ deadline: Deadline) -> JSONValue? {
        monitor.withLock {
            while lines.isEmpty {
                if deadline.isPast || !deadline.wait(on: monitor) { if lines.isEmpty { return nil } }
            }
            return lines.removeFirst()
        }
    }
}

/// Instants and random numbers, a parameter wherever a decision depends on them.
public struct Environment: Sendable {
    /// Seconds since 1970.
    public var now: @Sendable () -> Double
    /// When a file or what is known of it last changed, in seconds since 1970 by the clock of its file system, which may be a
    /// server's; nil: cannot be told.
    public var changedAt: @Sendable (String) -> Double? = { path in
        (try? System.status(path)).flatMap { $0 }.map { Double($0.changedNanoseconds) / 1e9 }
    }
    /// `CLOCK_BOOTTIME` in milliseconds.
    public var bootMilliseconds: @Sendable () -> Int64
    /// That many random bytes as lower-case hexadecimal digits.
    public var randomHex: @Sendable (Int) -> String
    /// An environment variable, nil when unset or empty.
    public var variable: @Sendable (String) -> String?
    /// The names of the variables.
    public var names: @Sendable () -> [String]

    /// The machine's own.
    public static let system = Environment(
        now: { Double(cs_realtime_ns()) / 1e9 },
        bootMilliseconds: { cs_boottime_ns() / 1_000_000 },
        randomHex: { count in
            var bytes = [UInt8](repeating: 0, count: count)
            _ = bytes.withUnsafeMutableBytes { cs_random($0.baseAddress, $0.count) }
            return bytes.map { byte in
                let digits = String(byte, radix: 16)
                return digits.utf8.count == 1 ? "0" + digits : digits
            }.joined()
        },
        variable: { Environment.read($0) }, names: { Environment.readNames() })
}
