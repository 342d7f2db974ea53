/// A JSON value that keeps what Python's `json` and Ray's files carry: the order of keys, integers apart from
/// floating point, and NaN and the infinities as bare literals (RFC 8259 has no place for them, losses do).
public indirect enum JSONValue: Sendable, Equatable {
    /// `null`
    case null
    /// `true` or `false`
    case bool(Bool)
    /// A number without fraction or exponent that fits 64 bits.
    case integer(Int64)
    /// Any other number, NaN and infinities included.
    case number(Double)
    /// A number too large for the two cases above, digit for digit.
    case rawNumber(String)
    /// Text.
    case string(String)
    /// A list.
    case array([JSONValue])
    /// Members in their order; a repeated key's last value counts.
    case object([JSONMember])
}

/// One member of a JSON object.
public struct JSONMember: Sendable, Equatable {
    /// The key.
    public var key: String
    /// The value.
    public var value: JSONValue

    /// Creates a member.
    public init(_ key: String, _ value: JSONValue) {
        self.key = key
        self.value = value
    }
}

extension JSONValue {
    /// The member of that key, or nil when there is none or this is not an object.
    public subscript(_ key: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.key == key }?.value
    }

    /// Text, if this is text.
    public var stringValue: String? {
        if case .string(let value) = self { value } else { nil }
    }

    /// A whole number, if this is one.
    public var intValue: Int? {
        if case .integer(let value) = self { Int(exactly: value) } else { nil }
    }

    /// A number of either kind. Booleans count as 0 and 1, as in Python and Ray's scores.
    public var doubleValue: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        case .rawNumber(let text): Double(text)
        case .bool(let value): value ? 1 : 0
        default: nil
        }
    }

    /// A truth value, if this is one.
    public var boolValue: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    /// The elements, if this is a list.
    public var arrayValue: [JSONValue]? {
        if case .array(let value) = self { value } else { nil }
    }

    /// The members, if this is an object.
    public var objectValue: [JSONMember]? {
        if case .object(let value) = self { value } else { nil }
    }

    /// An object in the order given.
    public static func make(_ members: KeyValuePairs<String, JSONValue>) -> JSONValue {
        .object(members.map { JSONMember($0.key, $0.value) })
    }

    /// Text or null.
    public static func optional(_ text: String?) -> JSONValue { text.map { .string($0) } ?? .null }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
    /// Text.
    public init(stringLiteral value: String) { self = .string(value) }
    /// A whole number.
    public init(integerLiteral value: Int64) { self = .integer(value) }
    /// A truth value.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// A whole number.
    public init(_ value: Int) { self = .integer(Int64(value)) }
}
