/// Sizes added up, as they come from listings, documents and file systems: none of them is ours, so the sum of those that are
/// absurd is the largest number there is, and no overflow that ends the trainer.
enum ByteSum {
    static func of(_ sizes: some Sequence<Int>) -> Int {
        sizes.reduce(0) { sum, size in
            let (next, overflow) = sum.addingReportingOverflow(size)
            guard overflow else { return next }
            return size < 0 ? .min : .max
        }
    }
}
