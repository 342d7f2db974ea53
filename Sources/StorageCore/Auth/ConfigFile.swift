/// One file in the format of `~/.aws/config` and `~/.aws/credentials`, by AWS's rules. Pure.
struct ConfigFile: Sendable {
    enum Kind: Sendable { case config, credentials }

    /// What stands in one section. Keys are in lower case, the last of a key counts.
    typealias Properties = [String: String]

    var profiles: [String: Properties] = [:]
    var ssoSessions: [String: Properties] = [:]
    var services: [String: Properties] = [:]

    static let maximumBytes = 1 << 20

    init() {}

    /// Fails with INVALID_ARGUMENT, naming file and line but never what stands there: it may be a secret.
    init(_ text: String, kind: Kind, path: String) throws(StorageError) {
        var parser = Parser(kind: kind, path: path)
        var number = 0
        for line in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            var bytes = line
            if number == 1, bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = bytes.dropFirst(3) }
            if bytes.last == UInt8(ascii: "\r") { bytes = bytes.dropLast() }
            try parser.read(Substring(bytes), line: number)
        }
        self = parser.file
        // `[profile default]` wins over `[default]` as a whole.
        if let explicit = parser.prefixedDefault { profiles["default"] = explicit }
    }

    /// The settings nested under a key: `s3 =` and indented lines below it.
    static func nested(_ value: String?) -> Properties {
        guard let value, value.utf8.first == UInt8(ascii: "\n") else { return [:] }
        var properties: Properties = [:]
        for line in value.split(separator: "\n") {
            let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            properties[parts[0].trimmedBlanks.lowercased()] = parts[1].withoutComment.trimmedBlanks
        }
        return properties
    }
}

extension ConfigFile {
    fileprivate struct Parser {
        private enum Section { case none, ignored, prefixedDefault, profile(String), session(String), services(String) }

        let kind: Kind
        let path: String
        var file = ConfigFile()
        var prefixedDefault: Properties?
        private var section = Section.none
        /// Of the property that indented lines continue; nil: none, or one that is ignored.
        private var key: String?
        private var hasProperty = false

        init(kind: Kind, path: String) {
            self.kind = kind
            self.path = path
        }

        mutating func read(_ line: Substring, line number: Int) throws(StorageError) {
            let text = line.trimmedBlanks
            guard let first = text.utf8.first else { return }
            if first == UInt8(ascii: "#") || first == UInt8(ascii: ";") { return }
            let isIndented = line.utf8.first == 0x20 || line.utf8.first == 0x09
            if isIndented, hasProperty || first != UInt8(ascii: "[") {
                try readContinuation(text, number)
            } else if first == UInt8(ascii: "[") {
                try readSection(text, number)
            } else {
                try readProperty(text, number)
            }
        }

        private func failure(_ reason: String, _ number: Int) -> StorageError {
            StorageError(
                .invalidArgument, "\(quoted(path)), line \(number): \(reason)",
                details: [("path", .string(path)), ("line", JSONValue(number))])
        }

        private mutating func readSection(_ text: String, _ number: Int) throws(StorageError) {
            guard let close = text.firstIndex(of: "]") else {
                throw failure("the name of a section must end with ']'", number)
            }
            let rest = text[text.index(after: close)...].trimmedBlanks
            guard rest.isEmpty || rest.hasPrefix("#") || rest.hasPrefix(";") else {
                throw failure("there is more than a comment behind the name of a section", number)
            }
            section = named(text[text.index(after: text.startIndex)..<close].trimmedBlanks)
            (key, hasProperty) = (nil, false)
            switch section {
            case .prefixedDefault: prefixedDefault = prefixedDefault ?? [:]
            case .profile(let name): file.profiles[name, default: [:]].merge([:]) { $1 }
            case .session(let name): file.ssoSessions[name, default: [:]].merge([:]) { $1 }
            case .services(let name): file.services[name, default: [:]].merge([:]) { $1 }
            case .none, .ignored: break
            }
        }

        /// What is no section of ours (plugins, presets, names that AWS does not allow) is left alone.
        private func named(_ text: String) -> Section {
            guard kind == .config else { return Self.isName(text) ? .profile(text) : .ignored }
            if text == "default" { return .profile(text) }
            guard let blank = text.firstIndex(where: { $0 == " " || $0 == "\t" }) else { return .ignored }
            var name = text[blank...].trimmedBlanks
            let isQuoted =
                name.utf8.count > 2 && name.utf8.first == name.utf8.last && ["\"", "'"].contains(name.prefix(1))
            if isQuoted { name = String(name.dropFirst().dropLast()) }
            guard isQuoted || Self.isName(name) else { return .ignored }
            switch text[..<blank] {
            case "profile": return name == "default" ? .prefixedDefault : .profile(name)
            case "sso-session": return .session(name)
            case "services": return .services(name)
            default: return .ignored
            }
        }

        private static func isName(_ text: String) -> Bool {
            !text.isEmpty
                && text.utf8.allSatisfy { byte in
                    switch byte {
                    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                    default: "-_/.%@:+".utf8.contains(byte)
                    }
                }
        }

        private mutating func readProperty(_ text: String, _ number: Int) throws(StorageError) {
            if case .none = section { throw failure("a section such as [profile name] must come first", number) }
            guard let equals = text.firstIndex(of: "=") else { throw failure("expected 'key = value'", number) }
            let name = text[..<equals].trimmedBlanks.lowercased()
            guard !name.isEmpty else { throw failure("there is no key before '='", number) }
            hasProperty = true
            key = Self.isName(name) ? name : nil
            change { $0 = text[text.index(after: equals)...].withoutComment.trimmedBlanks }
        }

        private mutating func readContinuation(_ text: String, _ number: Int) throws(StorageError) {
            if case .none = section { throw failure("a section such as [profile name] must come first", number) }
            guard hasProperty else { throw failure("an indented line must follow a 'key = value'", number) }
            var problem: String?
            change { value in
                if value.isEmpty || value.utf8.first == UInt8(ascii: "\n") {
                    if !text.contains("=") { problem = "expected 'key = value' below an empty value" }
                    if text.hasPrefix("=") { problem = "there is no key before '='" }
                }
                value += "\n" + text
            }
            if let problem { throw failure(problem, number) }
        }

        private mutating func change(_ body: (inout String) -> Void) {
            guard let key else { return }
            switch section {
            case .profile(let name): body(&file.profiles[name, default: [:]][key, default: ""])
            case .session(let name): body(&file.ssoSessions[name, default: [:]][key, default: ""])
            case .services(let name): body(&file.services[name, default: [:]][key, default: ""])
            case .prefixedDefault:
                var properties = prefixedDefault ?? [:]
                body(&properties[key, default: ""])
                prefixedDefault = properties
            case .none, .ignored: break
            }
        }
    }
}

extension StringProtocol {
    /// Without blanks and tabs at the ends.
    var trimmedBlanks: String {
        var bytes = Array(utf8)[...]
        while let first = bytes.first, first == 0x20 || first == 0x09 { bytes = bytes.dropFirst() }
        while let last = bytes.last, last == 0x20 || last == 0x09 { bytes = bytes.dropLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Up to a `#` or `;` that follows a blank.
    fileprivate var withoutComment: String {
        var isAfterBlank = false
        let kept = Array(utf8).prefix { byte in
            if isAfterBlank, byte == UInt8(ascii: "#") || byte == UInt8(ascii: ";") { return false }
            isAfterBlank = byte == 0x20 || byte == 0x09
            return true
        }
        return String(decoding: kept, as: UTF8.self)
    }
}
