internal import Glibc

/// What time it is for whoever asks how old something in a store is: by the clock that stamped it.
///
/// Requests are signed with the difference of the clocks corrected in silence, and NFS asks for no time at all, so a machine
/// whose clock is days ahead works with a store as any other, and would take what another host has sent a moment ago for old.
/// So "now" is never later than the store says. Our own clock counts only when it is behind: things look younger then, which
/// deletes nothing. Where the store says nothing, nothing is old.
struct StoreClock: Sendable, Equatable {
    /// Seconds since 1970; nil: not known.
    let now: Double?

    static let unknown = StoreClock(local: 0, store: nil)
    /// What `written` makes and removes again, below the run.
    static let key = ".raystorage/clock"

    init(local: Double, store: Double?) {
        // NaN is neither above nor below.
        guard let store, store > 0, store.isFinite, local.isFinite else {
            now = nil
            return
        }
        now = min(local, store)
    }

    /// Seconds since then; nil when it cannot be told. What is stamped later than now is of now.
    func age(of time: Double) -> Double? {
        guard let now, time > 0, time.isFinite else { return nil }
        return max(0, now - time)
    }

    /// That of a file system, by a file below the run that this process has written just now: NFS stamps with its server's.
    static func of(_ file: String, environment: Environment) -> StoreClock {
        StoreClock(local: environment.now(), store: environment.changedAt(file))
    }

    /// That of the file system of a run, by a file that is made for this and removed again. Whoever may not do that learns no
    /// time.
    static func written(to root: String, environment: Environment) -> StoreClock {
        let file = Path.join(root, key)
        do throws(StorageError) {
            // One that somebody has left behind keeps its time.
            _ = try System.unlink(file)
            try OpenFile(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600).close()
            let clock = of(file, environment: environment)
            _ = try System.unlink(file)
            return clock
        } catch {
            Log.shared.write(.warning, error.while_("asking the file system for its time").message)
            return .unknown
        }
    }

    /// By an object that this process has written just now.
    static func read(
        _ key: String, in store: any ObjectStore, environment: Environment, progress: Progress
    ) async throws(StorageError) -> StoreClock {
        let stamp = try await store.head(key, progress: progress)?.modifiedAt
        return StoreClock(local: environment.now(), store: stamp)
    }

    /// By an object that is made for this and removed again. Whoever may not do that learns no time.
    static func written(
        to store: any ObjectStore, environment: Environment, progress: Progress
    ) async throws(StorageError) -> StoreClock {
        do throws(StorageError) {
            let bytes = Array((environment.randomHex(16) + "\n").utf8)
            _ = try await store.put(
                key, .bytes(bytes), crc32c: CRC32C.of(bytes), condition: .always, progress: progress)
            let clock = try await read(key, in: store, environment: environment, progress: progress)
            try await store.delete([key], progress: progress)
            return clock
        } catch {
            if error.code == .cancelled { throw error }
            Log.shared.write(.warning, error.while_("asking the store for its time").message)
            return .unknown
        }
    }

    /// By what the store says of itself: writes nothing, and believes a proxy that dates answers by its own clock.
    static func asked(
        _ store: any ObjectStore, environment: Environment, progress: Progress
    ) async throws(StorageError) -> StoreClock {
        StoreClock(local: environment.now(), store: try await store.time(RunLayout.own + "/", progress: progress))
    }
}
