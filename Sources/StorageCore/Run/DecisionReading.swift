extension RunReader {
    /// The checkpoints of a run on an object store by their decisions: one LIST and the small records, whatever the
    /// checkpoints weigh. Returns the directories of others.
    func readDecisions(into state: inout RunState) async throws(StorageError) -> [String] {
        if let runID = state.runID {
            state.decisions = try await DecisionLog(backend: backend, runID: runID).readAll()
        }
        var ours = Set<[UInt8]>()
        for known in state.decisions {
            ours.insert(Array(known.decision.physicalName.utf8))
            if known.decision.state == .committed, let summary = known.decision.summary {
                state.committed.append(summary.entry)
            }
        }
        var others: [String] = []
        var undecided: [String] = []
        var claims: Set<[UInt8]>?
        for name in try await backend.list("") where name.utf8.last == UInt8(ascii: "/") {
            let directory = Path.withoutSlash(name)
            if directory == RunLayout.own || ours.contains(Array(directory.utf8)) { continue }
            if claims == nil, state.runID != nil {
                claims = Set(try await backend.list(RunLayout.names).map { Array($0.utf8) })
            }
            if Self.isOurs(directory, epochs: state.takenEpochs, claims: claims ?? []) {
                undecided.append(directory)
            } else {
                others.append(directory)
            }
        }
        let copies = try await copies(among: undecided, runID: state.runID)
        for (directory, isCopy) in zip(undecided, copies) {
            if isCopy { others.append(directory) } else { state.undecided.append(directory) }
        }
        return others
    }

    /// Whether they are checkpoints that somebody has copied to where one of ours might stand: their manifests say what they
    /// were. Never taken for our own unfinished work, which is removed one day.
    private func copies(among directories: [String], runID: String?) async throws(StorageError) -> [Bool] {
        let found = Slots<Bool>(count: directories.count)
        try await Engine.shared.forEach(Array(directories.indices), limit: 32) { index throws(StorageError) in
            let key = "\(directories[index])/\(RunLayout.manifest)"
            guard let object = try await backend.read(key, limit: Manifest.maximumBytes),
                let head = try? JSONParser.parseHead(object.bytes, upTo: "files"),
                let manifest = ManifestSummary(.object(head))
            else { return }
            let isInPlace = manifest.physicalName.utf8.elementsEqual(directories[index].utf8)
            found.set(index, manifest.runID != runID || !isInPlace)
        }
        return found.takeAll().map { $0 ?? false }
    }

    /// Whether only this run makes a directory of that name.
    private static func isOurs(_ directory: String, epochs: Set<Int>, claims: Set<[UInt8]>) -> Bool {
        if let sequence = CheckpointName.sequence(ofAutomatic: directory) { return epochs.contains(sequence.epoch) }
        if CheckpointName.attempt(ofPhysical: directory) != nil { return true }
        return claims.contains(Array("\(directory).json".utf8))
    }

    /// The epoch whose launch an undecided directory is of; nil: of none of ours.
    func epoch(ofUndecided directory: String) async throws(StorageError) -> Int? {
        if let sequence = CheckpointName.sequence(ofAutomatic: directory) { return sequence.epoch }
        return try await attempt(ofUndecided: directory)?.sequence.epoch
    }

    /// The attempt that an undecided directory belongs to; nil when its records are damaged.
    func attempt(ofUndecided directory: String) async throws(StorageError) -> AttemptID? {
        if let sequence = CheckpointName.sequence(ofAutomatic: directory) {
            return try await record(of: sequence.epoch).map { AttemptID(sequence: sequence, nonce: $0.nonce) }
        }
        if let attempt = CheckpointName.attempt(ofPhysical: directory) { return attempt }
        return try await backend.readDocument(RunLayout.claim(directory))?["attempt"]?.stringValue.flatMap(
            AttemptID.init)
    }
}
