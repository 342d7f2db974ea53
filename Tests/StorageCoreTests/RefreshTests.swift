import Synchronization
import Testing

@testable import StorageCore

/// When credentials are renewed: the decisions.
@Suite struct RefreshStateTests {
    private func credentials(_ id: String, expiresAt: Double? = nil) -> AWSCredentials {
        AWSCredentials(accessKeyID: id, secretAccessKey: "s", sessionToken: "t", expiresAt: expiresAt)
    }

    private func name(_ step: RefreshState.Step) -> String {
        switch step {
        case .use(let credentials): "use \(credentials.accessKeyID)"
        case .useAndRefresh(let credentials): "use \(credentials.accessKeyID) and refresh"
        case .refresh: "refresh"
        case .join: "join"
        case .wait(let milliseconds): "wait \(milliseconds)"
        case .fail(let error): "fail \(error.message)"
        }
    }

    /// Credentials that came at boot 0 and are good for an hour.
    private func hourly(random: Double = 0) -> RefreshState {
        var state = RefreshState()
        _ = state.ask(rejected: nil, boot: 0)
        state.finish(.success(credentials("a", expiresAt: 3600)), now: 0, boot: 0, random: random)
        return state
    }

    private let busy = StorageError(.network, "away", isRetryable: true)

    @Test func `the first caller asks, the others join him`() {
        var state = RefreshState()
        #expect(name(state.ask(rejected: nil, boot: 0)) == "refresh")
        #expect(name(state.ask(rejected: nil, boot: 0)) == "join")
        state.finish(.success(credentials("a")), now: 0, boot: 5, random: 0)
        #expect(name(state.ask(rejected: nil, boot: 5)) == "use a")
        #expect(name(state.ask(rejected: nil, boot: .max - 1)) == "use a")
    }

    @Test(arguments: [(0.0, 3_300_000), (0.5, 3_225_000), (1.0, 3_150_000)] as [(Double, Int64)])
    func `renewal begins five minutes ahead, or up to half as much earlier`(random: Double, begin: Int64) {
        var state = hourly(random: random)
        #expect(name(state.ask(rejected: nil, boot: begin - 1)) == "use a")
        #expect(name(state.ask(rejected: nil, boot: begin)) == "use a and refresh")
        #expect(name(state.ask(rejected: nil, boot: begin)) == "use a")
        state.finish(.success(credentials("b", expiresAt: 7200)), now: 3300, boot: begin, random: 0)
        #expect(name(state.ask(rejected: nil, boot: begin)) == "use b")
    }

    @Test func `an early renewal that fails keeps the old ones and is tried ever more seldom`() {
        var state = hourly()
        var boot: Int64 = 3_300_000
        var tries: [Int64] = []
        while boot < 3_569_000 {
            if case .useAndRefresh = state.ask(rejected: nil, boot: boot) {
                tries.append(boot - 3_300_000)
                state.finish(.failure(busy), now: 0, boot: boot, random: 0)
            }
            boot += 100
        }
        #expect(tries == [0, 1000, 3000, 7000, 15_000, 31_000, 63_000, 123_000, 183_000, 243_000])
        #expect(name(state.ask(rejected: nil, boot: boot)) == "use a")
    }

    @Test func `near the end callers wait for the renewal, and it fails with the source's error`() {
        var state = hourly()
        #expect(name(state.ask(rejected: nil, boot: 3_570_000)) == "refresh")
        #expect(name(state.ask(rejected: nil, boot: 3_570_001)) == "join")
        state.finish(.failure(busy), now: 0, boot: 3_570_100, random: 0)
        // They are still good, and were just tried in vain.
        #expect(name(state.ask(rejected: nil, boot: 3_570_200)) == "use a")
        #expect(name(state.ask(rejected: nil, boot: 3_571_100)) == "refresh")
        state.finish(.failure(busy), now: 0, boot: 3_599_999, random: 0)
        #expect(name(state.ask(rejected: nil, boot: 3_600_000)) == "fail away")
        #expect(name(state.ask(rejected: nil, boot: 3_602_000)) == "refresh")
        state.finish(.success(credentials("b", expiresAt: 9999)), now: 3602, boot: 3_602_000, random: 0)
        #expect(name(state.ask(rejected: nil, boot: 3_602_001)) == "use b")
    }

