internal import CStorage

/// An element of an XML document: attributes, comments and namespaces are of no interest to the protocols read here.
struct XMLElement: Sendable, Equatable {
    /// Without its namespace's prefix.
    var name: String
    /// Its own text, without that of its children.
    var text = ""
    var children: [XMLElement] = []
}

/// What is wrong with a document.
struct XMLSyntaxError: Error, Equatable {
    var reason: String
    /// In bytes from the start.
    var offset: Int
}

/// Reads small XML documents with expat. Bounded in size, depth and elements; a DTD, and with it every entity of its own,
/// is refused.
struct XMLParser {
    /// What an answer of a store may be, a listing of 1,000 keys of 1,024 escaped bytes included.
    static let maximumBytes = 16 << 20
    static let maximumDepth = 32
    static let maximumElements = 200_000

    static func parse(_ bytes: [UInt8]) throws(XMLSyntaxError) -> XMLElement {
        guard bytes.count <= maximumBytes else {
            throw XMLSyntaxError(reason: "has more than \(maximumBytes) bytes", offset: maximumBytes)
        }
        let builder = Builder()
        var offset = 0
        var callbacks = cs_xml_callbacks(
            start: { context, name in Builder.of(context, or: 0) { $0.start(name) } },
            text: { context, bytes, length in Builder.of(context, or: 0) { $0.add(bytes, length) } },
            end: { context in Builder.of(context, or: 0) { $0.end() } })
        let result = bytes.withUnsafeBytes { input in
            withExtendedLifetime(builder) {
                withUnsafeMutablePointer(to: &builder.state) { state in
                    cs_xml_parse(
                        input.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(input.count), &callbacks, state,
                        &offset)
                }
            }
        }
        switch result {
        case 0:
            if let root = builder.state.root { return root }
            throw XMLSyntaxError(reason: "has no element", offset: offset)
        case 2: throw XMLSyntaxError(reason: "has a document type, which is not read", offset: offset)
        case 3:
            throw XMLSyntaxError(
                reason: "has more than \(maximumDepth) levels or \(maximumElements) elements", offset: offset)
        default: throw XMLSyntaxError(reason: "is not well-formed XML", offset: offset)
        }
    }

    /// Puts the tree together while expat reads.
    private final class Builder {
        struct State {
            var open: [(element: XMLElement, text: [UInt8])] = []
            var root: XMLElement?
            var count = 0

            mutating func start(_ name: UnsafePointer<CChar>?) -> Int32 {
                count += 1
                guard let name, open.count < XMLParser.maximumDepth, count <= XMLParser.maximumElements else {
                    return 0
                }
                open.append((XMLElement(name: String(cString: name)), []))
                return 1
            }

            mutating func add(_ bytes: UnsafePointer<CChar>?, _ length: Int32) -> Int32 {
                guard let bytes, !open.isEmpty else { return 1 }
                UnsafeRawBufferPointer(start: bytes, count: Int(length)).withMemoryRebound(to: UInt8.self) {
                    open[open.count - 1].text.append(contentsOf: $0)
                }
                return 1
            }

            mutating func end() -> Int32 {
                guard let last = open.popLast() else { return 0 }
                var element = last.element
                element.text = String(decoding: last.text, as: UTF8.self)
                if open.isEmpty { root = element } else { open[open.count - 1].element.children.append(element) }
                return 1
            }
        }
        var state = State()

        static func of(_ context: UnsafeMutableRawPointer?, or other: Int32, _ body: (inout State) -> Int32) -> Int32 {
            guard let context else { return other }
            return body(&context.assumingMemoryBound(to: State.self).pointee)
        }
    }
}
