@testable import StorageCore

extension TreeFixture {
    /// Captures and seals `source` into a checkpoint called `name`, with its manifest.
    func checkpoint(_ name: String, of source: String) async throws -> Manifest {
        let captured = try await Capture.run(
            source: at(source), into: at(name), handOver: false, runDirectory: try directory("some-run"),
            progress: Progress())
        let files = try await Seal.run(
            directory: at(name), captured: captured, durability: .none, progress: Progress())
        var manifest = try ManifestTests.manifest(files)
        manifest.name = name
        manifest.physicalName = name
        try Seal.writeManifest(manifest, directory: at(name), durability: .none)
        return manifest
    }
}
