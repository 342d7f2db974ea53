import Testing

@testable import StorageCore

/// The whole chain against services that ask for what the real ones ask for, over real sockets and with real programs.
@Suite struct CredentialExchangeTests {
    private func find(_ context: AuthContext) async throws(StorageError) -> AWSCredentials? {
        let settings = try AWSSettings(context.files)
        return try await CredentialChain.standard(context, settings: settings)
            .credentials(refreshing: nil, progress: Progress())
    }

    @Test(arguments: ["instance", "container", "pod", "web identity", "assumed role", "process", "sso"])
    func `each way leads to credentials that expire`(way: String) async throws {
        let server = try IdentityServer()
        let found = try #require(try await find(server.context(way)))
        #expect(found.accessKeyID.hasPrefix("ASIAFAKE"))
        #expect(found.sessionToken?.utf8.count == 80)
        let life = try #require(found.expiresAt) - Environment.system.now()
        #expect(life > 3500 && life < 3700)
    }

    @Test(arguments: ["instance", "container", "web identity", "assumed role", "sso"])
    func `each service that stumbles is asked again`(way: String) async throws {
        let server = try IdentityServer(failures: [503])
        #expect(try await find(server.context(way))?.accessKeyID.hasPrefix("ASIAFAKE") == true)
    }

    @Test func `a wrong token is refused, with the service's words and without the token (P11)`() async throws {
        let server = try IdentityServer()
        let context = server.context("container", adding: ["AWS_CONTAINER_AUTHORIZATION_TOKEN": "WRONGTOKEN"])
        let error = await #expect(throws: StorageError.self) { try await find(context) }
        #expect(error?.message.contains("answered 403: another authorization token") == true)
        #expect(error?.message.contains("WRONGTOKEN") == false)
    }
}
