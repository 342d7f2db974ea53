import Synchronization

@testable import StorageCore

/// A backend with a test between it and the run: sees each call, may fail it, hold it up, or do meanwhile what another
/// trainer would do.
final class HookedBackend: StorageBackend {
    enum Moment: Sendable { case before, after }
    typealias Hook = @Sendable (Moment, _ call: String) async throws(StorageError) -> Void

    private let inner: any StorageBackend
    private let hook: Hook

    /// `hook` is given calls such as `create .raystorage/run.json`.
    init(_ inner: any StorageBackend, _ hook: @escaping Hook) {
        self.inner = inner
        self.hook = hook
    }

    var root: String { inner.root }
    var capabilities: BackendCapabilities { inner.capabilities }

    private func around<Value: Sendable>(
        _ call: String, _ body: () async throws(StorageError) -> Value
    ) async throws(StorageError) -> Value {
        try await hook(.before, call)
        let value = try await body()
        try await hook(.after, call)
        return value
    }

    func read(_ key: String, limit: Int) async throws(StorageError) -> StoredObject? {
        try await around("read \(key)") { () throws(StorageError) in try await inner.read(key, limit: limit) }
    }

    func create(_ key: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool {
        try await around("create \(key)") { () throws(StorageError) in try await inner.create(key, bytes) }
    }

    func replace(_ key: String, _ bytes: [UInt8], ifVersion: String?) async throws(StorageError) -> Bool {
        try await around("replace \(key)") { () throws(StorageError) in
            try await inner.replace(key, bytes, ifVersion: ifVersion)
        }
    }

    func post(_ key: String, _ bytes: [UInt8]) async throws(StorageError) {
        try await around("post \(key)") { () throws(StorageError) in try await inner.post(key, bytes) }
    }

    func list(_ prefix: String) async throws(StorageError) -> [String] {
        try await around("list \(prefix)") { () throws(StorageError) in try await inner.list(prefix) }
    }

    func delete(_ key: String) async throws(StorageError) -> Bool {
        try await around("delete \(key)") { () throws(StorageError) in try await inner.delete(key) }
    }
}

/// Does something once, at the first call that is meant.
final class Once: Sendable {
    private let flag = Flag()

    func run(_ body: () async throws(StorageError) -> Void) async throws(StorageError) {
        if flag.set() { try await body() }
    }

    var happened: Bool { flag.isSet }
}

/// Tasks wait here until it is opened.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}

/// The first ones wait for the last one.
final class Barrier: Sendable {
    private let count: Int
    private let arrivals = Mutex(0)
    private let gate = Gate()

    init(_ count: Int) { self.count = count }

    var arrived: Int { arrivals.withLock { $0 } }

    func arrive() async {
        let isLast = arrivals.withLock { arrivals in
            arrivals += 1
            return arrivals == count
        }
        if isLast { gate.open() }
        await gate.pass()
    }
}
