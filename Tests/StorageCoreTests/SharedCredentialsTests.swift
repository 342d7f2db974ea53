import CStorage
import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// Credentials that the stores of a process share: what makes them the same, and how long they last.
@Suite struct SharedCredentialsTests {
    private static let configPath = "/home/u/.aws/config"
    private static let files = [
        configPath: "[default]\nregion = us-east-1\n[profile a]\nrole_arn = arn:aws:iam::1:role/a\n"
            + "credential_source = Ec2InstanceMetadata\n[profile b]\ncredential_process = give\n"
    ]
    private static let process = Array(
        #"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}"#.utf8)

    /// A machine with an instance role, and STS.
    private func machine() -> AuthFixture {
        AuthFixture(files: Self.files) { request throws(StorageError) in
            request.url.host.hasPrefix("sts")
                ? AuthFixture.sts("AssumeRole") : try AuthFixture.instance(request)
        }
    }

    private func request(
        _ fixture: AuthFixture, _ change: (inout CredentialsRequest) throws -> Void = { _ in }
    ) throws -> CredentialsRequest {
        var request = CredentialsRequest(context: fixture.context, settings: try fixture.settings())
        try change(&request)
        return request
    }

    private func id(_ provider: any AWSCredentialsProvider) async throws -> String? {
        try await provider.credentials(refreshing: nil, progress: Progress())?.accessKeyID
    }

    private func until(_ condition: () -> Bool) async {
        while !condition() { await Engine.shared.sleep(milliseconds: 1) }
    }

    @Test func `whoever asks alike shares one exchange`() async throws {
        let fixture = machine()
        let shared = SharedCredentials()
        let providers = try (0..<50).map { _ in try request(fixture).provider(shared) }
        for provider in providers { #expect(try await id(provider) == "ASIAIMDS") }
        #expect(fixture.requests.count == 3)
        #expect(shared.count == 1)
    }

    @Test func `a role is assumed once, with what others have without it`() async throws {
        let fixture = machine()
        let shared = SharedCredentials()
        let plain = try request(fixture).provider(shared)
        let roles = try (0..<10).map { _ in
            try request(fixture) { $0.role = STSClient.Role(arn: "arn:aws:iam::1:role/r") }.provider(shared)
        }
        #expect(try await id(plain) == "ASIAIMDS")
        for role in roles { #expect(try await id(role) == "ASIAROLE") }
        #expect(fixture.requests.count == 4)
    }

    // MARK: - What makes them others

    /// What differs between two who ask.
    struct Difference: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var world: @Sendable (inout AuthFixture.World) -> Void = { _ in }
        var request: @Sendable (inout CredentialsRequest) -> Void = { _ in }
    }

    private static let role = STSClient.Role(arn: "r", sessionName: "s", externalID: "e")
    private static let keys = AWSCredentials(accessKeyID: "A", secretAccessKey: "S", sessionToken: "T")

    private static let differences = [
        Difference(testDescription: "profile", request: { $0.profile = "a" }),
        Difference(testDescription: "chosen profile", world: { $0.variables["AWS_PROFILE"] = "a" }),
        Difference(testDescription: "keys", world: { $0.variables["AWS_SECRET_ACCESS_KEY"] = "other" }),
        Difference(testDescription: "endpoint", world: { $0.variables["AWS_ENDPOINT_URL_STS"] = "https://sts.x" }),
        Difference(testDescription: "timeout", world: { $0.variables["AWS_METADATA_SERVICE_TIMEOUT"] = "7" }),
        Difference(testDescription: "for programs only", world: { $0.variables["AWS_VAULT"] = "x" }),
        Difference(testDescription: "path", world: { $0.variables["PATH"] = "/other" }),
        Difference(testDescription: "config", world: { $0.files[configPath, default: ""] += "[profile c]\nx = y\n" }),
        Difference(testDescription: "no config", world: { $0.files[configPath] = nil }),
        Difference(testDescription: "unreadable", world: { $0.unreadable = [configPath] }),
        Difference(testDescription: "credentials", world: { $0.files["/home/u/.aws/credentials"] = "[default]\n" }),
        Difference(testDescription: "TLS", request: { $0.tls.caFile = "/ca" }),
        Difference(testDescription: "CA directory", request: { $0.tls.caDirectory = "/ca" }),
        Difference(testDescription: "http proxy", request: { $0.proxies.http = "http://p" }),
        Difference(testDescription: "https proxy", request: { $0.proxies.https = "http://p" }),
        Difference(testDescription: "no proxy", request: { $0.proxies.exceptions = "h" }),
        Difference(
            testDescription: "another file",
            world: {
                $0.files["/copy"] = $0.files[configPath]
                $0.variables["AWS_CONFIG_FILE"] = "/copy"
            }),
        // Logins are below it.
        Difference(testDescription: "home", request: { $0.context.files.homeDirectory = { "/home/v" } }),
    ]
    private static let roleDifferences = [
        Difference(testDescription: "no role", request: { $0.role = nil }),
        Difference(testDescription: "role", request: { $0.role?.arn = "r2" }),
        Difference(testDescription: "session", request: { $0.role?.sessionName = nil }),
        Difference(testDescription: "external id", request: { $0.role?.externalID = "e2" }),
        Difference(testDescription: "duration", request: { $0.role?.durationSeconds = 900 }),
    ]
    private static let keyDifferences = [
        Difference(testDescription: "no keys", request: { $0.given = nil }),
        Difference(testDescription: "key", request: { $0.given?.accessKeyID = "A2" }),
        Difference(testDescription: "secret", request: { $0.given?.secretAccessKey = "S2" }),
        Difference(testDescription: "token", request: { $0.given?.sessionToken = nil }),
    ]

    private func compare(
        _ difference: Difference, _ change: (inout CredentialsRequest) -> Void
    ) throws -> (isSame: Bool, isOther: Bool) {
        let variables = [
            "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "AWS_CONFIG_FILE": Self.configPath,
            "AWS_SHARED_CREDENTIALS_FILE": "/home/u/.aws/credentials",
        ]
        let fixture = AuthFixture(variables, files: Self.files)
        let shared = SharedCredentials()
        func provider(_ last: (inout CredentialsRequest) -> Void) throws -> AnyObject {
            try request(fixture) {
                change(&$0)
                last(&$0)
                $0.settings = try AWSSettings($0.context.files, profile: $0.profile)
            }.provider(shared) as AnyObject
        }
        let (first, second) = (try provider { _ in }, try provider { _ in })
        fixture.world.withLock { difference.world(&$0) }
        let other = try provider(difference.request)
        return (first === second, first !== other)
    }

    @Test(arguments: differences)
    func `whoever asks otherwise has others`(difference: Difference) throws {
        #expect(try compare(difference) { _ in } == (true, true))
        #expect(try compare(difference) { $0.role = Self.role } == (true, true))
    }

    @Test(arguments: differences + roleDifferences)
    func `so has whoever takes another role`(difference: Difference) throws {
        #expect(try compare(difference) { $0.role = Self.role } == (true, true))
    }

    @Test(arguments: differences + roleDifferences + keyDifferences)
    func `so has whoever takes a role with other keys`(difference: Difference) throws {
        let pair = try compare(difference) {
            $0.role = Self.role
            $0.given = Self.keys
        }
        #expect(pair == (true, true))
    }

    @Test func `P11 the key holds no secret`() throws {
        let fixture = AuthFixture(
            ["AWS_SECRET_ACCESS_KEY": "SECRETVARIABLE"],
            files: ["/home/u/.aws/credentials": "[default]\naws_secret_access_key = SECRETFILE\n"])
        let key = try #require(CredentialsKey(request(fixture)))
        let keys = AWSCredentials(accessKeyID: "A", secretAccessKey: "SECRETGIVEN", sessionToken: "SECRETTOKEN")
        for key in [key, try #require(key.with(Self.role, keys: keys))] {
            var held = ""
            dump(key, to: &held)
            for child in Mirror(reflecting: key).children {
                held += String(decoding: child.value as? [UInt8] ?? [], as: UTF8.self)
            }
            #expect(!held.contains("SECRET"))
        }
    }

    // MARK: - How long they last

    @Test(.timeLimit(.minutes(5))) func `P6 what nobody has any longer is forgotten`() async throws {
        let fixture = machine()
        let shared = SharedCredentials()
        weak var provider: AnyObject?
        for number in 1...3 {
            do {
                let role = STSClient.Role(arn: "arn:aws:iam::1:role/r")
                let mine = try request(fixture) { $0.role = role }.provider(shared)
                provider = mine as AnyObject
                #expect(shared.count == 2)
                #expect(try await id(mine) == "ASIAROLE")
                #expect(fixture.requests.count == 4 * number)
            }
            // What renews them has them until it has ended.
            await until { shared.count == 0 }
            #expect(provider == nil)
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 one who is cancelled or gone stops nothing for the others`() async throws {
        let fixture = machine()
        let shared = SharedCredentials()
        let isOpen = Flag()
        func provider() throws -> any AWSCredentialsProvider {
            try request(fixture) {
                $0.profile = "b"
                $0.settings = try fixture.settings(profile: "b")
                $0.context.runProgram = { arguments, _, progress async throws(StorageError) in
                    fixture.world.withLock { $0.programs.append(arguments) }
                    while !isOpen.isSet {
                        try progress.checkCancelled()
                        await Engine.shared.sleep(milliseconds: 1)
                    }
                    return Self.process
                }
            }.provider(shared)
        }
        let other = try provider()
        let impatient = Progress()
        try await withThrowingTaskGroup(of: Void.self) { group in
            var mine: (any AWSCredentialsProvider)? = try provider()
            if let first = mine {
                group.addTask(executorPreference: Engine.shared) {
                    let error = await #expect(throws: StorageError.self) {
                        try await first.credentials(refreshing: nil, progress: impatient)
                    }
                    #expect(error?.code == .cancelled)
                }
            }
            mine = nil
            await until { fixture.world.withLock { $0.programs.count } == 1 }
            group.addTask(executorPreference: Engine.shared) {
                let found = try await id(other)
                #expect(found == "AKIAPROCESS")
            }
            impatient.cancel()
            try await group.next()
            isOpen.raise()
            try await group.waitForAll()
        }
        #expect(fixture.world.withLock { $0.programs.count } == 1)
    }

    // MARK: - What has gone astray

    @Test func `credentials that were renewed under another environment are not for who comes later`() async throws {
        let fixture = machine()
        let shared = SharedCredentials()
        let role = STSClient.Role(arn: "arn:aws:iam::1:role/r")
        func open() throws -> (plain: any AWSCredentialsProvider, role: any AWSCredentialsProvider) {
            (try request(fixture).provider(shared), try request(fixture) { $0.role = role }.provider(shared))
        }
        let early = try open()
        let keys = ["AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "S"]
        fixture.world.withLock { $0.variables = keys }
        #expect(try await id(early.plain) == "AKIAOTHER")
        fixture.world.withLock { $0.variables = [:] }
        let late = try open()
        #expect(try await id(late.plain) == "ASIAIMDS")
        // The role that was to be assumed with the others, too.
        #expect(early.role as AnyObject !== late.role as AnyObject)
        #expect(try await id(early.plain) == "AKIAOTHER")
    }

    private func ofProgram(_ fixture: AuthFixture, _ shared: SharedCredentials) throws -> any AWSCredentialsProvider {
        try request(fixture) {
            $0.profile = "b"
            $0.settings = try fixture.settings(profile: "b")
        }.provider(shared)
    }

    @Test(arguments: [true, false])
    func `a file that changes before its credentials are asked for, or meanwhile, counts`(isBefore: Bool) async throws {
        let fixture = AuthFixture(files: Self.files)
        var changed = Self.files
        changed[Self.configPath, default: ""] += "[profile c]\nx = y\n"
        let (before, after) = isBefore ? (changed, Self.files) : (Self.files, changed)
        fixture.world.withLock {
            $0.program = { _ in
                fixture.world.withLock { $0.files = after }
                return Self.process
            }
        }
        let shared = SharedCredentials()
        let early = try ofProgram(fixture, shared)
        fixture.world.withLock { $0.files = before }
        #expect(try await id(early) == "AKIAPROCESS")
        fixture.world.withLock { $0.files = Self.files }
        let late = try ofProgram(fixture, shared)
        #expect(early as AnyObject !== late as AnyObject)
    }

    @Test(arguments: [true, false])
    func `an error that a person mends is not for who comes later; one that passes is`(isRetryable: Bool) async throws {
        let fixture = AuthFixture(files: Self.files)
        fixture.world.withLock {
            $0.program = { _ throws(StorageError) in
                throw StorageError(.timeout, "give: no answer", isRetryable: isRetryable)
            }
        }
        let shared = SharedCredentials()
        let early = try ofProgram(fixture, shared)
        await #expect(throws: StorageError.self) { try await id(early) }
        fixture.world.withLock { $0.program = { _ in Self.process } }
        let late = try ofProgram(fixture, shared)
        if isRetryable {
            #expect(early as AnyObject === late as AnyObject)
            await #expect(throws: StorageError.self) { try await id(late) }
            fixture.advance(seconds: 1)
        }
        #expect(try await id(late) == "AKIAPROCESS")
    }

    // MARK: - In the process

    private func provider(_ options: JSONValue, _ fixture: AuthFixture) throws -> (any AWSCredentialsProvider)? {
        try S3Store.open(
            bucket: "bucket", prefix: "p", query: [("region", "eu-west-1")], storageOptions: options,
            patience: StorePatience(retryMilliseconds: 1000), environment: fixture.files.environment
        ).client.provider
    }

    @Test func `stores of one process share theirs, whatever is said of the store`() throws {
        // Its own among what other tests open at the same time.
        let fixture = AuthFixture(["AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/shared"])
        func object(_ options: JSONValue) throws -> RefreshingCredentials {
            let found = try provider(options, fixture)
            return try #require(found as? RefreshingCredentials)
        }
        let first = try object(.make([:]))
        let second = try object(.make(["max_concurrency": 1, "tls_verify_certificates": false]))
        #expect(first === second)
        let trust = try object(.make(["tls_ca_file_path": "/ca.pem"]))
        let role = try object(.make(["role_arn": "r"]))
        let same = try object(.make(["role_arn": "r"]))
        let other = try object(.make(["role_arn": "r", "external_id": "e"]))
        let session = try object(.make(["role_arn": "r", "role_session_name": "s"]))
        #expect(role === same)
        #expect(Set([first, trust, role, other, session].map { ObjectIdentifier($0) }).count == 5)
        let nobody = try provider(.make(["anonymous": true]), fixture)
        #expect(nobody == nil)
        let keys = try provider(.make(["access_key_id": "A", "secret_access_key": "S"]), fixture)
        #expect(keys is GivenCredentials)
    }

    @Test func `P12 a forked child has its own, even while its parent's are locked`() async {
        await #expect(processExitsWith: .success) {
            alarm(300)
            cs_fork_limit(10)
            let fixture = AuthFixture()
            let request = CredentialsRequest(context: fixture.context, settings: try fixture.settings())
            let key = try #require(CredentialsKey(request))
            let mine = try request.provider(.shared)
            let (isLocked, isOver) = (Flag(), Flag())
            let holder = NamedThread.start("holder") {
                _ = SharedCredentials.shared.provider(key.with(STSClient.Role(arn: "r"))) {
                    isLocked.raise()
                    while !isOver.isSet { sched_yield() }
                    return RefreshingCredentials(
                        GivenCredentials(given: AWSCredentials(accessKeyID: "A", secretAccessKey: "S")),
                        context: fixture.context)
                }
            }
            #expect(holder)
            while !isLocked.isSet { sched_yield() }
            let child = forkProcess()
            if child == 0 {
                alarm(60)
                let own = try? request.provider(.shared) as AnyObject
                _exit(own != nil && own !== mine as AnyObject ? 0 : 3)
            }
            var status: Int32 = 0
            #expect(waitpid(child, &status, 0) == child && status == 0)
            isOver.raise()
        }
    }
}
