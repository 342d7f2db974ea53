/// The names of checkpoint directories: ours, the user's, and the physical ones (`commit.md`, Names).
///
/// Names are compared byte by byte, as the kernel does; the caller keys sets with `Array(name.utf8)`.
public enum CheckpointName {
    /// What a `checkpoint_dir_name` may be, for error texts.
    public static let allowed =
        "one path component of 1 to \(PathComponent.maximumBytes) bytes without leading dot, '/', '~' and control"
        + " characters, that is none of the run's own file names and not of the form checkpoint_<6 digits>_<9 digits>"

    /// The default name, unique by construction: `checkpoint_<epoch>_<index>`, so that names sort as reports do.
    public static func automatic(_ sequence: ReportSequence) -> String {
        "checkpoint_\(Decimal.padded(sequence.epoch, 6))_\(Decimal.padded(sequence.index, 9))"
    }

    /// The report whose default name this is, nil for any other name.
    static func sequence(ofAutomatic name: String) -> ReportSequence? {
        let parts = name.utf8.split(separator: UInt8(ascii: "_"), omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].elementsEqual("checkpoint".utf8) else { return nil }
        guard let epoch = Decimal.digits(parts[1]), let index = Decimal.digits(parts[2]) else { return nil }
        let sequence = ReportSequence(epoch: epoch, index: index)
        return automatic(sequence).utf8.elementsEqual(name.utf8) ? sequence : nil
    }

    /// Whether a user may not claim this name because a default name looks so.
    public static func isAutomatic(_ name: String) -> Bool { sequence(ofAutomatic: name) != nil }

    /// Refuses a user's `checkpoint_dir_name` that could leave the run directory or collide with what is ours or Ray's,
    /// with INVALID_ARGUMENT (details `name`, `value`, `allowed`). Nothing is looked up.
    public static func validate(_ name: String) throws(StorageError) {
        if let problem = problem(name) {
            throw PathComponent.refusal(
                "checkpoint_dir_name", argument: "checkpoint_dir_name", name, problem, allowed: allowed)
        }
    }

    /// The directory of one attempt for ever: the name for the first attempt that claimed it, `<name>~<attempt>` for
    /// every other.
    public static func physical(name: String, attempt: AttemptID, isFirstClaim: Bool) -> String {
        isFirstClaim ? name : "\(name)~\(attempt)"
    }

    /// Whether a document may name this as a checkpoint's directory: one component directly below the run, not hidden.
    static func isPhysical(_ name: String) -> Bool {
        guard let first = name.utf8.first, first != UInt8(ascii: ".") else { return false }
        return !name.utf8.contains { $0 == UInt8(ascii: "/") || $0 == 0 }
    }

    /// The attempt that a later claim's directory belongs to, nil for any other directory.
    static func attempt(ofPhysical name: String) -> AttemptID? {
        guard let tilde = name.utf8.lastIndex(of: UInt8(ascii: "~")) else { return nil }
        return AttemptID(String(name[name.utf8.index(after: tilde)...]))
    }

    private static func problem(_ name: String) -> String? {
        if let problem = PathComponent.problem(name) { return problem }
        if name.utf8.contains(UInt8(ascii: "~")) { return "holds a '~', which separates names from attempts" }
        // Some file systems (CIFS, ext4 with casefold) take `Result.json` for `result.json`.
        let folded = String(decoding: name.utf8.map(lowered), as: UTF8.self)
        if isAutomatic(folded) { return "has the form of the default names" }
        if reserved.contains(folded) || reservedPrefixes.contains(where: { folded.utf8.starts(with: $0.utf8) }) {
            return "is a name of the run's own files"
        }
        return nil
    }

    private static func lowered(_ byte: UInt8) -> UInt8 { (0x41...0x5A).contains(byte) ? byte + 0x20 : byte }

    /// Files that we or Ray (V2, V1) keep in a run directory. Those with a leading dot are refused by that.
    private static let reserved: Set<String> = [
        "checkpoint_manager_snapshot.json", "result.json", "progress.csv", "hang_detector", "trainer.pkl", "tuner.pkl",
        "params.json", "params.pkl", "error.txt", "error.pkl",
    ]
    private static let reservedPrefixes = [
        "experiment_state-", "basic-variant-state-", "searcher-state-", "events.out.tfevents.",
    ]
}
