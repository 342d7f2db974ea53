internal import CStorage

/// Lets forks of the host pass in loops that may go on for long: `step` about as often as a millisecond's work is done.
///
/// Not with a plain `Mutex` locked; see `cs_fork_yield`.
struct ForkYield {
    /// So much work lies between two looks.
    static let bytes = 1 << 16
    private var done = 0

    /// Counts work as bytes that are looked at one by one. What is done for each of many files or rows is about 64 of them.
    @inline(__always)
    mutating func step(_ bytes: Int = 64) {
        done &+= bytes
        if done >= Self.bytes {
            done = 0
            cs_fork_yield()
        }
    }

    /// For what grows from `start` to `end`: a look whenever a multiple of `bytes` is passed.
    @inline(__always)
    static func passed(_ start: Int, _ end: Int) {
        if (start ^ end) >= bytes { cs_fork_yield() }
    }
}
