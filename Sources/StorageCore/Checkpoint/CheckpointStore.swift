/// How an attempt ended.
enum CommitOutcome: Sendable, Equatable {
    case committed
    /// The attempt is gone: aborted by somebody who won.
    case aborted
    /// Something that is not ours stands at its place.
    case occupied
}

/// Commit, abort and un-commit of one run's checkpoints, alike on file systems, where a rename decides, and on object
/// stores, where a record does. An attempt is captured and sealed in a directory of the workspace in both cases.
protocol CheckpointStore: Sendable {
    var runID: String { get }
    /// The run, for error texts and pins.
    var root: String { get }
    /// The directory of this machine below which attempts are captured: the run itself on file systems.
    var workspace: String { get }

    /// Whether a sealed attempt is still to be sent to where it stays.
    var uploads: Bool { get }

    /// What opens the checkpoint again.
    func address(_ physicalName: String) -> String
    /// Whether anything stands where a new checkpoint is to be.
    func isOccupied(_ physicalName: String) async throws(StorageError) -> Bool

    // MARK: - Attempts

    /// Brings the files of a sealed attempt to where they stay, where that is not where they were captured. What is there
    /// already is not sent again.
    func upload(_ attempt: AttemptID, as physicalName: String, progress: Progress) async throws(StorageError)
    /// Makes a sealed attempt, uploaded where need be, a checkpoint.
    func commit(_ attempt: AttemptID, as physicalName: String) async throws(StorageError) -> CommitOutcome
    /// Removes what is left of the way to a commit that was published.
    func forget(_ attempt: AttemptID) async throws(StorageError)
    /// What was decided about an attempt that lies in the workspace; nil: nothing, as far as anybody knows.
    func outcome(_ attempt: AttemptID) async throws(StorageError) -> CommitOutcome?
    /// Ends an attempt that is not to become a checkpoint. False: it was committed before.
    @discardableResult
    func abort(_ attempt: AttemptID) async throws(StorageError) -> Bool
    /// Moves a directory that was handed over back to its owner, without what we put into it.
    func giveBack(_ attempt: AttemptID, to source: String) async throws(StorageError)
    /// Attempts in the workspace that are neither committed nor aborted.
    func unfinished() async throws(StorageError) -> [AttemptID]
    /// Whether the directory, of this machine, is sealed for this attempt.
    func isOurs(_ directory: String, _ attempt: AttemptID) throws(StorageError) -> Bool

    // MARK: - Checkpoints

    /// Takes a committed checkpoint away from every reader in one step; its files stay until `purge`.
    @discardableResult
    func uncommit(_ attempt: AttemptID, physicalName: String) async throws(StorageError) -> Bool
    /// Makes sure that a checkpoint is committed, and that an evictor from before cannot undo that any more: puts it
    /// back if its files are still there. False: it is gone.
    func restoreFromTrash(_ attempt: AttemptID, physicalName: String) async throws(StorageError) -> Bool
    /// Un-committed checkpoints whose files are still there.
    func trashed() async throws(StorageError) -> [AttemptID]
    /// Removes the files of an un-committed checkpoint.
    func purge(_ attempt: AttemptID) async throws(StorageError)
    /// The head of a checkpoint's manifest; nil when there is none that is whole.
    func summary(_ physicalName: String) async throws(StorageError) -> ManifestSummary?
    /// Throws CHECKSUM when files are missing or of another size, and with `deeply` when the bytes are not those that were
    /// reported, as far as that can be told without fetching them.
    func inspect(
        _ entry: CheckpointEntry, deeply: Bool, staging: String, progress: Progress
    ) async throws(StorageError)
    /// Hands on what a listing has found, so that it need not be asked for again.
    func learn(_ decisions: [KnownDecision])
}

extension CheckpointStore {
    /// Where something of the run lies, for error texts.
    func path(_ key: String) -> String { Path.join(root, key) }
    /// Where something of the workspace lies.
    func local(_ key: String) -> String { Path.join(workspace, key) }
    /// Where an attempt is captured and sealed.
    func directory(_ attempt: AttemptID) -> String { local(RunLayout.attempt(attempt)) }
}
