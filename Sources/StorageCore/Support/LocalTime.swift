internal import Glibc

/// A wall-clock time taken apart, for names and rows that people read.
struct LocalTime: Sendable, Equatable {
    var year: Int
    var month: Int
    var day: Int
    var hour: Int
    var minute: Int
    var second: Int

    /// In the process's time zone. `localtime_r` reads `TZ` once; a host that changes it later keeps the first one.
    @Sendable static func system(_ secondsSince1970: Double) -> LocalTime {
        // The range of years that 32-bit fields of `tm` hold; a broken clock must not trap.
        var seconds = time_t(max(-62_000_000_000, min(250_000_000_000, secondsSince1970.isNaN ? 0 : secondsSince1970)))
        var fields = tm()
        localtime_r(&seconds, &fields)
        return LocalTime(
            year: Int(fields.tm_year) + 1900, month: Int(fields.tm_mon) + 1, day: Int(fields.tm_mday),
            hour: Int(fields.tm_hour), minute: Int(fields.tm_min), second: Int(fields.tm_sec))
    }

    /// `2026-11-23_09-19-30`, as Ray writes it.
    var underscored: String {
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(year)-\(two(month))-\(two(day))_\(two(hour))-\(two(minute))-\(two(second))"
    }
}
