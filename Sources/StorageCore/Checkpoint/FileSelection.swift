/// Some files of a checkpoint, by their paths and by patterns.
///
/// What is the path of something in the checkpoint means just that; anything else is a `GlobPattern`. A directory brings
/// everything below it, a symbolic link what it leads to, and everything the directories that it lies in.
public struct FileSelection: Sendable {
    /// As they were given; for each a path without the `/` at its end.
    private let patterns: [(text: String, path: String, isDirectory: Bool)]

    /// Of a checkpoint, as far as a selection looks at it.
    struct Entry {
        var path: String
        var isDirectory = false
        /// Of a symbolic link.
        var target: String?
    }

    /// Errors: INVALID_ARGUMENT naming a pattern that nothing in a checkpoint can have, or when there is none.
    public init(_ texts: [String]) throws(StorageError) {
        if texts.isEmpty {
            throw StorageError(
                .invalidArgument, "include is empty: name files, or leave it out for all of them",
                details: [("name", "include"), ("allowed", "at least one path or pattern")])
        }
        var patterns: [(text: String, path: String, isDirectory: Bool)] = []
        for text in texts {
            let isDirectory = text.utf8.last == UInt8(ascii: "/") && text.utf8.count > 1
            let path = isDirectory ? Path.withoutSlash(text) : text
            if let why = ManifestReader.refusal(of: path) {
                throw StorageError(
                    .invalidArgument, "include: \(quoted(text)) \(why)",
                    details: [
                        ("name", "include"), ("value", .string(text)),
                        ("allowed", "paths and patterns relative to the checkpoint"),
                    ])
            }
            patterns.append((text, path, isDirectory))
        }
        self.patterns = patterns
    }

    /// Whether a file of that name at the top would be selected: for those who ask whether it is there only then.
    func mayMean(_ name: String) -> Bool {
        patterns.contains { pattern in
            !pattern.isDirectory
                && (pattern.path.utf8.elementsEqual(name.utf8)
                    || GlobPattern(pattern.path).matches(GlobPattern.split(name)))
        }
    }

    /// What the keys begin with that are to be listed: all that are selected, and with each the whole of the directory at the
    /// top that it lies in, which may be a run.
    var listedPrefix: String {
        var common: [Unicode.Scalar]?
        for pattern in patterns {
            let literal = Array(GlobPattern.literalPrefix(pattern.path))
            common = common.map { zip($0, literal).prefix { $0 == $1 }.map(\.0) } ?? literal
        }
        let prefix = String(String.UnicodeScalarView(common ?? []))
        guard let slash = prefix.utf8.firstIndex(of: UInt8(ascii: "/")) else { return prefix }
        return String(prefix[...slash])
    }

    /// Which of the entries are selected. `place` is what they are of, for error texts.
    ///
    /// Errors: NOT_FOUND naming the first pattern that means nothing.
    func choose(among entries: [Entry], of place: String) throws(StorageError) -> [Bool] {
        var choice = Choice(entries)
        var globs: [(text: String, isDirectory: Bool, glob: GlobPattern, isMatched: Bool)] = []
        for pattern in patterns {
            if let index = choice.index(of: Array(pattern.path.utf8)),
                entries[index].isDirectory || !pattern.isDirectory
            {
                choice.take(index)
            } else if GlobPattern.isOne(pattern.path) {
                globs.append((pattern.text, pattern.isDirectory, GlobPattern(pattern.path), false))
            } else {
                throw Self.nothing(pattern.text, entries, place)
            }
        }
        var forks = ForkYield()
        for (index, entry) in entries.enumerated() where !globs.isEmpty {
            let path = GlobPattern.split(entry.path)
            for number in globs.indices {
                forks.step()
                if globs[number].isDirectory, !entry.isDirectory { continue }
                guard globs[number].glob.matches(path) else { continue }
                globs[number].isMatched = true
                choice.take(index)
            }
        }
        if let missing = globs.first(where: { !$0.isMatched }) { throw Self.nothing(missing.text, entries, place) }
        return choice.complete()
    }

    private static func nothing(_ text: String, _ entries: [Entry], _ place: String) -> StorageError {
        let shown = entries.lazy.filter { !$0.isDirectory }.prefix(6).map { quoted($0.path) }
        let some = shown.isEmpty ? "no files" : shown.prefix(5).joined(separator: ", ") + (shown.count > 5 ? ", …" : "")
        return StorageError(
            .notFound, "nothing in the checkpoint \(quoted(place)) matches \(quoted(text)); it holds \(some)",
            details: [("path", .string(place)), ("file", .string(text)), ("name", "include")])
    }
}

extension FileSelection {
    /// Of a manifest; `withSidecar`: the sidecar is there, too.
    func choose(
        _ records: [FileRecord], withSidecar: Bool, of place: String
    ) throws(StorageError) -> (records: [FileRecord], sidecar: Bool) {
        var entries = records.map { record in
            var entry = Entry(path: record.path, isDirectory: record.kind == .directory)
            if case .symlink(let target) = record.kind { entry.target = target }
            return entry
        }
        if withSidecar { entries.append(Entry(path: FileTree.sidecarName)) }
        let isChosen = try choose(among: entries, of: place)
        return (zip(records, isChosen).filter(\.1).map(\.0), withSidecar && isChosen.last == true)
    }

