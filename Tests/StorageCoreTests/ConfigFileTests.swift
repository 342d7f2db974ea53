import Testing

@testable import StorageCore

/// The format of AWS's files: the cases that AWS's own SDKs are tested with, and odder ones.
@Suite struct ConfigFileTests {
    typealias Profiles = [String: [String: String]]

    private func read(_ text: String, _ kind: ConfigFile.Kind = .config) throws -> ConfigFile {
        try ConfigFile(text, kind: kind, path: "/x/config")
    }

    @Test(
        arguments: [
            ("", [:]), ("[profile foo]", ["foo": [:]]),
            (
                "[profile some-thing:long/the_one%only.foo@bar+]\n[profile foo!bar]",
                ["some-thing:long/the_one%only.foo@bar+": [:]]
            ),
            ("[profile \tfoo \t]", ["foo": [:]]), ("[profile\tfoo]", ["foo": [:]]),
            ("[   profile foo    ]", ["foo": [:]]),
            ("[profile foo]\r\nname = value", ["foo": ["name": "value"]]),
            ("\u{FEFF}[profile foo]\nname = value", ["foo": ["name": "value"]]),
            ("[profile foo]\nname = val=ue", ["foo": ["name": "val=ue"]]),
            ("[profile foo]\nname = 😂", ["foo": ["name": "😂"]]),
            ("[profile foo]\nname \t=  \tvalue \t", ["foo": ["name": "value"]]),
            ("[profile foo]\nname =", ["foo": ["name": ""]]),
            (
                "\t \n[profile foo]\n\t\n \nname = value\n\t \n[profile bar]\n \t",
                ["foo": ["name": "value"], "bar": [:]]
            ),
            ("# Comment\n[profile foo] # Comment\nname = value # Comment with # sign", ["foo": ["name": "value"]]),
            ("; Comment\n[profile foo]; Comment\nname = value ; Comment\n   # indented", ["foo": ["name": "value"]]),
            ("[profile foo]\nname = value; x\nname2 = value# x", ["foo": ["name": "value; x", "name2": "value# x"]]),
            (
                "[profile foo]\nname = value\n -continued # x\n \t -more \t ",
                ["foo": ["name": "value\n-continued # x\n-more"]]
            ),
            (
                "[profile foo]\nname = value\n[profile foo]\nname2 = value2",
                ["foo": ["name": "value", "name2": "value2"]]
            ),
            ("[profile foo]\nName = value\n[profile foo]\nname = value2", ["foo": ["name": "value2"]]),
            ("[profile default]\nname = value\n[default]\nname2 = value2", ["default": ["name": "value"]]),
            ("[default]\nname2 = value2\n[profile default]\nname = value", ["default": ["name": "value"]]),
            ("[default]\nname = value", ["default": ["name": "value"]]),
            ("[profile in valid]\nname = value\n -continued\n[profile bar]", ["bar": [:]]),
            ("[profile foo]\nin valid = value\n -continued", ["foo": [:]]),
            (
                "[profile foo]\ns3 =\n name = value\n\t \n name2 = value2",
                ["foo": ["s3": "\nname = value\nname2 = value2"]]
            ),
            ("[profile foo]\ns3 =\n name =", ["foo": ["s3": "\nname ="]]),
            ("[foo]\nname = value", [:]), ("[profilefoo]\nname = value\n[profile bar]", ["bar": [:]]),
            ("[plugins]\ncli = x\n[preview]", [:]), ("[profile \"two words\"]\na = b", ["two words": ["a": "b"]]),
            ("[profile foo]\nname = [\n [x]", ["foo": ["name": "[\n[x]"]]),
        ] as [(String, Profiles)])
    func `reads the configuration file by AWS's rules`(text: String, expected: Profiles) throws {
        #expect(try read(text).profiles == expected)
    }

    @Test(
        arguments: [
            ("[foo]\nname = value", ["foo": ["name": "value"]]),
            ("[   foo    ]\nname = value\n[profile bar]", ["foo": ["name": "value"]]),
            ("[in valid 2]\nname2 = value2", [:]),
            ("[sso-sessionfoo]\nname = value", ["sso-sessionfoo": ["name": "value"]]),
        ] as [(String, Profiles)])
    func `reads the credentials file, whose sections have no prefix`(text: String, expected: Profiles) throws {
        #expect(try read(text, .credentials).profiles == expected)
    }

    @Test(arguments: [
        ("[profile foo", 1, "']'"), ("name = SECRET", 1, "section"), ("[profile foo]\n= SECRET", 2, "key"),
        ("[profile foo]\nSECRET : value", 2, "key = value"), ("\n\n -SECRET", 3, "section"),
        ("[profile foo]\n -SECRET", 2, "follow"), ("[profile foo]\nname = value\n[profile foo]\n -SECRET", 4, "follow"),
        ("[profile foo]\ns3 =\n SECRET", 3, "key = value"), ("[profile foo]\ns3 =\n = SECRET", 3, "key"),
        ("[profile foo] SECRET", 1, "comment"),
    ])
    func `names file and line of what breaks the format, never the text (P11)`(text: String, line: Int, words: String) {
        let error = #expect(throws: StorageError.self) { try read(text) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("\"/x/config\", line \(line):") == true)
        #expect(error?.message.contains(words) == true)
        #expect(error?.message.contains("SECRET") == false)
    }

    @Test func `keeps sso-sessions and services apart from profiles`() throws {
        let file = try read(
            """
            [sso-session corp]
            sso_region = us-east-1
            [services local]
            s3 =
              endpoint_url = http://127.0.0.1:9000 # here
            sts =
              endpoint_url = http://127.0.0.1:9001
            [profile corp]
            """)
        #expect(file.profiles == ["corp": [:]])
        #expect(file.ssoSessions == ["corp": ["sso_region": "us-east-1"]])
        #expect(ConfigFile.nested(file.services["local"]?["s3"]) == ["endpoint_url": "http://127.0.0.1:9000"])
    }

    @Test func `the credentials file wins over the configuration file, key by key`() throws {
        let both = try AWSConfiguration(
            config: "[profile foo]\na = 1\nb = 1\nc = 1", credentials: "[foo]\nb = 2\nc =\n[bar]\nd = 3")
        let foo = try #require(both.profile("foo"))
        #expect(foo["a"] == "1" && foo["b"] == "2" && foo["c"] == "1" && foo["d"] == nil)
        #expect(!foo.isInCredentialsFile("a") && foo.isInCredentialsFile("b"))
        #expect(both.profileNames == ["bar", "foo"])
        #expect(both.profile("baz") == nil)
    }

    @Test func `no text is too odd to read`() {
        var random = SeededRandom(11)
        let pieces = [
            "[", "]", "=", "\n", " ", "\t", "#", ";", "profile ", "a", "\r", "\u{0}", "é", "\"", "default", "s3 =\n ",
        ]
        for _ in 0..<3000 {
            let text = (0..<random.below(30)).map { _ in pieces[random.below(pieces.count)] }.joined()
            _ = try? ConfigFile(text, kind: .config, path: "")
            _ = try? ConfigFile(text, kind: .credentials, path: "")
        }
    }
}
