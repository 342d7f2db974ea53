/// Compares the objects below a prefix with the records of a manifest, without fetching any: one listing.
///
/// What this finds good is there with its size. Stores compare content with its CRC when it arrives, so with one that does
/// (`checksCRC32C`) the bytes were good then; whether they still are, `ObjectDownload.check` tells.
enum ObjectVerify {
    struct Finding: Sendable, Equatable {
        enum Kind: Sendable, Equatable {
            case missing
            /// There with so many bytes.
            case size(Int)
            /// There, and not in the manifest.
            case extra
        }
        /// Below the prefix.
        var path: String
        var kind: Kind
    }

    /// What differs, in the order of the paths. Our own `.raystorage/`, the mutable `.metadata.json` and the directory
    /// markers of other tools are nobody's difference.
    static func findings(_ listing: ObjectListing, prefix: String, files: [FileRecord]) -> [Finding] {
        let own = Array((FileTree.ownName + "/").utf8)
        let sidecar = Array(FileTree.sidecarName.utf8)
        var there: [[UInt8]: Int] = [:]
        there.reserveCapacity(listing.objects.count)
        var forks = ForkYield()
        for object in listing.objects where object.key.utf8.starts(with: prefix.utf8) {
            forks.step()
            let path = Array(object.key.utf8.dropFirst(prefix.utf8.count))
            if path.isEmpty || path.last == UInt8(ascii: "/") || path == sidecar || path.starts(with: own) { continue }
            there[path] = object.size
        }
        var findings: [Finding] = []
        for file in files where file.kind == .file {
            forks.step()
            switch there.removeValue(forKey: Array(file.path.utf8)) {
            case nil: findings.append(Finding(path: file.path, kind: .missing))
            case file.size?: break
            case let size?: findings.append(Finding(path: file.path, kind: .size(size)))
            }
        }
        findings += there.keys.map { Finding(path: String(decoding: $0, as: UTF8.self), kind: .extra) }
        PathBytes.sort(&findings) { $0.path }
        return findings
    }

    static func run(
        store: any ObjectStore, prefix: String, files: [FileRecord], progress: Progress
    ) async throws(StorageError) -> [Finding] {
        findings(try await store.list(prefix, delimited: false, progress: progress), prefix: prefix, files: files)
    }
}
