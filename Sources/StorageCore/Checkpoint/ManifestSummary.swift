internal import CStorage
internal import Glibc

/// The head of a manifest: all that a catalog needs, without the list of files, which may be megabytes.
struct ManifestSummary: Sendable, Equatable {
    var runID: String
    var attempt: AttemptID
    var name: String
    var physicalName: String
    var metrics: JSONValue
    var createdAt: Double?
    var bytes: Int?
    var files: Int?

    /// Reads it from a checkpoint's directory; nil when there is no manifest, or one that is not whole.
    static func read(directory: String) throws(StorageError) -> ManifestSummary? {
        let file: OpenFile
        do throws(StorageError) {
            file = try OpenFile(Path.join(directory, RunLayout.manifest), O_RDONLY)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        var head = try file.read(count: 64 * 1024)
        if let members = try? JSONParser.parseHead(head, upTo: "files") { return ManifestSummary(.object(members)) }
        head = try file.readAll(limit: 1 << 30)
        return (try? JSONParser.parseHead(head, upTo: "files")).flatMap { ManifestSummary(.object($0)) }
    }

    init?(_ document: JSONValue) {
        guard let runID = document["run_id"]?.stringValue,
            let attempt = document["attempt"]?.stringValue.flatMap(AttemptID.init),
            let name = document["name"]?.stringValue, let physicalName = document["physical_name"]?.stringValue,
            CheckpointName.isPhysical(physicalName)
        else { return nil }
        self.runID = runID
        self.attempt = attempt
        self.name = name
        self.physicalName = physicalName
        metrics = document["metrics"] ?? .object([])
        createdAt = document["created_at"]?.doubleValue
        bytes = document["bytes"]?.intValue
        files = document["file_count"]?.intValue
    }

    var entry: CheckpointEntry {
        CheckpointEntry(
            attempt: attempt, name: name, physicalName: physicalName, metrics: metrics, createdAt: createdAt,
            bytes: bytes, files: files)
    }
}

extension OpenFile {
    /// At most `count` bytes from the start.
    func read(count: Int) throws(StorageError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let got = try System.check("read", path) {
            buffer.withUnsafeMutableBytes { cs_pread(descriptor, $0.baseAddress, $0.count, 0) }
        }
        return Array(buffer.prefix(got))
    }
}
