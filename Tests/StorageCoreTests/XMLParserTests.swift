import Testing

@testable import StorageCore

/// Reading XML that comes from the network.
struct XMLParserTests {
    private func parse(_ text: String) throws(XMLSyntaxError) -> XMLElement { try XMLParser.parse(Array(text.utf8)) }

    @Test func `elements, texts and escapes; prefixes and attributes do not matter`() throws {
        let root = try parse(
            "<?xml version=\"1.0\"?>\n<s:Error xmlns:s=\"x\"><Code a=\"b\">No&amp;Such&#x20;Key</Code><!-- c -->"
                + "<s:Empty/><Key><![CDATA[<a&b>]]></Key></s:Error>")
        #expect(root.name == "Error")
        #expect(root.children.map(\.name) == ["Code", "Empty", "Key"])
        #expect(root.children.map(\.text) == ["No&Such Key", "", "<a&b>"])
    }

    @Test(arguments: ["", " ", "<a>", "<a></b>", "plain", "<a/><b/>", "<a>&unknown;</a>", "<a>\u{0}</a>", "{\"a\": 1}"])
    func `what is not well formed is refused`(text: String) {
        #expect(throws: XMLSyntaxError.self) { try parse(text) }
    }

    @Test func `entities of its own are refused before they can grow or read files`() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"aaaa\"><!ENTITY y SYSTEM \"file:///etc/passwd\">]><a>&x;&y;</a>"
        do {
            _ = try parse(bomb)
            Issue.record("was read")
        } catch {
            #expect(error.reason == "has a document type, which is not read")
        }
    }

    @Test func `depth and number of elements are bounded`() throws {
        let deep = { (count: Int) in
            String(repeating: "<a>", count: count) + String(repeating: "</a>", count: count)
        }
        _ = try parse(deep(XMLParser.maximumDepth))
        #expect(throws: XMLSyntaxError.self) { try parse(deep(XMLParser.maximumDepth + 1)) }
        let many = "<a>" + String(repeating: "<b/>", count: XMLParser.maximumElements) + "</a>"
        #expect(throws: XMLSyntaxError.self) { try parse(many) }
    }

    @Test func `bytes that are not UTF-8 are refused`() {
        let bytes = Array("<a>".utf8) + [0xFF, 0xFE] + Array("</a>".utf8)
        #expect(throws: XMLSyntaxError.self) { try XMLParser.parse(bytes) }
    }
}
