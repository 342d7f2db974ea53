/// Create-only writes in a store that knows no conditions: a claim under a unique key, then a look at who else claims.
///
/// Who is alone, and finds the name free, writes it. Where several claim at once the smallest claim waits until it is
/// alone and the others withdraw, so one of them always gets on. What a claim cannot do is to stop a process that sleeps
/// between its look and its write for longer than `staleAfterSeconds`: safe for one trainer at a time.
struct ObjectClaim {
    /// Where claims lie, below the root; one prefix per name.
    static let prefix = ".raystorage/claims/"
    /// A claim that is older than ours by so many seconds, by the store's clock, is a dead process's.
    static let staleAfterSeconds = 60.0
    /// Waiting for other claims ends after that many looks.
    private static let looks = 200

    let backend: ObjectBackend
    let key: String

    private var directory: String { Self.prefix + PercentEncoding.encode(key) + "/" }

    func create(_ bytes: [UInt8]) async throws(StorageError) -> Bool {
        if let there = try await backend.holds(key, bytes) { return there }
        let claim = directory + backend.environment.randomHex(16)
        let result: Result<Bool, StorageError>
        do throws(StorageError) {
            result = .success(try await claimed(claim, bytes))
        } catch {
            result = .failure(error)
        }
        // Left behind it holds others up only until it is stale: no reason to call a written record a failure.
        try? await withdraw(claim)
        return try result.get()
    }

    private func claimed(_ claim: String, _ bytes: [UInt8]) async throws(StorageError) -> Bool {
        var isPlaced = false
        for look in 0..<Self.looks {
            if !isPlaced {
                _ = try await backend.replace(claim, [], ifVersion: nil)
                isPlaced = true
            }
            switch Self.verdict(on: try await claims(), own: claim) {
            case .alone:
                // Whoever was first has written before withdrawing, so one look now is enough.
                if let there = try await backend.holds(key, bytes) { return there }
                _ = try await backend.replace(key, bytes, ifVersion: nil)
                return true
            case .wait: break
            case .withdraw:
                try await withdraw(claim)
                isPlaced = false
            case .lost: isPlaced = false
            }
            await Engine.shared.sleep(milliseconds: pause(look))
            if let there = try await backend.holds(key, bytes) { return there }
        }
        throw StorageError(
            .timeout, "\(quoted(backend.path(key))) is being claimed by other processes without end",
            details: [("operation", "create"), ("path", .string(backend.path(key)))], isRetryable: true)
    }

    enum Verdict: Equatable { case alone, wait, withdraw, lost }

    /// What one look at the claims means. `lost`: ours is not among them.
    static func verdict(on claims: [ObjectSummary], own: String) -> Verdict {
        guard let ours = claims.first(where: { $0.key.utf8.elementsEqual(own.utf8) }) else { return .lost }
        let others = claims.filter {
            !$0.key.utf8.elementsEqual(own.utf8) && ours.modifiedAt - $0.modifiedAt <= staleAfterSeconds
        }
        guard !others.isEmpty else { return .alone }
        let isSmallest = others.allSatisfy { own.utf8.lexicographicallyPrecedes($0.key.utf8) }
        return isSmallest ? .wait : .withdraw
    }

    private func claims() async throws(StorageError) -> [ObjectSummary] {
        try await backend.store.list(directory, delimited: false, progress: backend.progress).objects
    }

    private func withdraw(_ claim: String) async throws(StorageError) {
        try await backend.store.delete([claim], progress: backend.progress)
    }

    private func pause(_ look: Int) -> Int64 {
        let random = Int64(backend.environment.randomHex(2), radix: 16) ?? 0
        let ceiling = min(1000, Int64(20) << min(look, 6))
        return 10 + ceiling * random / 0xFFFF
    }
}