    @Test func `what the store refused is renewed whatever its time says, once a second at most`() {
        var state = hourly()
        let old = credentials("a", expiresAt: 3600)
        #expect(name(state.ask(rejected: old, boot: 500)) == "wait 500")
        #expect(name(state.ask(rejected: old, boot: 1000)) == "refresh")
        #expect(name(state.ask(rejected: old, boot: 1000)) == "join")
        // Who has not been refused goes on with them.
        #expect(name(state.ask(rejected: nil, boot: 1000)) == "use a")
        state.finish(.success(credentials("b", expiresAt: 3600)), now: 1, boot: 1100, random: 0)
        // A second caller with the same complaint gets the new ones without another request.
        #expect(name(state.ask(rejected: old, boot: 1101)) == "use b")
    }

    @Test func `credentials that come expired are used for a while: the clock may be wrong`() {
        var state = RefreshState()
        _ = state.ask(rejected: nil, boot: 0)
        state.finish(.success(credentials("a", expiresAt: 1000)), now: 50_000, boot: 0, random: 0)
        #expect(name(state.ask(rejected: nil, boot: 1)) == "use a")
        #expect(name(state.ask(rejected: nil, boot: 224_999)) == "use a")
        #expect(name(state.ask(rejected: nil, boot: 225_000)) == "use a and refresh")
    }

    @Test(arguments: [10.0, 60, 900, 43_200, 1e300, .infinity]) func `any lifetime leaves room to renew`(
        life: Double
    ) {
        var state = RefreshState()
        _ = state.ask(rejected: nil, boot: 0)
        state.finish(.success(credentials("a", expiresAt: life)), now: 0, boot: 0, random: 1)
        #expect(name(state.ask(rejected: nil, boot: 0)) == "use a")
        if life < 1e5 {
            #expect(name(state.ask(rejected: nil, boot: Int64(life * 990) - 1)).contains("refresh"))
            #expect(name(state.ask(rejected: nil, boot: Int64(life * 500))) == "use a")
        }
    }

    /// A run of four weeks with hourly credentials, a source that is away for up to ten minutes now and then, and a wall clock
    /// that is set back and forth: no caller ever sees an error, and the source is asked seldom.
    @Test(arguments: [1, 2, 3] as [UInt64]) func `a run of weeks never stops for it (P4)`(seed: UInt64) {
        var random = SeededRandom(seed)
        var state = RefreshState()
        var awayUntil: Int64 = 0
        var wallShift = 0.0
        var asked = 0
        var boot: Int64 = 0
        var issued: (id: Int, endsAt: Int64) = (0, 0)
        var stale = 0
        while boot < 28 * 86_400_000 {
            if random.below(3000) == 0 { awayUntil = boot + Int64(random.below(200_000)) }
            if random.below(5000) == 0 { wallShift = Double(random.below(7200)) - 3600 }
            let wall = Double(boot) / 1000 + wallShift
            func renew() {
                asked += 1
                guard boot >= awayUntil else { return state.finish(.failure(busy), now: wall, boot: boot, random: 0.5) }
                issued = (issued.id + 1, boot + 3_600_000)
                // The server's clock says when they end; ours may differ from it.
                let fresh = credentials("\(issued.id)", expiresAt: Double(issued.endsAt) / 1000)
                state.finish(.success(fresh), now: wall, boot: boot, random: 0.5)
            }
            func isGood(_ credentials: AWSCredentials) -> Bool {
                credentials.accessKeyID == "\(issued.id)" && boot < issued.endsAt
            }
            switch state.ask(rejected: nil, boot: boot) {
            case .use(let used):
                if !isGood(used) {
                    // The store refuses them: one forced renewal.
                    stale += 1
                    if case .refresh = state.ask(rejected: used, boot: boot) { renew() }
                }
            case .useAndRefresh: renew()
            case .refresh: renew()
            case .fail, .wait: #expect(boot < awayUntil + 61_000)
            case .join: Issue.record("nothing is on its way")
            }
            boot += 2_000 + Int64(random.below(3_000))
        }
        #expect(asked < 28 * 24 * 30, "asked \(asked) times")
        #expect(issued.id > 28 * 20)
    }
}

