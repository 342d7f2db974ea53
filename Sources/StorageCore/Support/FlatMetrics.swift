/// Metrics with nested objects as `a/b` keys, as Ray's `flatten_dict` makes them: the names that scores and columns have.
///
/// Keys are bytes here: Swift's `==` takes a composed `é` for a decomposed one, Python's dict does not.
enum FlatMetrics {
    /// The members without nested objects, in the order of Ray's dict. Objects open level by level, so a nested `a: {b}`
    /// wins over a literal `a/b`; empty objects vanish; lists stay. Not an object: no members.
    static func flatten(_ metrics: JSONValue) -> [JSONMember] {
        guard let members = metrics.objectValue else { return [] }
        var flat = OrderedMembers()
        for member in members { flat.set(member) }
        while flat.hasObjects { flat.openOneLevel() }
        return flat.all
    }

    /// The value of one flat key, nil when it is missing.
    static func value(_ key: String, in metrics: JSONValue) -> JSONValue? {
        guard let members = metrics.objectValue else { return nil }
        // Nothing nested is the usual case, and needs no dictionary.
        let plain = members.contains { $0.value.objectValue != nil } ? flatten(metrics) : members
        return plain.last { $0.key.utf8.elementsEqual(key.utf8) }?.value
    }

    /// Python's dict, as far as it is needed: a key set again keeps its place.
    private struct OrderedMembers {
        private var slots: [JSONMember?] = []
        private var places: [[UInt8]: Int] = [:]
        private var forks = ForkYield()

        var all: [JSONMember] { slots.compactMap { $0 } }
        var hasObjects: Bool { slots.contains { $0?.value.objectValue != nil } }

        mutating func set(_ member: JSONMember) {
            forks.step()
            let key = Array(member.key.utf8)
            if let place = places[key] {
                slots[place] = member
            } else {
                places[key] = slots.count
                slots.append(member)
            }
        }

        mutating func openOneLevel() {
            var added: [JSONMember] = []
            var opened: [[UInt8]] = []
            for member in all {
                guard let inner = member.value.objectValue else { continue }
                opened.append(Array(member.key.utf8))
                added += inner.map { JSONMember("\(member.key)/\($0.key)", $0.value) }
            }
            for member in added { set(member) }
            // Last, as in Ray: a key that was both opened and added is gone.
            for key in opened { if let place = places.removeValue(forKey: key) { slots[place] = nil } }
        }
    }
}
