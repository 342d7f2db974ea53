/// Whether the symbolic links of a tree stay inside it, lexically and through each other.
struct LinkRules: Sendable {
    /// Targets of the tree's links; keys are the bytes of their paths.
    private var targets: [[UInt8]: [UInt8]] = [:]
    /// As many links as the kernel follows in one path; a longer chain resolves to nothing anywhere.
    private static let maximumFollowed = 40

    init(_ links: [(path: String, target: String)]) {
        for link in links { targets[Array(link.path.utf8)] = Array(link.target.utf8) }
    }

    /// Whether following that link never leaves the tree. A loop and a dangling link stay inside.
    func staysInside(path: String, target: String) -> Bool {
        let slash = UInt8(ascii: "/")
        // Components of where we are, and of what is still to walk, next one last.
        var position = path.utf8.split(separator: slash).dropLast().map { Array($0) }
        var rest: [[UInt8]] = []
        func push(_ target: [UInt8]) -> Bool {
            if target.first == slash { return false }
            rest.append(contentsOf: target.split(separator: slash).reversed().map { Array($0) })
            return true
        }
        guard push(Array(target.utf8)) else { return false }
        var followed = 0
        while let component = rest.popLast() {
            if component == [UInt8(ascii: ".")] { continue }
            if component == [UInt8(ascii: "."), UInt8(ascii: ".")] {
                if position.isEmpty { return false }
                position.removeLast()
                continue
            }
            position.append(component)
            if let target = targets[Array(position.joined(separator: [slash]))] {
                followed += 1
                if followed > Self.maximumFollowed { return true }
                position.removeLast()
                guard push(target) else { return false }
            }
        }
        return true
    }
}
