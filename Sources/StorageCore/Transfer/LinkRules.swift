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
    func staysInside(path: String, target: String) -> Bool { trail(path: path, target: target) != nil }

    /// What following that link comes by, links on the way among it, and where it ends; nil when it leaves the tree. A loop
    /// ends somewhere in it, and what a link leads to need not be there.
    func trail(path: String, target: String) -> (steps: [[UInt8]], end: [UInt8])? {
        let slash = UInt8(ascii: "/")
        // Components of where we are, and of what is still to walk, next one last.
        var position = path.utf8.split(separator: slash).dropLast().map { Array($0) }
        var rest: [[UInt8]] = []
        func push(_ target: [UInt8]) -> Bool {
            if target.first == slash { return false }
            rest.append(contentsOf: target.split(separator: slash).reversed().map { Array($0) })
            return true
        }
        guard push(Array(target.utf8)) else { return nil }
        func here() -> [UInt8] { Array(position.joined(separator: [slash])) }
        var steps: [[UInt8]] = []
        var followed = 0
        while let component = rest.popLast() {
            if component == [UInt8(ascii: ".")] { continue }
            if component == [UInt8(ascii: "."), UInt8(ascii: ".")] {
                if position.isEmpty { return nil }
                position.removeLast()
                continue
            }
            position.append(component)
            let step = here()
            steps.append(step)
            if let target = targets[step] {
                followed += 1
                if followed > Self.maximumFollowed { break }
                position.removeLast()
                guard push(target) else { return nil }
            }
        }
        return (steps, here())
    }
}
