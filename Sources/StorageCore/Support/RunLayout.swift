/// Where everything of a run lies: keys relative to the run's root, the same on every storage.
enum RunLayout {
    static let own = ".raystorage"
    static let record = ".raystorage/run.json"
    static let epochs = ".raystorage/epochs/"
    static let names = ".raystorage/names/"
    static let metrics = ".raystorage/metrics/"
    static let index = ".raystorage/index.json"
    static let attempts = ".raystorage/attempts"
    static let trash = ".raystorage/trash"
    /// On object stores.
    static let decisions = ".raystorage/decisions/"
    static let snapshot = "checkpoint_manager_snapshot.json"
    static let results = "result.json"
    static let progress = "progress.csv"
    /// Inside a checkpoint.
    static let manifest = ".raystorage/manifest.json"
    /// The manifest before it counts: there from the first fsync on.
    static let sealing = ".raystorage/sealing.json"
    static let metadata = ".metadata.json"

    static func epoch(_ number: Int) -> String { "\(epochs)\(number)/epoch.json" }
    static func heartbeat(_ number: Int) -> String { "\(epochs)\(number)/heartbeat" }
    static func fence(_ number: Int) -> String { "\(epochs)\(number)/fence" }
    static func closed(_ number: Int) -> String { "\(epochs)\(number)/closed.json" }
    static func resume(_ number: Int, _ turn: Int) -> String { "\(epochs)\(number)/resume-\(turn).json" }
    static func claim(_ name: String) -> String { "\(names)\(name).json" }
    static func claim(_ name: String, _ attempt: AttemptID) -> String { "\(names)\(name)~\(attempt).json" }
    static func attempt(_ attempt: AttemptID) -> String { "\(attempts)/\(attempt)" }
    static func captured(_ attempt: AttemptID) -> String { "\(attempts)/\(attempt).captured.json" }
    static func decision(_ attempt: AttemptID) -> String { "\(decisions)\(attempt).json" }
    /// In the workspace of a run on an object store: something of the attempt may be there.
    static func upload(_ attempt: AttemptID) -> String { "\(uploads)/\(attempt).json" }
    /// Beside it: how far its files have come.
    static func uploadJournal(_ attempt: AttemptID) -> String { "\(uploads)/\(attempt).journal" }
    static let uploads = ".raystorage/uploads"
    static func trash(_ attempt: AttemptID) -> String { "\(trash)/\(attempt)" }
}