    /// Of somebody else's directory.
    func choose(_ found: [FileTree.Entry], of place: String) throws(StorageError) -> [FileTree.Entry] {
        let entries = found.map {
            Entry(path: $0.path, isDirectory: $0.status.kind == .directory, target: $0.target)
        }
        return zip(found, try choose(among: entries, of: place)).filter(\.1).map(\.0)
    }

    /// Of somebody else's objects, by their keys; directories are those that the keys tell of.
    func choose(
        _ found: [[UInt8]: ObjectSummary], of place: String
    ) throws(StorageError) -> [[UInt8]: ObjectSummary] {
        let directories = PathBytes.directories(of: found.keys)
        let keys = found.keys.filter { !$0.isEmpty }.sorted { $0.lexicographicallyPrecedes($1) }
        let entries =
            keys.map { Entry(path: String(decoding: $0, as: UTF8.self)) }
            + directories.map { Entry(path: String(decoding: $0, as: UTF8.self), isDirectory: true) }
        let isChosen = try choose(among: entries, of: place)
        let chosen = Set(zip(keys, isChosen).filter(\.1).map(\.0))
        return found.filter { chosen.contains($0.key) }
    }
}

/// What is selected, and what goes with it.
private struct Choice {
    private let entries: [FileSelection.Entry]
    private var indices: [[UInt8]: Int] = [:]
    private var isChosen: [Bool]
    /// Directories all of which is chosen.
    private var isWhole: [Bool]
    private var links: [Int] = []
    private var whole: [Int] = []

    init(_ entries: [FileSelection.Entry]) {
        self.entries = entries
        isChosen = Array(repeating: false, count: entries.count)
        isWhole = isChosen
        indices.reserveCapacity(entries.count)
        var forks = ForkYield()
        for (index, entry) in entries.enumerated() {
            forks.step()
            indices[Array(entry.path.utf8)] = index
        }
    }

    func index(of path: [UInt8]) -> Int? { indices[path] }

    mutating func take(_ index: Int) {
        add(index)
        if entries[index].isDirectory, !isWhole[index] { whole.append(index) }
    }

    private mutating func add(_ index: Int) {
        if isChosen[index] { return }
        isChosen[index] = true
        if entries[index].target != nil { links.append(index) }
    }

    mutating func complete() -> [Bool] {
        var rules: LinkRules?
        var order: [Int]?
        while true {
            if let directory = whole.popLast() {
                let sorted = order ?? treeOrder()
                order = sorted
                takeAll(below: directory, sorted)
            } else if let link = links.popLast(), let target = entries[link].target {
                let known = rules ?? LinkRules(entries.compactMap { entry in entry.target.map { (entry.path, $0) } })
                rules = known
                let trail = known.trail(path: entries[link].path, target: target)
                for step in trail?.steps ?? [] { if let index = indices[step] { add(index) } }
                if let end = trail?.end, let index = indices[end] { take(index) }
            } else {
                break
            }
        }
        addParents()
        return isChosen
    }

    /// Every directory directly before what lies below it.
    private func treeOrder() -> [Int] {
        var keyed = entries.enumerated().map { index, entry in
            (index: index, key: entry.path.utf8.map { $0 == UInt8(ascii: "/") ? 0 : $0 })
        }
        var forks = ForkYield()
        keyed.sort { left, right in
            forks.step()
            return left.key.lexicographicallyPrecedes(right.key)
        }
        return keyed.map(\.index)
    }

    private mutating func takeAll(below directory: Int, _ order: [Int]) {
        if isWhole[directory] { return }
        isWhole[directory] = true
        let path = Array(entries[directory].path.utf8) + [UInt8(ascii: "/")]
        let key = path.map { $0 == UInt8(ascii: "/") ? 0 : $0 }
        // The first that does not come before it.
        var (low, high) = (0, order.count)
        while low < high {
            let middle = (low + high) / 2
            let other = entries[order[middle]].path.utf8.lazy.map { $0 == UInt8(ascii: "/") ? 0 : $0 }
            if other.lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
        }
        var forks = ForkYield()
        for index in order[low...] {
            forks.step()
            guard entries[index].path.utf8.starts(with: path) else { return }
            add(index)
            if entries[index].isDirectory { isWhole[index] = true }
        }
    }

    private mutating func addParents() {
        var forks = ForkYield()
        for index in entries.indices where isChosen[index] {
            var path = Array(entries[index].path.utf8)
            while let slash = path.lastIndex(of: UInt8(ascii: "/")) {
                forks.step()
                path.removeSubrange(slash...)
                guard let parent = indices[path], !isChosen[parent] else { break }
                isChosen[parent] = true
            }
        }
    }
}
