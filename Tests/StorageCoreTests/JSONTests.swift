import StorageCore
import Testing

@Suite struct JSONTests {
    @Test(arguments: [
        #"{"a":1,"b":[true,false,null],"c":{"d":"e"}}"#, "[]", "{}", "-0", "1e-05", #""\u0001\n\"\\""#,
        "NaN", "[Infinity,-Infinity]", "123456789012345678901234567890", "0.1",
    ])
    func `writes back what it read`(text: String) throws {
        let value = try JSONParser.parse(text)
        #expect(try JSONParser.parse(value.compact).compact == value.compact)
    }

    @Test(arguments: ["", "{", "[1,]", "{\"a\":}", "01", "1.", "nul", "\"\u{1}\"", "\"\\x\"", "[1] 2", "{a:1}", "'a'"])
    func `refuses what is not JSON`(text: String) {
        #expect(throws: JSONSyntaxError.self) { try JSONParser.parse(text) }
        #expect(throws: JSONSyntaxError.self) { try JSONParser.validate(text.utf8) }
    }

    @Test func `keeps surrogate pairs and replaces lone ones`() throws {
        #expect(try JSONParser.parse(#""\ud83d\ude00""#) == .string("😀"))
        #expect(try JSONParser.parse(#""\ud83d""#) == .string("\u{FFFD}"))
    }

    @Test func `bounds its depth`() {
        let text = String(repeating: "[", count: 200_000)
        #expect(throws: JSONSyntaxError.self) { try JSONParser.parse(text) }
        #expect(throws: JSONSyntaxError.self) { try JSONParser.validate(text.utf8) }
    }
}
