/// A pattern for paths, as shells and fsspec read them: `*` is any run of characters within a component, `?` one of them,
/// `[a-z]` and `[!a-z]` one of a set or outside it; `**` as a component is any number of directories, none too, and at the
/// end everything below. A dot at the beginning of a name is a character like any other. `[` that is never closed is itself.
struct GlobPattern: Sendable {
    private enum Token: Sendable {
        case one(Unicode.Scalar)
        case any
        case set([ClosedRange<UInt32>], isNegated: Bool)
        case many
    }
    private enum Component: Sendable {
        case name([Token])
        case directories
    }

    private var components: [Component] = []

    /// Whether there is anything in a text that does not stand for itself.
    static func isOne(_ text: String) -> Bool { text.unicodeScalars.contains(where: isSpecial) }

    /// What every path that a text means begins with.
    static func literalPrefix(_ text: String) -> Substring.UnicodeScalarView {
        text.unicodeScalars.prefix { !isSpecial($0) }
    }

    private static func isSpecial(_ scalar: Unicode.Scalar) -> Bool { scalar == "*" || scalar == "?" || scalar == "[" }

    /// Components are neither empty nor `.` or `..`.
    init(_ text: String) {
        let texts = Self.split(text)
        for text in texts {
            let isLast = components.count == texts.count - 1
            guard text == ["*", "*"] else {
                components.append(.name(Self.tokens(text)))
                continue
            }
            components.append(.directories)
            if isLast { components.append(.name([.many])) }
        }
    }

    /// A path in the form in which it is matched: for those who try many patterns.
    static func split(_ path: String) -> [[Unicode.Scalar]] {
        path.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false).map(Array.init)
    }

    func matches(_ path: [[Unicode.Scalar]]) -> Bool {
        Self.matches(
            components, path,
            isMany: { if case .directories = $0 { true } else { false } },
            fits: { component, text in
                guard case .name(let tokens) = component else { return false }
                return Self.matches(
                    tokens, text, isMany: { if case .many = $0 { true } else { false } }, fits: Self.fits)
            })
    }

    /// Goes back to the last element that takes any number, which is enough: what an earlier one took can stay.
    private static func matches<Element, Item>(
        _ pattern: [Element], _ items: [Item], isMany: (Element) -> Bool, fits: (Element, Item) -> Bool
    ) -> Bool {
        var (place, item) = (0, 0)
        var retry: (place: Int, item: Int)?
        while true {
            if place < pattern.count, isMany(pattern[place]) {
                place += 1
                retry = (place, item)
            } else if item < items.count, place < pattern.count, fits(pattern[place], items[item]) {
                place += 1
                item += 1
            } else if place == pattern.count, item == items.count {
                return true
            } else if let last = retry, last.item < items.count {
                place = last.place
                item = last.item + 1
                retry = (place, item)
            } else {
                return false
            }
        }
    }

    private static func fits(_ token: Token, _ scalar: Unicode.Scalar) -> Bool {
        switch token {
        case .one(let own): own == scalar
        case .any: true
        case .set(let ranges, let isNegated): ranges.contains { $0.contains(scalar.value) } != isNegated
        case .many: false
        }
    }

    private static func tokens(_ text: [Unicode.Scalar]) -> [Token] {
        var tokens: [Token] = []
        var place = 0
        while place < text.count {
            switch text[place] {
            case "*": tokens.append(.many)
            case "?": tokens.append(.any)
            case "[":
                guard let set = set(text, from: place) else { fallthrough }
                tokens.append(set.token)
                place = set.end
            default: tokens.append(.one(text[place]))
            }
            place += 1
        }
        return tokens
    }

    /// `]` as the first member is one; `-` between two members means those from one to the other.
    private static func set(_ text: [Unicode.Scalar], from start: Int) -> (token: Token, end: Int)? {
        var place = start + 1
        let isNegated = place < text.count && (text[place] == "!" || text[place] == "^")
        if isNegated { place += 1 }
        guard place < text.count, let end = text[(place + 1)...].firstIndex(of: "]") else { return nil }
        var ranges: [ClosedRange<UInt32>] = []
        while place < end {
            let first = text[place].value
            if place + 2 < end, text[place + 1] == "-" {
                let last = text[place + 2].value
                if first <= last { ranges.append(first...last) }
                place += 3
            } else {
                ranges.append(first...first)
                place += 1
            }
        }
        return (.set(ranges, isNegated: isNegated), end)
    }
}
