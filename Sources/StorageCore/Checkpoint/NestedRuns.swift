/// Runs where a checkpoint was asked for. Copied as plain files they would bring along every attempt, whole or not (P1).
enum NestedRuns {
    private static let marks = ["/" + RunLayout.record, "/" + RunLayout.snapshot].map { Array($0.utf8) }

    /// Looks for runs of ours and of Ray's among the paths of files.
    ///
    /// Errors: INVALID_ARGUMENT naming the first of them.
    static func refuse(_ paths: some Sequence<String>, in place: String) throws(StorageError) {
        var runs: [String] = []
        var forks = ForkYield()
        for path in paths {
            forks.step()
            let bytes = path.utf8
            for mark in marks where bytes.count > mark.count && bytes.suffix(mark.count).elementsEqual(mark) {
                let run = String(decoding: bytes.dropLast(mark.count), as: UTF8.self)
                if !runs.contains(where: { $0.utf8.elementsEqual(run.utf8) }) { runs.append(run) }
            }
            if runs.count > maximumShown { break }
        }
        if runs.isEmpty { return }
        PathBytes.sort(&runs) { $0 }
        let few = runs.prefix(maximumShown).joined(separator: ", ") + (runs.count > maximumShown ? ", …" : "")
        throw StorageError(
            .invalidArgument,
            "\(quoted(place)) is no checkpoint; it holds runs (\(few)): name a checkpoint in one of them",
            details: [("path", .string(place)), ("allowed", "a checkpoint")])
    }

    private static let maximumShown = 5
}
