/// The journal entry of a captured report, beside its attempt directory: with it any later process of this host can
/// finish the report. Not fsynced; what makes a capture survive a power cut is the manifest that sealing writes.
struct CapturedRecord: Sendable, Equatable {
    var runID: String
    var attempt: AttemptID
    var name: String
    var physicalName: String
    var metrics: JSONValue
    var hostID: String
    /// Data that was not sealed is in the page cache of that boot only.
    var bootID: String
    var createdAt: Double
    var durability: Durability
    /// False: an intent, written before a directory that is handed over is moved in, so that it can be given back.
    var isComplete: Bool
    /// Where a directory that was handed over came from.
    var source: String?
    /// Where it is now when it had to be copied: to be removed after the commit.
    var setAside: String?

    var document: JSONValue {
        .make([
            "schema": 1, "run_id": .string(runID), "attempt": .string(attempt.description), "name": .string(name),
            "physical_name": .string(physicalName), "metrics": metrics, "host_id": .string(hostID),
            "boot_id": .string(bootID), "created_at": .number(createdAt),
            "durability": .string(durability.rawValue), "complete": .bool(isComplete), "source": .optional(source),
            "set_aside": .optional(setAside),
        ])
    }

    init(
        runID: String, attempt: AttemptID, name: String, physicalName: String, metrics: JSONValue, hostID: String,
        bootID: String, createdAt: Double, durability: Durability, isComplete: Bool, source: String?,
        setAside: String? = nil
    ) {
        self.runID = runID
        self.attempt = attempt
        self.name = name
        self.physicalName = physicalName
        self.metrics = metrics
        self.hostID = hostID
        self.bootID = bootID
        self.createdAt = createdAt
        self.durability = durability
        self.isComplete = isComplete
        self.source = source
        self.setAside = setAside
    }

    init?(_ document: JSONValue) {
        guard let runID = document["run_id"]?.stringValue,
            let attempt = document["attempt"]?.stringValue.flatMap(AttemptID.init),
            let name = document["name"]?.stringValue, let physicalName = document["physical_name"]?.stringValue,
            CheckpointName.isPhysical(physicalName),
            let hostID = document["host_id"]?.stringValue, let bootID = document["boot_id"]?.stringValue
        else { return nil }
        self.init(
            runID: runID, attempt: attempt, name: name, physicalName: physicalName,
            metrics: document["metrics"] ?? .object([]), hostID: hostID, bootID: bootID,
            createdAt: document["created_at"]?.doubleValue ?? 0,
            durability: document["durability"]?.stringValue.flatMap(Durability.init) ?? .fsync,
            isComplete: document["complete"]?.boolValue ?? false, source: document["source"]?.stringValue,
            setAside: document["set_aside"]?.stringValue)
    }
}

/// What becomes of an unfinished attempt of a dead trainer. Pure.
enum LeftoverDecision: Equatable {
    /// Whole and on the disk: only the commit is missing.
    case commit
    /// Whole, but only in this boot's page cache: seal, then commit.
    case sealAndCommit
    /// The same, but its trainer had begun to fsync, and nobody knows with what outcome: write it anew first.
    case rewriteAndCommit
    /// Captured, and the boot that held it is gone.
    case lost(String)
    /// Never captured: nobody was told that it was.
    case discard
    /// Moved in and then killed before `report` returned: the caller's directory goes back where it was.
    case giveBack(to: String)
    /// Another host's: it may be alive, or waiting there to be finished.
    case leave

    struct Facts: Equatable {
        /// The attempt directory exists.
        var hasDirectory: Bool
        /// Its manifest is whole and says this run and attempt.
        var isSealed: Bool
        /// The manifest was prepared: fsyncs may have failed since.
        var hasBegunSealing = false
        /// nil: no journal entry.
        var captured: CapturedRecord?
        /// The host of the epoch, when there is no journal entry.
        var epochHostID: String?
        /// Something stands where a directory that was handed over came from.
        var hasSource: Bool
        /// The attempt directory has no entries.
        var isEmpty = false
        /// There is a journal entry that cannot be read: a power cut took what was not on the disk yet.
        var hasDamagedJournal = false
    }

    static func decide(_ facts: Facts, hostID: String, bootID: String) -> LeftoverDecision {
        guard (facts.captured?.hostID ?? facts.epochHostID) == hostID else { return .leave }
        guard facts.hasDirectory else { return .discard }
        if facts.isSealed { return .commit }
        guard let captured = facts.captured else {
            // Somebody may have been told that it was captured.
            return facts.hasDamagedJournal ? .lost("its journal entry is damaged") : .discard
        }
        guard captured.isComplete else {
            // With only the intent, what is in the directory came by the rename; an empty one was made for it.
            guard let source = captured.source, !facts.isEmpty else { return .discard }
            return .giveBack(to: facts.hasSource ? "\(source).returned-\(captured.attempt)" : source)
        }
        if captured.bootID == bootID { return facts.hasBegunSealing ? .rewriteAndCommit : .sealAndCommit }
        return .lost("captured but not sealed when the machine went down; its bytes cannot be trusted")
    }
}
