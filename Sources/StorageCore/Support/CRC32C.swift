internal import CStorage

/// CRC-32C (Castagnoli, RFC 3720) of bytes, of runs of zeros, and of pieces put together.
///
/// Appending n zero bytes multiplies the register by x^(8n) modulo the polynomial, so pieces combine without their
/// bytes and a hole costs no memory. Polynomials here are bit-reflected: bit 31 is the coefficient of x^0.
enum CRC32C {
    /// A file's CRC is also kept per block of that many bytes; a damaged byte is then found to 8 MiB, and parts that
    /// are multiples of blocks need no second read.
    static let blockSize = 8 << 20

    private static let polynomial: UInt32 = 0x82F6_3B78
    private static let one: UInt32 = 0x8000_0000
    /// x^(2^k) for every k that a 64-bit number of bits needs.
    private static let powersOfTwo: [UInt32] = {
        var powers: [UInt32] = [one >> 1]
        while powers.count < 68 { powers.append(multiply(powers[powers.count - 1], powers[powers.count - 1])) }
        return powers
    }()
    private static let blockShift = shift(bytes: blockSize)

    /// Continues `crc` (0 to start) over the bytes.
    static func update(_ crc: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
        cs_crc32c(crc, bytes.baseAddress, bytes.count)
    }

    /// The CRC of bytes that lie in memory.
    static func of(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { update(0, $0) } }

    /// Continues `crc` over that many zero bytes, without touching memory.
    static func updateZeros(_ crc: UInt32, count: Int) -> UInt32 {
        count > 0 ? ~multiply(shift(bytes: count), ~crc) : crc
    }

    /// The CRC of A followed by B, from their CRCs and B's length in bytes.
    static func combine(_ first: UInt32, _ second: UInt32, secondLength: Int) -> UInt32 {
        guard secondLength > 0 else { return first }
        let factor = secondLength == blockSize ? blockShift : shift(bytes: secondLength)
        return multiply(factor, first) ^ second
    }

    /// The CRC of a file of `size` bytes from those of its blocks.
    static func combine(blocks: some Sequence<UInt32>, size: Int) -> UInt32 {
        var crc: UInt32 = 0
        var rest = size
        for block in blocks {
            let length = min(rest, blockSize)
            crc = combine(crc, block, secondLength: length)
            rest -= length
        }
        return crc
    }

    /// How many blocks a file of that size has; an empty file has none.
    static func blockCount(size: Int) -> Int { size / blockSize + (size % blockSize == 0 ? 0 : 1) }

    /// x^(8 * bytes)
    private static func shift(bytes: Int) -> UInt32 {
        var product = one
        var rest = UInt64(max(0, bytes))
        var power = 3
        while rest != 0 {
            if rest & 1 == 1 { product = multiply(powersOfTwo[power], product) }
            rest >>= 1
            power += 1
        }
        return product
    }

    private static func multiply(_ left: UInt32, _ right: UInt32) -> UInt32 {
        var product: UInt32 = 0
        var shifted = right
        var mask = one
        while mask != 0 {
            if left & mask != 0 { product ^= shifted }
            shifted = shifted & 1 == 0 ? shifted >> 1 : (shifted >> 1) ^ polynomial
            mask >>= 1
        }
        return product
    }
}
