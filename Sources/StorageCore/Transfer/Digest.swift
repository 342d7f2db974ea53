/// 64 bits that tell two states apart which nobody tries to confuse (FNV-1a).
struct Digest: Sendable {
    private var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
        // Ends the piece, so that "ab","c" is not "a","bc".
        value = (value ^ 0xFF) &* 0x100_0000_01B3
    }

    mutating func add(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: UInt64(truncatingIfNeeded: number)) { add($0) }
    }

    /// 16 lower-case digits.
    var text: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
