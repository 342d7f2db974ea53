internal import CStorage
internal import Glibc

/// The staging directory of this machine and user, and the random id in it: what "host" means in the rules of the
/// commit. Containers with a directory of their own are hosts of their own.
struct HostIdentity: Sendable, Equatable {
    /// Absolute path, mode 0700.
    let directory: String
    /// 32 hexadecimal digits.
    let id: String
    /// For people.
    let hostname: String
    /// The kernel's id of this boot; captured data that was not sealed is only good within one boot.
    let bootID: String

    /// Finds the directory: the argument, `RAYSTORAGE_STAGING_DIR`, `RAY_AIR_LOCAL_CACHE_DIR`, or
    /// `/var/tmp/raystorage-<uid>`; makes it and its id when missing.
    static func open(_ argument: String?, environment: Environment) throws(StorageError) -> HostIdentity {
        let directory =
            argument ?? environment.variable("RAYSTORAGE_STAGING_DIR") ?? environment.variable(
                "RAY_AIR_LOCAL_CACHE_DIR")
            ?? "/var/tmp/raystorage-\(getuid())"
        guard directory.utf8.first == UInt8(ascii: "/") else {
            throw StorageError(
                .invalidArgument, "staging_dir must be an absolute path, not \(quoted(directory))",
                details: [("name", "staging_dir"), ("value", .string(directory)), ("allowed", "an absolute path")])
        }
        do throws(StorageError) {
            try System.makeDirectories(directory, mode: 0o700)
            for name in ["locks", "runs"] { try System.makeDirectory(Path.join(directory, name), mode: 0o700) }
            try refuseForeign(directory)
            // One id and one kernel's locks: shared by machines, "host" would mean all of them.
            if FileSystemKind.isNetwork(directory) {
                throw StorageError(
                    .invalidArgument, "lies on a network file system: choose a local directory with staging_dir",
                    details: [("name", "staging_dir"), ("value", .string(directory)), ("allowed", "a local directory")])
            }
            return HostIdentity(
                directory: directory, id: try readOrCreateID(directory, environment), hostname: hostname(),
                bootID: bootID())
        } catch {
            throw error.while_("staging directory \(quoted(directory))")
        }
    }

    /// A directory that another user made could be swapped under us.
    private static func refuseForeign(_ directory: String) throws(StorageError) {
        var info = stat()
        try System.check("stat", directory) { cs_stat(directory, &info) }
        guard info.st_uid == getuid() || getuid() == 0 else {
            throw StorageError(
                .permissionDenied, "belongs to user \(info.st_uid): choose another with staging_dir",
                details: [("path", .string(directory))])
        }
    }

    private static func readOrCreateID(
        _ directory: String, _ environment: Environment
    ) throws(StorageError) -> String {
        let path = Path.join(directory, "host.json")
        for _ in 0..<3 {
            if let file = try? OpenFile(path, O_RDONLY), let bytes = try? file.readAll(limit: 4096),
                let id = (try? JSONParser.parse(bytes))?["host_id"]?.stringValue
            {
                return id
            }
            let temporary = "\(path).\(environment.randomHex(8)).tmp"
            let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            try file.write(JSONValue.make(["host_id": .string(environment.randomHex(16))]).compactBytes)
            try file.sync()
            try file.close()
            // Somebody else's id, if there is one by now, is the right one.
            _ = cs_link(temporary, path)
            try System.unlink(temporary)
            try System.syncDirectory(directory)
        }
        throw StorageError(.io, "cannot read or write \(quoted(path))", details: [("path", .string(path))])
    }

    private static func hostname() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "unknown" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func bootID() -> String {
        guard let file = try? OpenFile("/proc/sys/kernel/random/boot_id", O_RDONLY),
            let bytes = try? file.readAll(limit: 256)
        else { return "unknown" }
        return String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
    }

    /// Starts the names of temporary files in runs.
    var temporaryTag: String { String(id.prefix(8)) }

    func lockPath(runID: String) -> String { "\(directory)/locks/\(runID).lock" }

    /// Where reports of a run on an object store are captured, and its metrics logged.
    func workspace(runID: String) -> String { "\(directory)/uploads/\(runID)" }

    func recordPath(runID: String) -> String { "\(directory)/runs/\(runID).json" }

    /// Remembers a run, so that `drain` finds what was left in it. Under its lock. `options` must hold no secrets.
    func remember(runID: String, path: String, options: JSONValue? = nil) throws(StorageError) {
        let target = recordPath(runID: runID)
        var members = [JSONMember("path", .string(path))]
        if let options { members.append(JSONMember("storage_options", options)) }
        let content = JSONValue.object(members).compactBytes
        if let file = try? OpenFile(target, O_RDONLY), try file.readAll(limit: 64 << 10) == content { return }
        let temporary = "\(target).\(getpid()).tmp"
        let file = try OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        try file.write(content)
        try file.close()
        try System.rename(temporary, to: target)
    }

    /// Removes what is remembered of a run that is no more, its lock file too; not while a trainer of this host has it open.
    func forget(runID: String) throws(StorageError) {
        _ = try OpenRuns.shared.probe(runID) { () throws(StorageError) in
            guard case .held(let lock) = try ProcessLock.take(lockPath(runID: runID)) else { return }
            defer { lock.release() }
            _ = try System.unlink(recordPath(runID: runID))
            // While it is held: who waits for this file finds another one, or none, at its place afterwards.
            _ = try System.unlink(lockPath(runID: runID))
        }
    }

    /// Seconds since a trainer of this host was last seen on a run: live ones touch the lock. nil: never.
    func idleSeconds(runID: String, now: Double) throws(StorageError) -> Double? {
        let statuses = [try System.status(lockPath(runID: runID)), try System.status(recordPath(runID: runID))]
        let newest = statuses.compactMap { $0?.modifiedNanoseconds }.max()
        return newest.map { now - Double($0) / 1e9 }
    }
}

/// A lock that says "the trainer of this run lives in this process": released by the kernel when the process dies, not
/// inherited by fork. One process holds it once; closing any descriptor of the file would drop it, so only this opens it.
final class ProcessLock: Sendable {
    private let file: OpenFile

    private init(_ file: OpenFile) { self.file = file }

    enum Outcome {
        case held(ProcessLock)
        case busy(processID: Int)
    }

    static func take(_ path: String) throws(StorageError) -> Outcome {
        while true {
            let file = try OpenFile(path, O_RDWR | O_CREAT, mode: 0o600)
            var holder: pid_t = 0
            let result = try System.check("lock", path) { cs_lock_file(file.descriptor, 1, 0, &holder) }
            if result != 0 { return .busy(processID: Int(holder)) }
            // Removed by its last holder in between: nobody else would ever meet us at that file.
            let (own, there) = (try file.status(), try System.status(path))
            if own.inode == there?.inode, own.device == there?.device { return .held(ProcessLock(file)) }
            try file.close()
        }
    }

    /// Whether another process holds it. Takes nothing, so that nobody who wants it meets us there.
    static func isHeld(_ path: String) throws(StorageError) -> Bool {
        let file: OpenFile
        do throws(StorageError) { file = try OpenFile(path, O_RDWR) } catch {
            if error.code == .notFound { return false }
            throw error
        }
        var holder: pid_t = 0
        return try System.check("lock", path) { cs_lock_holder(file.descriptor, &holder) } != 0
    }

    func release() { try? file.close() }

    /// Keeps those who clean up old files in temporary directories away.
    func touch() { _ = cs_futimens(file.descriptor, nil) }
}
