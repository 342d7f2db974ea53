/// Ray Train's index of the kept checkpoints, `checkpoint_manager_snapshot.json` in the run directory, as ray 2.60
/// writes and reads it, with our own facts under "raystorage". Commits are the truth: this can be rebuilt from them.
struct Snapshot: Sendable, Equatable {
    static let fileName = "checkpoint_manager_snapshot.json"
    /// The Ray whose format this is. Ray compares it only to word an error.
    static let rayVersion = "2.60.0"
    static let schema = 1

    /// One kept checkpoint.
    struct Entry: Sendable, Equatable {
        /// The directory below the run.
        var physicalName: String
        /// What it was reported as; the directory's name for one of Ray's.
        var name: String
        /// Ours carry one, Ray's none.
        var attempt: AttemptID?
        /// Ray's checkpoints have epoch 0 and Ray's number of the `report()` call.
        var sequence: ReportSequence
        var metrics: JSONValue
        /// Ray's number of the report, which runs through all launches; nil: made from the sequence.
        var reportNumber: Int? = nil
    }

    /// What Ray does not know. A snapshot without it was written by Ray, which drops the members of others.
    struct Ours: Sendable, Equatable {
        var runID: String
        /// The epoch of the holder that wrote it.
        var epoch: Int
        /// Counts the rewrites of this epoch.
        var generation: Int
        /// Announced for eviction: not among the entries any more, and perhaps not un-committed yet.
        var evicting: [AttemptID]
    }

    /// Worst first, as retention ranks them; Ray's order of `checkpoint_results`.
    var entries: [Entry]
    /// The physical name of the latest; Ray's `get_checkpoint()`. Nil, or none of the entries: Ray starts without.
    var latest: String?
    /// How many `report()` calls there were, those without checkpoint included, as far as known.
    var reportCount: Int
    /// Nil in a snapshot that Ray wrote.
    var ours: Ours?
    /// Outcomes of Ray's validations by its keys, kept so that Ray finds them again.
    var validations: [String: [String]] = [:]

    static let validationKeys = [
        "validated_checkpoint_dir_names", "timed_out_validation_checkpoint_dir_names",
        "failed_validation_checkpoint_dir_names",
    ]

    /// The document on one line, as Ray writes it.
    ///
    /// Ray breaks ties of scores by the numbers of `report()` calls and counts on from them, so they are made to grow
    /// with (epoch, index) over all epochs. Ray's validations that are still pending are dropped: nobody here runs them.
    var encoded: [UInt8] {
        let numbers = reportNumbers
        let latestEntry = latest.flatMap { name in entries.last { $0.physicalName.utf8.elementsEqual(name.utf8) } }
        var members: [JSONMember] = [
            JSONMember("ray_version", .string(Self.rayVersion)),
            JSONMember("checkpoint_results", .array(entries.map(Self.result))),
            JSONMember("checkpoint_report_indices", .array(numbers.map { JSONValue($0) })),
            JSONMember("latest_checkpoint_result", latestEntry.map(Self.result) ?? .null),
            JSONMember("pending_training_results", .array([])),
            JSONMember("pending_validation_specs", .array([])),
            JSONMember("current_report_index", JSONValue(max(reportCount, (numbers.max() ?? -1) + 1))),
        ]
        let listed = Set(entries.map { Array($0.physicalName.utf8) })
        for key in Self.validationKeys {
            let names = (validations[key] ?? []).filter { listed.contains(Array($0.utf8)) }
            members.append(JSONMember(key, .array(names.map { .string($0) })))
        }
        if let ours { members.append(JSONMember("raystorage", document(ours))) }
        return JSONValue.object(members).compactBytes
    }

    /// Parallel to `entries`: the numbers of their reports as far as known, made to differ; else growing with
    /// (epoch, index).
    private var reportNumbers: [Int] {
        var numbers = [Int](repeating: 0, count: entries.count)
        var next = 0
        let areKnown = entries.allSatisfy { $0.reportNumber != nil }
        func number(_ place: Int) -> Int { entries[place].reportNumber ?? entries[place].sequence.index }
        let places = entries.indices.sorted { left, right in
            if areKnown, number(left) != number(right) { return number(left) < number(right) }
            return entries[left].sequence < entries[right].sequence
        }
        for place in places {
            // Bounded, so that a document with absurd numbers cannot overflow here.
            numbers[place] = max(next, min(number(place), Int.max / 2))
            next = numbers[place] + 1
        }
        return numbers
    }

    private static func result(_ entry: Entry) -> JSONValue {
        .make(["version": 0, "checkpoint_dir_name": .string(entry.physicalName), "metrics": entry.metrics])
    }

    private func document(_ ours: Ours) -> JSONValue {
        .make([
            "schema": JSONValue(Self.schema), "run_id": .string(ours.runID), "epoch": JSONValue(ours.epoch),
            "generation": JSONValue(ours.generation),
            "evicting": .array(ours.evicting.map { .string($0.description) }),
            "entries": .array(
                entries.map { entry in
                    .make([
                        "attempt": .optional(entry.attempt?.description), "name": .string(entry.name),
                        "physical_name": .string(entry.physicalName), "epoch": JSONValue(entry.sequence.epoch),
                        "index": JSONValue(entry.sequence.index),
                    ])
                }),
        ])
    }
}
