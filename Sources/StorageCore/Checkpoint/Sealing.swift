/// From captured to sealed: checksums, fsync, and the manifest that says so.
enum Sealing {
    /// Seals a directory under the names of its journal entry and returns the manifest that now stands in it.
    @discardableResult
    static func seal(
        directory: String, captured: Capture.Result?, record: CapturedRecord, progress: Progress
    ) async throws(StorageError) -> Manifest {
        let files = try await Seal.run(
            directory: directory, captured: captured, durability: record.durability, progress: progress)
        let manifest = Manifest(
            runID: record.runID, attempt: record.attempt, name: record.name, physicalName: record.physicalName,
            createdAt: record.createdAt, durability: record.durability, ranks: [0], metrics: record.metrics,
            files: files)
        try Seal.writeManifest(manifest, directory: directory, durability: record.durability)
        return manifest
    }
}

extension CheckpointEntry {
    init(_ manifest: Manifest) {
        self.init(
            attempt: manifest.attempt, name: manifest.name, physicalName: manifest.physicalName,
            metrics: manifest.metrics, createdAt: manifest.createdAt, bytes: manifest.bytes, files: manifest.fileCount)
    }
}
