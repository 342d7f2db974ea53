/// Orders and compares names as the kernel does: by their bytes.
enum PathBytes {
    /// Sorts by the bytes of paths, of which there may be many.
    static func sort<Element>(_ list: inout [Element], by path: (Element) -> String) {
        var forks = ForkYield()
        list.sort { left, right in
            forks.step()
            return precedes(path(left), path(right))
        }
    }

    /// The directories that paths tell of.
    static func directories(of paths: some Sequence<[UInt8]>) -> Set<[UInt8]> {
        var directories = Set<[UInt8]>()
        var forks = ForkYield()
        for path in paths {
            forks.step()
            var rest = path[...]
            while let slash = rest.lastIndex(of: UInt8(ascii: "/")) {
                rest = rest[..<slash]
                // Those that it lies in are known then.
                if !directories.insert(Array(rest)).inserted { break }
            }
        }
        return directories
    }

    static func precedes(_ left: String, _ right: String) -> Bool {
        let fast = left.utf8.withContiguousStorageIfAvailable { left in
            right.utf8.withContiguousStorageIfAvailable { right in compare(left, right) }
        }
        if case .some(.some(let order)) = fast { return order }
        return left.utf8.lexicographicallyPrecedes(right.utf8)
    }

    private static func compare(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) -> Bool {
        for index in 0..<min(left.count, right.count) where left[index] != right[index] {
            return left[index] < right[index]
        }
        return left.count < right.count
    }
}