/// The shell around the decisions: tasks, waiting, cancelling.
@Suite struct RefreshingCredentialsTests {
    /// A source that gives what it is told to, when it is told to.
    private final class Source: AWSCredentialsProvider {
        let name = "source"
        let calls = Mutex<[AWSCredentials?]>([])
        let isOpen = Mutex(true)
        let next: @Sendable (Int) throws(StorageError) -> AWSCredentials?

        init(_ next: @escaping @Sendable (Int) throws(StorageError) -> AWSCredentials?) { self.next = next }

        func credentials(
            refreshing rejected: AWSCredentials?, progress: Progress
        ) async throws(StorageError) -> AWSCredentials? {
            let number = calls.withLock {
                $0.append(rejected)
                return $0.count
            }
            while !isOpen.withLock({ $0 }) { await Engine.shared.sleep(milliseconds: 1) }
            return try next(number)
        }
        var count: Int { calls.withLock { $0.count } }
        func open() { isOpen.withLock { $0 = true } }
        func close() { isOpen.withLock { $0 = false } }
    }

    private static func numbered(_ number: Int, expiresAt: Double? = nil) -> AWSCredentials {
        AWSCredentials(
            accessKeyID: "A\(number)", secretAccessKey: "SECRET", sessionToken: "TOKEN", expiresAt: expiresAt)
    }

    private func until(_ condition: () -> Bool) async {
        while !condition() { await Engine.shared.sleep(milliseconds: 1) }
    }

    @Test func `a hundred callers make one request`() async throws {
        let source = Source { Self.numbered($0) }
        source.close()
        let refreshing = RefreshingCredentials(source, context: AuthFixture().context)
        let ids = try await withThrowingTaskGroup(of: String?.self) { group in
            for _ in 0..<100 {
                group.addTask(executorPreference: Engine.shared) {
                    try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID
                }
            }
            await until { source.count == 1 }
            source.open()
            var ids: Set<String?> = []
            for try await id in group { ids.insert(id) }
            return ids
        }
        #expect(ids == ["A1"] && source.count == 1)
    }

    @Test func `a hundred callers whose credentials were refused make one request`() async throws {
        let source = Source { Self.numbered($0) }
        let fixture = AuthFixture()
        let refreshing = RefreshingCredentials(source, context: fixture.context)
        let old = try await refreshing.credentials(refreshing: nil, progress: Progress())
        fixture.advance(seconds: 10)
        let ids = try await withThrowingTaskGroup(of: String?.self) { group in
            for _ in 0..<100 {
                group.addTask(executorPreference: Engine.shared) {
                    try await refreshing.credentials(refreshing: old, progress: Progress())?.accessKeyID
                }
            }
            var ids: Set<String?> = []
            for try await id in group { ids.insert(id) }
            return ids
        }
        #expect(ids == ["A2"])
        #expect(source.calls.withLock { $0 } == [nil, old])
    }

