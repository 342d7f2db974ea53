internal import Glibc

/// Directories of a run that can only be ours: with a default name of an epoch that exists, with a name that was claimed,
/// or with an attempt in their name. Without a whole manifest such a one is unfinished or damaged and refused by readers;
/// any other without a manifest is somebody else's.
enum Ownership {
    struct Claim: Sendable, Equatable {
        /// The report that the directory was for.
        var sequence: ReportSequence
        /// Only the commit makes a directory of this name, so that it was whole once.
        var wasCommitted: Bool
    }

    /// nil: not ours, as far as the name says.
    static func claim(on directory: String, root: String) throws(StorageError) -> Claim? {
        if let sequence = CheckpointName.sequence(ofAutomatic: directory) {
            let exists = try System.status(Path.join(root, RunLayout.epoch(sequence.epoch))) != nil
            return exists ? Claim(sequence: sequence, wasCommitted: true) : nil
        }
        if let attempt = CheckpointName.attempt(ofPhysical: directory) {
            return Claim(sequence: attempt.sequence, wasCommitted: true)
        }
        let record = Path.join(root, RunLayout.claim(directory))
        guard try System.status(record) != nil else { return nil }
        let bytes = try OpenFile(record, O_RDONLY).readAll(limit: 1 << 20)
        let attempt = (try? JSONParser.parse(bytes))?["attempt"]?.stringValue.flatMap(AttemptID.init)
        return Claim(sequence: attempt?.sequence ?? .start, wasCommitted: false)
    }
}
