internal import Synchronization

/// Directories that were handed out to read, until they are released.
public final class Leases: Sendable {
    private let open = Mutex<[String: @Sendable () -> Void]>([:])

    /// Those of this process.
    public static var shared: Leases { Engine.shared.only(Leases.self) { Leases() } }

    func add(_ environment: Environment, release: @escaping @Sendable () -> Void) -> String {
        let id = environment.randomHex(8)
        open.withLock { $0[id] = release }
        return id
    }

    /// Gives one back; NOT_FOUND when it was given back already.
    public func release(_ lease: String) throws(StorageError) {
        guard let release = open.withLock({ $0.removeValue(forKey: lease) }) else {
            throw StorageError(.notFound, "there is no lease \(quoted(lease))", details: [("name", "lease")])
        }
        release()
    }
}
