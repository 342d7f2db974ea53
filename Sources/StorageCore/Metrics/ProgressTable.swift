/// The lines of `progress.csv` as Ray V1 writes it with Python's `csv`: the columns are those of the first row, nested
/// keys as `a/b`; what later rows have besides is left out there (`result.json` has it).
///
/// One row is one line: a line break in a text becomes the two characters `\n`, so that a torn end can be recognised.
struct ProgressTable: Sendable {
    let columns: [String]
    private let places: [[UInt8]: Int]
    private let epochField: Int?
    private let indexField: Int?

    /// The columns of a file that exists; nil when its first line is no header.
    init?(header: some Sequence<UInt8>) {
        guard let columns = Self.fields(header), !columns.isEmpty else { return nil }
        self.init(columns: columns)
    }

    /// The columns that this row asks for.
    init(firstRow row: JSONValue) {
        self.init(columns: FlatMetrics.flatten(.object(Self.shown(row))).map(\.key))
    }

    private init(columns: [String]) {
        self.columns = columns
        var places: [[UInt8]: Int] = [:]
        places.reserveCapacity(columns.count)
        var forks = ForkYield()
        for (index, column) in columns.enumerated() {
            forks.step()
            let key = Array(column.utf8)
            if places[key] == nil { places[key] = index }
        }
        self.places = places
        epochField = places[Array(ResultRowMaker.epochKey.utf8)]
        indexField = places[Array(ResultRowMaker.indexKey.utf8)]
    }

    var header: [UInt8] {
        var line: [UInt8] = []
        var forks = ForkYield()
        for (index, column) in columns.enumerated() {
            forks.step()
            if index > 0 { line.append(UInt8(ascii: ",")) }
            Self.write(column, to: &line)
        }
        line += [0x0D, 0x0A]
        return line
    }

    /// Appends the row's line.
    func write(_ row: JSONValue, to output: inout [UInt8]) {
        var values = [JSONValue?](repeating: nil, count: columns.count)
        var next = 0
        var forks = ForkYield()
        for member in Self.flat(row) {
            forks.step()
            // Rows mostly have the header's order.
            if next < columns.count, columns[next].utf8.elementsEqual(member.key.utf8) {
                values[next] = member.value
                next += 1
            } else if let place = places[Array(member.key.utf8)] {
                values[place] = member.value
                next = place + 1
            }
        }
        let start = output.count
        for (index, value) in values.enumerated() {
            forks.step()
            if index > 0 { output.append(UInt8(ascii: ",")) }
            if let value { Self.write(value, to: &output) }
        }
        // A line of one empty field would be a blank line.
        if output.count == start { output += [UInt8(ascii: "\""), UInt8(ascii: "\"")] }
        output += [0x0D, 0x0A]
    }

    /// The place of the row on a line of this table; nil when it has none, as in a file of Ray's. Only the two fields are
    /// read: the tables of long runs are large.
    func sequence(ofLine line: some Sequence<UInt8>) -> ReportSequence? {
        guard let epochField, let indexField else { return nil }
        var (epoch, index) = (Field(), Field())
        var field = 0
        var isQuoted = false
        var forks = ForkYield()
        for byte in line where byte != 0x0D {
            forks.step(1)
            switch byte {
            case 0: return nil
            // Two quotes within quotes open and close in between, which changes nothing for the commas.
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: ",") where !isQuoted: field += 1
            default:
                if field == epochField { epoch.add(byte) }
                if field == indexField { index.add(byte) }
            }
        }
        guard !isQuoted, field == columns.count - 1, let epoch = epoch.number, let index = index.number else {
            return nil
        }
        return ReportSequence(epoch: epoch, index: index)
    }

    /// A number without sign as it is read digit by digit.
    private struct Field {
        private var value = 0
        private var digits = 0

        /// Nil for no number; the limit keeps it from overflowing.
        var number: Int? { digits > 0 && digits < 19 ? value : nil }

        mutating func add(_ byte: UInt8) {
            guard Decimal.isDigit(byte), digits < 18 else {
                digits = 19
                return
            }
            value = value * 10 + Int(byte) - 0x30
            digits += 1
        }
    }

    /// Whether the line may be one of this table.
    func accepts(_ line: some Sequence<UInt8>) -> Bool {
        // In a table of Ray's a row may go over several lines.
        if !hasPlaces { return true }
        return sequence(ofLine: line) != nil || Self.fields(line) == columns
    }

    /// Whether the lines of this table can tell their place.
    var hasPlaces: Bool { epochField != nil && indexField != nil }

    /// Ray leaves the whole configuration out.
    private static func shown(_ row: JSONValue) -> [JSONMember] {
        (row.objectValue ?? []).filter { $0.key != "config" }
    }

    private static func flat(_ row: JSONValue) -> [JSONMember] {
        let members = shown(row)
        // Flattening hashes every key; mostly there is nothing to flatten.
        return members.contains { $0.value.objectValue != nil } ? FlatMetrics.flatten(.object(members)) : members
    }

    /// As Python's `str` has it, which `csv` uses: `True`, `nan`, nothing for None. Lists stay JSON.
    private static func write(_ value: JSONValue, to output: inout [UInt8]) {
        switch value {
        case .null: break
        case .bool(let value): output += (value ? "True" : "False").utf8
        case .integer(let value): output += String(value).utf8
        case .number(let value):
            if value.isFinite {
                output += value.description.utf8
            } else {
                output += (value.isNaN ? "nan" : value < 0 ? "-inf" : "inf").utf8
            }
        case .rawNumber(let text): output += text.utf8
        case .string(let text): write(text, to: &output)
        case .array, .object: write(value.compact, to: &output)
        }
    }

    private static func write(_ text: String, to output: inout [UInt8]) {
        let needsQuotes = text.utf8.contains { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "\"") }
        if needsQuotes { output.append(UInt8(ascii: "\"")) }
        for byte in text.utf8 {
            switch byte {
            case 0x0A: output += "\\n".utf8
            case 0x0D: output += "\\r".utf8
            case UInt8(ascii: "\""): output += "\"\"".utf8
            default: output.append(byte)
            }
        }
        if needsQuotes { output.append(UInt8(ascii: "\"")) }
    }

    /// The fields of one line, nil when a quote is left open or zeros show that a power cut took the rest.
    private static func fields(_ line: some Sequence<UInt8>) -> [String]? {
        var fields: [String] = []
        var field: [UInt8] = []
        var isQuoted = false
        var afterQuote = false
        var forks = ForkYield()
        for byte in line where byte != 0x0D {
            forks.step(1)
            if byte == 0 { return nil }
            if byte == UInt8(ascii: "\"") {
                // Two quotes within quotes are one.
                if afterQuote { field.append(byte) }
                afterQuote = isQuoted && !afterQuote
                if !isQuoted { isQuoted = true }
                continue
            }
            if afterQuote {
                isQuoted = false
                afterQuote = false
            }
            if byte == UInt8(ascii: ","), !isQuoted {
                fields.append(String(decoding: field, as: UTF8.self))
                field = []
            } else {
                field.append(byte)
            }
        }
        if isQuoted, !afterQuote { return nil }
        fields.append(String(decoding: field, as: UTF8.self))
        return fields
    }
}
