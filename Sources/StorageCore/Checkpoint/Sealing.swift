/// From captured to sealed: checksums, fsync, and the manifest that says so.
enum Sealing {
    /// Seals a directory under the names of its journal entry and returns the manifest that now stands in it.
    @discardableResult
    static func seal(
        directory: String, captured: Capture.Result?, record: CapturedRecord, progress: Progress,
        buffers: BufferPool = BufferPool()
    ) async throws(StorageError) -> Manifest {
        var manifest = Manifest(
            runID: record.runID, attempt: record.attempt, name: record.name, physicalName: record.physicalName,
            createdAt: record.createdAt, durability: record.durability, ranks: [0], metrics: record.metrics, files: [])
        var bytes: [UInt8] = []
        _ = try await Seal.run(
            directory: directory, captured: captured, durability: record.durability, progress: progress,
            buffers: buffers
        ) { files throws(StorageError) in
            // A kernel that could not write says so once. Should we die between a failed fsync and its withdrawal, this tells
            // the next process that a second fsync proves nothing, and what the bytes must be.
            manifest.files = files
            bytes = try Seal.prepareManifest(manifest, directory: directory)
        }
        try Seal.publishManifest(bytes, directory: directory, durability: record.durability)
        return manifest
    }
}

/// Writes the files of an attempt anew whose sealing was cut off: an fsync may have failed unnoticed, and then the kernel
/// calls pages clean that never reached the disk.
enum Rewriting {
    /// Copies every file beside itself, comparing it with the manifest that was prepared, and puts the copy in its place.
    /// What the next fsync then says is true. CHECKSUM: the bytes are not there any more.
    static func run(
        directory: String, manifest: Manifest, progress: Progress, buffers: BufferPool = BufferPool()
    ) async throws(StorageError) {
        progress.phase = "writing anew"
        let root = try RootDirectory(directory, followLink: false)
        for name in try System.list(root.full(FileTree.ownName)) where name.hasPrefix("rewrite-") {
            try System.unlink(root.full("\(FileTree.ownName)/\(name)"))
        }
        let entries = try await FileTree.walk(root, progress: progress).entries
        let listed = Dictionary(manifest.files.map { (Array($0.path.utf8), $0) }, uniquingKeysWith: { $1 })
        var inputs: [FilePass.Input] = []
        for (index, entry) in entries.enumerated() where entry.status.kind == .file {
            var input = FilePass.Input(entry)
            input.destinationPath = "\(FileTree.ownName)/rewrite-\(index)"
            // The sidecar, which may change at any time, is in no manifest.
            if let record = listed[Array(entry.path.utf8)] {
                if record.size != entry.status.size {
                    throw .damaged(root.full(entry.path), entry.path, offset: 0, length: record.size)
                }
                input.expectedBlocks = record.blocks
            }
            inputs.append(input)
        }
        let present = Set(entries.map { Array($0.path.utf8) })
        for record in manifest.files where !present.contains(Array(record.path.utf8)) {
            throw .damaged(root.full(record.path), record.path, offset: 0, length: record.size)
        }
        progress.expect(bytes: ByteSum.of(inputs.lazy.map(\.size)), files: inputs.count)
        var pass = FilePass(source: root, destination: root, progress: progress, activity: "written anew")
        pass.buffers = buffers
        _ = try await pass.run(inputs)
        for input in inputs {
            guard let copy = input.destinationPath else { continue }
            try root.rename(copy, to: input.path)
        }
        for entry in entries where entry.status.kind == .directory {
            try root.setModified(entry.path, nanoseconds: entry.status.modifiedNanoseconds)
        }
    }
}

extension CheckpointEntry {
    init(_ manifest: Manifest) {
        self.init(
            attempt: manifest.attempt, name: manifest.name, physicalName: manifest.physicalName,
            metrics: manifest.metrics, createdAt: manifest.createdAt, bytes: manifest.bytes, files: manifest.fileCount)
    }
}
