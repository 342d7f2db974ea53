import Synchronization
import Testing

@testable import StorageCore

@Suite struct AWSSettingsTests {
    private static let config = """
        [default]
        region = eu-west-1
        [profile train]
        region = eu-central-1
        endpoint_url = http://all.example
        services = local
        use_fips_endpoint = TRUE
        request_checksum_calculation = when_required
        ca_bundle = ~/ca.pem
        s3 =
          addressing_style = path
          use_dualstack_endpoint = true
          use_accelerate_endpoint = false
        [services local]
        s3 =
          endpoint_url = http://s3.example
        """

    private func fixture(_ variables: [String: String] = [:]) -> AuthFixture {
        AuthFixture(variables, files: ["/home/u/.aws/config": Self.config])
    }

    @Test(arguments: [
        ([:], "eu-west-1"), (["AWS_PROFILE": "train"], "eu-central-1"),
        (["AWS_DEFAULT_PROFILE": "train"], "eu-central-1"),
        (["AWS_PROFILE": "train", "AWS_DEFAULT_REGION": "us-west-1"], "us-west-1"),
        (["AWS_PROFILE": "train", "AWS_DEFAULT_REGION": "us-west-1", "AWS_REGION": "US-West-2"], "us-west-2"),
    ])
    func `the region is the environment's before the profile's`(variables: [String: String], region: String) throws {
        #expect(try fixture(variables).settings().region == region)
    }

    @Test(
        arguments: [
            (
                ["AWS_ENDPOINT_URL_S3": "http://a", "AWS_ENDPOINT_URL": "http://b", "AWS_PROFILE": "train"], "http://a",
                "http://b"
            ),
            (["AWS_ENDPOINT_URL": "http://b", "AWS_PROFILE": "train"], "http://b", "http://b"),
            (["AWS_PROFILE": "train"], "http://s3.example", "http://all.example"), ([:], nil, nil),
            (
                [
                    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": "http://b",
                    "AWS_PROFILE": "train",
                ], nil, nil
            ),
        ] as [([String: String], String?, String?)])
    func `the endpoint of a service: its own before that of all, the environment before the profile`(
        variables: [String: String], s3: String?, sts: String?
    ) throws {
        let settings = try fixture(variables).settings()
        #expect(settings.endpoint(of: "s3")?.url == s3)
        #expect(settings.endpoint(of: "sts")?.url == sts)
    }

    @Test func `reads the rest of a profile`() throws {
        let settings = try fixture().settings(profile: "train")
        #expect(settings.usesFIPS == true && settings.usesDualstack == true && settings.usesAccelerate == false)
        #expect(settings.requestChecksums == .whenRequired && settings.responseChecksums == .whenSupported)
        #expect(settings.caBundlePath == "/home/u/ca.pem" && settings.addressingStyle == "path")
        #expect(settings.profileName == "train" && settings.profileIsChosen)
    }

    @Test func `variables win over the profile`() throws {
        let settings = try fixture([
            "AWS_PROFILE": "train", "AWS_USE_FIPS_ENDPOINT": "false", "AWS_USE_DUALSTACK_ENDPOINT": "false",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_SUPPORTED", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_CA_BUNDLE": "/etc/ca.pem",
        ]).settings()
        #expect(settings.usesFIPS == false && settings.usesDualstack == false)
        #expect(settings.requestChecksums == .whenSupported && settings.responseChecksums == .whenRequired)
        #expect(settings.caBundlePath == "/etc/ca.pem")
    }

    @Test func `without anything set, nothing is decided`() throws {
        let settings = try AuthFixture().settings()
        #expect(settings.region == nil && settings.usesFIPS == nil && settings.usesDualstack == nil)
        #expect(settings.endpoint(of: "s3") == nil && settings.caBundlePath == nil)
        #expect(settings.profileName == "default" && !settings.profileIsChosen)
    }

    @Test(arguments: [
        ["AWS_REGION": "us-east-1.evil.example/"], ["AWS_REGION": "-x"], ["AWS_REGION": "é"],
        ["AWS_REGION": String(repeating: "a", count: 64)], ["AWS_USE_FIPS_ENDPOINT": "yes"],
        ["AWS_REQUEST_CHECKSUM_CALCULATION": "always"], ["AWS_PROFILE": "nope"],
    ])
    func `a value that means nothing is refused by name`(variables: [String: String]) throws {
        let error = #expect(throws: StorageError.self) { try fixture(variables).settings() }
        #expect(error?.code == .invalidArgument)
        let value = try #require(variables.values.first)
        #expect(error?.message.contains(quoted(value)) == true)
        if value == "nope" { #expect(error?.message.contains("\"default\", \"train\"") == true) }
    }

    @Test func `other files can be named, and one that cannot be read is said so`() throws {
        let fixture = AuthFixture(
            ["AWS_CONFIG_FILE": "~/c", "AWS_SHARED_CREDENTIALS_FILE": "/k"],
            files: ["/home/u/c": "[profile a]\nregion = r-1", "/k": "[b]\nregion = r-2"])
        #expect(try fixture.settings(profile: "a").region == "r-1")
        #expect(try fixture.settings(profile: "b").region == "r-2")
        fixture.world.withLock { _ = $0.unreadable.insert("/k") }
        let error = #expect(throws: StorageError.self) { try fixture.settings(profile: "b") }
        #expect(error?.message.contains("open \"/k\": EACCES") == true)
    }

    @Test(arguments: [
        ("us-east-1", false, "amazonaws.com"), ("cn-north-1", false, "amazonaws.com.cn"),
        ("us-gov-west-1", false, "amazonaws.com"), ("us-iso-east-1", false, "c2s.ic.gov"),
        ("us-isob-east-1", false, "sc2s.sgov.gov"), ("eusc-de-east-1", false, "amazonaws.eu"),
        ("us-east-1", true, "api.aws"), ("cn-north-1", true, "api.amazonwebservices.com.cn"),
    ])
    func `each partition has its domain`(region: String, isDualstack: Bool, domain: String) {
        #expect(AWSRegion.domain(region, isDualstack: isDualstack) == domain)
    }

    @Test(
        arguments: [
            ("http://h", "http", "h", nil, "/", ""),
            ("HTTPS://Host.Example:8443/a%20b/?q=1&r", "https", "host.example", 8443, "/a%20b/", "q=1&r"),
            ("http://[::1]:9000/", "http", "[::1]", 9000, "/", ""), ("http://h?x", "http", "h", nil, "/", "x"),
            ("http://a_b-c.d:65535//..", "http", "a_b-c.d", 65535, "//..", ""),
        ] as [(String, String, String, Int?, String, String)])
    func `takes a URL apart as it is`(
        text: String, scheme: String, host: String, port: Int?, path: String, query: String
    ) {
        #expect(HTTPURL(text) == HTTPURL(scheme: scheme, host: host, port: port, path: path, query: query))
    }

    @Test(arguments: [
        "", "h", "ftp://h", "http://", "http:///p", "http://u:p@h", "http://h:", "http://h:0", "http://h:65536",
        "http://h:1x",
        "http://[::1", "http://[]", "http://[x]", "http://[::1]x", "http://h/#f", "http://h/ b", "http://h\n",
        "http://é", "http:/h",
    ])
    func `refuses what is no URL of ours`(text: String) {
        #expect(HTTPURL(text) == nil)
    }
}
