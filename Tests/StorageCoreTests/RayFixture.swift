@testable import StorageCore

/// What ray 2.60 leaves in a run that it goes on with.
extension RunFixture {
    /// Ray opened the run under its name and reported: directories, and the snapshot as ray 2.60 writes it, with what was
    /// listed before as far as `num_to_keep` allows.
    func ray(reports names: [String], keeping limit: Int = .max) throws {
        var entries: [(name: String, number: Int)] = []
        var count = 0
        if try exists(RunLayout.snapshot) {
            let snapshot = try self.snapshot()
            entries = snapshot.entries.map { ($0.physicalName, $0.reportNumber ?? 0) }
            count = snapshot.reportCount
        }
        for name in names {
            try write("\(name)/weights", "ray's")
            entries.append((name, count))
            count += 1
        }
        for entry in entries.dropLast(limit) { try remove(entry.name) }
        entries = entries.suffix(limit)
        func result(_ name: String) -> String {
            #"{"version":0,"checkpoint_dir_name":"\#(name)","metrics":{"loss":1.0}}"#
        }
        try write(
            RunLayout.snapshot,
            #"{"ray_version":"2.60.0","checkpoint_results":[\#(entries.map { result($0.name) }.joined(separator: ","))],"#
                + #""checkpoint_report_indices":[\#(entries.map { String($0.number) }.joined(separator: ","))],"#
                + #""latest_checkpoint_result":\#(entries.last.map { result($0.name) } ?? "null"),"#
                + #""pending_training_results":[],"pending_validation_specs":[],"current_report_index":\#(count),"#
                + #""validated_checkpoint_dir_names":[],"timed_out_validation_checkpoint_dir_names":[],"#
                + #""failed_validation_checkpoint_dir_names":[]}"#)
    }

    /// A directory, as Ray's evictions do.
    func remove(_ name: String) throws {
        if kind == .files { return try System.removeTree(path(name)) }
        for key in keys where key.hasPrefix("\(name)/") { memory.place("storage/run/\(key)", nil) }
    }
}