    @Test func `who is cancelled while waiting goes at once; the others get theirs`() async throws {
        let source = Source { Self.numbered($0) }
        source.close()
        let refreshing = RefreshingCredentials(source, context: AuthFixture().context)
        let impatient = Progress()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) {
                let error = await #expect(throws: StorageError.self) {
                    try await refreshing.credentials(refreshing: nil, progress: impatient)
                }
                #expect(error?.code == .cancelled)
                // The request goes on for the others.
                source.open()
            }
            group.addTask(executorPreference: Engine.shared) {
                let found = try await refreshing.credentials(refreshing: nil, progress: Progress())
                #expect(found?.accessKeyID == "A1")
            }
            await until { source.count == 1 }
            impatient.cancel()
            try await group.waitForAll()
        }
        #expect(source.count == 1)
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 whoever is cancelled between two looks at those who wait goes too, whenever that is`() async throws {
        let source = Source { Self.numbered($0) }
        source.close()
        let refreshing = RefreshingCredentials(source, context: AuthFixture().context)
        let impatient = (0..<200).map { _ in Progress() }
        let gone = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for progress in impatient {
                group.addTask(executorPreference: Engine.shared) {
                    let error = await #expect(throws: StorageError.self) {
                        try await refreshing.credentials(refreshing: nil, progress: progress)
                    }
                    #expect(error?.code == .cancelled)
                    _ = gone.next()
                }
            }
            await until { source.count == 1 }
            for progress in impatient {
                progress.cancel()
                await Engine.shared.sleep(milliseconds: 1)
            }
            try await group.waitForAll()
        }
        // All while the source was still being asked.
        #expect(gone.next() == 200 && source.count == 1)
        source.open()
        let found = try await refreshing.credentials(refreshing: nil, progress: Progress())
        #expect(found?.accessKeyID == "A1")
    }

    @Test func `renewal ahead of time makes nobody wait`() async throws {
        let fixture = AuthFixture()
        let start = fixture.world.withLock { $0.now }
        let source = Source { Self.numbered($0, expiresAt: start + 3600 * Double($0)) }
        let refreshing = RefreshingCredentials(source, context: fixture.context)
        #expect(try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "A1")
        fixture.advance(seconds: 3400)
        source.close()
        #expect(try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "A1")
        await until { source.count == 2 }
        #expect(try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "A1")
        source.open()
        var id: String?
        while id != "A2" { id = try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID }
        #expect(source.count == 2)
    }

    @Test func `an early renewal that fails is a warning without secrets (P11)`() async throws {
        let fixture = AuthFixture()
        let start = fixture.world.withLock { $0.now }
        let source = Source { number throws(StorageError) in
            if number == 2 { throw StorageError(.network, "away", isRetryable: true) }
            return Self.numbered(number, expiresAt: start + 3600)
        }
        let refreshing = RefreshingCredentials(source, context: fixture.context)
        _ = try await refreshing.credentials(refreshing: nil, progress: Progress())
        fixture.advance(seconds: 3400)
        #expect(try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "A1")
        await until { !fixture.warnings.isEmpty }
        #expect(
            fixture.warnings == ["could not renew the credentials of source: away; they are good for another 200 s"])
        #expect(try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "A1")
    }

    @Test(arguments: [true, false]) func `a source that gives again what was refused is an error`(isTemporary: Bool)
        async throws
    {
        let same = AWSCredentials(
            accessKeyID: "A", secretAccessKey: "SECRET", sessionToken: isTemporary ? "TOKEN" : nil)
        let source = Source { _ in same }
        let fixture = AuthFixture()
        let refreshing = RefreshingCredentials(source, context: fixture.context)
        _ = try await refreshing.credentials(refreshing: nil, progress: Progress())
        let error = await #expect(throws: StorageError.self) {
            try await refreshing.credentials(refreshing: same, progress: Progress())
        }
        #expect(error?.code == .unauthenticated && error?.isRetryable == isTemporary)
        #expect(error?.message.contains("still gives the same ones") == true)
        #expect(source.count == 2)
        // Never more than one try per second.
        #expect(fixture.world.withLock { $0.slept } == 1000)
    }

    @Test func `a source that fails is asked again later, not for every caller`() async throws {
        let source = Source { number throws(StorageError) in
            if number == 1 { throw StorageError(.unauthenticated, "nothing here") }
            return Self.numbered(number)
        }
        let fixture = AuthFixture()
        let refreshing = RefreshingCredentials(source, context: fixture.context)
        for _ in 0..<10 {
            let error = await #expect(throws: StorageError.self) {
                try await refreshing.credentials(refreshing: nil, progress: Progress())
            }
            #expect(error?.message == "nothing here")
        }
        #expect(source.count == 1)
        fixture.advance(seconds: 1)
        #expect(try await refreshing.credentials(refreshing: nil, progress: Progress())?.accessKeyID == "A2")
    }
}
