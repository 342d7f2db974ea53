import Testing

@testable import StorageCore

@Suite struct StoragePathTests {
    private func environment(_ variables: [String: String]) -> Environment {
        var environment = Environment.system
        environment.variable = { variables[$0] }
        return environment
    }

    private func resolve(_ text: String?, _ variables: [String: String] = [:]) throws(StorageError) -> StoragePath {
        try StoragePath.resolve(text, environment: environment(variables)) { "/home/passwd" }
    }

    @Test(arguments: [
        ("/data/runs", "/data/runs"), ("/data//./runs/", "/data/runs"), ("/", "/"), ("//x", "/x"), ("~", "/home/me"),
        ("~/x", "/home/me/x"), ("file:///data/my%20runs", "/data/my runs"), ("file:///a%25b", "/a%b"),
        ("/a%20b?c#d", "/a%20b?c#d"), ("/größe/模型", "/größe/模型"), ("file:///gr%C3%B6%C3%9Fe", "/größe"),
        ("/a..b/...", "/a..b/..."),
    ])
    func `a local path becomes plain`(text: String, directory: String) throws {
        let path = try resolve(text, ["HOME": "/home/me"])
        #expect(path.scheme == .file)
        #expect(path.directory == directory)
        #expect(path.uri == directory)
    }

    @Test(arguments: [
        "", "rel", "./rel", "../x", "s3:/b", "file:/x", "file://host/x", "file://tmp", "file:///x?a=b", "file:///x#y",
        "file:///%zz", "file:///%2", "file:///%ff", "file:///a%00b", "/a/../b", "file:///a/%2e%2e/b", "/a\0b",
        "~root/x",
        "s3a://b/p", "S3://bucket/p", "http://h/p", "az://c/p", "://x", "s3://", "s3:///p", "s3://Bucket/p",
        "s3://ab/p",
        "s3://bucket/../p", "s3://bucket/a//b", "s3://bucket/p#f", "s3://bucket?region",
        "s3://bucket?region=a&region=b",
        "gs://bucket?region=x", "s3://bucket?anonymous=maybe", "s3://bucket?frobnicate=1", "s3://bucket?role_arn=x",
        "s3://bucket?part_size_bytes=1",
    ])
    func `refuses what is no place, and says what is allowed`(text: String) {
        let error = #expect(throws: StorageError.self) { try resolve(text, ["HOME": "/home/me"]) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.detailsDocument["allowed"] != nil)
    }

    @Test func `the argument wins over the environment, ours over Ray's`() throws {
        let both = ["HOME": "/h", "RAYSTORAGE_STORAGE_PATH": "/ours", "RAY_STORAGE": "/rays"]
        #expect(try resolve("/mine", both).directory == "/mine")
        #expect(try resolve(nil, both).directory == "/ours")
        #expect(try resolve(nil, ["HOME": "/h", "RAY_STORAGE": "/rays"]).directory == "/rays")
        #expect(try resolve(nil, ["HOME": "/h"]).directory == "/h/ray_results")
        #expect(try resolve(nil).directory == "/home/passwd/ray_results")
        let error = #expect(throws: StorageError.self) { try resolve(nil, ["RAY_STORAGE": "rel"]) }
        #expect(error?.message.hasPrefix("RAY_STORAGE \"rel\"") == true)
    }

    @Test func `a home that is no absolute path is an error`() {
        #expect(throws: StorageError.self) { try resolve("~/x", ["HOME": "rel"]) }
        #expect(throws: StorageError.self) {
            try StoragePath.resolve("~/x", environment: environment([:])) { nil }
        }
        #expect(HomeDirectory.ofPasswordFile()?.hasPrefix("/") != false)
    }

    @Test func `a store's address comes apart and together again`() throws {
        let text = "s3://my-bucket/a/b%20c/?region=eu-west-1&endpoint_override=http%3A%2F%2Flocalhost:9000"
        let path = try resolve(text)
        #expect(path.scheme == .s3 && path.bucket == "my-bucket" && path.directory == "a/b c")
        #expect(path.query.map(\.key) == ["region", "endpoint_override"])
        #expect(path.query.map(\.value) == ["eu-west-1", "http://localhost:9000"])
        #expect(path.uri == "s3://my-bucket/a/b%20c?region=eu-west-1&endpoint_override=http://localhost:9000")
        #expect(try resolve(path.uri) == path)
        #expect(path.appending("run?1").uri.hasPrefix("s3://my-bucket/a/b%20c/run%3F1?region="))
        #expect(try resolve("gs://bucket").appending("r").uri == "gs://bucket/r")
    }

    @Test(arguments: [
        "s3://AKIAKEY:SECRET@bucket/p", "s3://AKIAKEY:SEC/SECRET@bucket/p", "s3://AKIAKEY:SECRET", "s3a://k:SECRET@b",
        "http://me:SECRET@host/x", "file://me:SECRET@host/x", "k:SECRET@bucket", "s3:/k:SECRET@bucket",
        "s3://bucket?secret_key=SECRET", "s3://bucket?secret_access_key=SECRET", "s3://bucket?session_token=SECRET",
        "s3://bucket?sse_customer_key=SECRET", "s3://bucket?region=%zz&x=SECRET", "s3://bucket/p#SECRET",
        "s3://bucket?endpoint_override=http://me:SECRET@host", "SECRET@x://y",
        "s3://bucket?endpoint_override=http://me:SECRET%40host", "S3://k:SECRET@b",
    ])
    func `no error repeats a secret`(text: String) {
        let error = #expect(throws: StorageError.self) { try resolve(text) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("SECRET") == false)
        #expect(error?.detailsDocument.compact.contains("SECRET") == false)
    }

    @Test func `an error shows only the start of a very long path`() {
        let error = #expect(throws: StorageError.self) { try resolve(String(repeating: "é", count: 50_000)) }
        #expect((error?.message.utf8.count ?? .max) < 1000)
    }
}
