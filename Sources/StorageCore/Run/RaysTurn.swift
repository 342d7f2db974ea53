/// Whether Ray went on with a run after our last epoch, and how far it got. Pure.
///
/// Ray drops our part of the snapshot when it writes it. We put it back as soon as an epoch has written where it goes on
/// from. So a snapshot without it was written by Ray since, unless that epoch died in between: then it was there before.
enum RaysTurn {
    /// The directory that Ray's trainers would go on from; nil: Ray has not been here, or got no further than one of ours.
    ///
    /// - Parameters:
    ///   - ours: directories that are ours, whole or damaged.
    ///   - lastStart: where our last epoch that got as far as reporting went on from; nil: there was none.
    static func latest(_ snapshot: Snapshot?, ours: Set<[UInt8]>, lastStart: History.ResumePoint?) -> String? {
        guard let snapshot, snapshot.ours == nil, let name = snapshot.latest else { return nil }
        if ours.contains(Array(name.utf8)) { return nil }
        // Ray counts every report: this very snapshot was there when our last epoch chose.
        if let seen = lastStart?.rayReports, seen == min(snapshot.reportCount, ReportSequence.limit) { return nil }
        return name
    }

    /// What to go on from after Ray's turn, best first: Ray's latest, and what else Ray reported in that turn. The latest is
    /// among them even if its directory is gone, so that this is noticed.
    ///
    /// - Parameter published: the number of the last report of ours that Ray can have known; nil: none.
    static func candidates(
        latest: String, snapshot: Snapshot?, foreign: [CheckpointEntry], published: Int?
    ) -> [CheckpointEntry] {
        let name = Array(latest.utf8)
        let listed = Set((snapshot?.entries ?? []).map { Array($0.physicalName.utf8) })
        var newest = CheckpointEntry(attempt: nil, name: latest, physicalName: latest, metrics: .object([]))
        var older: [CheckpointEntry] = []
        for entry in foreign.reversed() {
            let key = Array(entry.physicalName.utf8)
            if key == name {
                newest = entry
            } else if listed.contains(key), (entry.reportNumber ?? -1) > (published ?? -1) {
                older.append(entry)
            }
        }
        return [newest] + older
    }
}
