/// What every name that becomes one directory must be, whoever chose it (P10).
enum PathComponent {
    /// Bytes. A file name may have 255; ours get `~<attempt>` and suffixes of temporary files behind them.
    static let maximumBytes = 200

    /// Why the name cannot be one visible directory, nil when it can.
    static func problem(_ name: String) -> String? {
        if name.isEmpty { return "is empty" }
        if name.utf8.count > maximumBytes { return "has \(name.utf8.count) bytes" }
        if name.utf8.first == UInt8(ascii: ".") { return "begins with a dot" }
        if name.utf8.contains(UInt8(ascii: "/")) { return "holds a '/'" }
        // C0, DEL and C1: they would break lines, terminals and listings.
        let isControl = { (scalar: Unicode.Scalar) in scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) }
        if let scalar = name.unicodeScalars.first(where: isControl) {
            return scalar.value == 0 ? "holds a NUL" : "holds the control character U+\(hex(scalar.value))"
        }
        return nil
    }

    /// The error of a refused name, which `argument` gave.
    static func refusal(
        _ what: String, argument: String, _ name: String, _ problem: String, allowed: String
    ) -> StorageError {
        let shown = name.utf8.count > maximumBytes ? String(name.unicodeScalars.prefix(60)) + "…" : name
        return StorageError(
            .invalidArgument, "\(what) \(quoted(shown)) \(problem); allowed is \(allowed)",
            details: [("name", .string(argument)), ("value", .string(shown)), ("allowed", .string(allowed))])
    }

    private static func hex(_ value: UInt32) -> String {
        let digits = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
    }
}
