internal import CStorage
internal import Glibc
internal import Synchronization

/// What an upload has reached, beside the attempt on the local disk: JSON lines, by which another process goes on after a
/// kill. The id of an upload in parts is on the disk before its first part is sent; parts need no line, the store lists
/// them. A line lost to a power cut costs sending a file again.
final class UploadJournal: Sendable {
    struct Multipart: Sendable, Equatable {
        var key: String
        var upload: String
        var partBytes: Int
        /// Whether the CRC-32C of parts was announced; nil: an earlier version did not say.
        var announcesChecksums: Bool?
    }
    /// What an earlier process has left.
    struct Past: Sendable, Equatable {
        /// By the file's place among the records.
        var multiparts: [Int: Multipart] = [:]
        /// Files that are there whole, with the version that the store gave them; empty: not known.
        var done: [Int: String] = [:]
        /// Uploads that nothing goes on from.
        var orphans: [Multipart] = []
        /// Nobody was here before.
        var isEmpty: Bool { multiparts.isEmpty && done.isEmpty && orphans.isEmpty }
    }

    let past: Past
    private let file: OpenFile
    /// Files that this process has finished.
    private let finished = Mutex(0)
    private static let maximumBytes = 1 << 30

    /// Opens or creates the journal of an upload of these files to that place. What was about other files, another place or
    /// another encryption is not gone on from: parts would be refused, and whole files lie there under another key.
    init(_ path: String, place: String, files: [FileRecord], encryption: String = "") throws(StorageError) {
        file = try OpenFile(path, O_RDWR | O_CREAT | O_APPEND, mode: 0o600)
        let digest = Self.digest(place, files, encryption)
        let bytes = try file.readAll(limit: Self.maximumBytes)
        // What a crash leaves behind the last newline is no line.
        let end = bytes.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        var lines = bytes[..<end].split(separator: 0x0A, omittingEmptySubsequences: true).makeIterator()
        let isOurs = lines.next().flatMap { try? JSONParser.parse($0) }?["digest"]?.stringValue == digest
        var past = Past()
        var forks = ForkYield()
        while let line = lines.next() {
            forks.step()
            guard let entry = try? JSONParser.parse(line) else { continue }
            past.add(entry, files: files.count)
        }
        if isOurs {
            if end != bytes.count {
                let kept = off_t(end)
                try System.check("ftruncate", path) { [file] in cs_ftruncate(file.descriptor, kept) }
            }
        } else {
            past.orphans += past.multiparts.values
            past.multiparts = [:]
            past.done = [:]
            // Orphans stay on record until they are aborted by whoever reads this next.
            try System.check("ftruncate", path) { [file] in cs_ftruncate(file.descriptor, 0) }
            var head = JSONValue.make(["schema": 1, "digest": .string(digest)]).compactBytes
            head.append(0x0A)
            for orphan in past.orphans { head += Self.line(-1, orphan) }
            try file.write(head)
        }
        self.past = past
    }

    /// The uploads in parts that a journal names, for those who give them up; none when there is no journal.
    static func multiparts(_ path: String) throws(StorageError) -> [Multipart] {
        guard try System.status(path) != nil else { return [] }
        let bytes = try OpenFile(path, O_RDONLY).readAll(limit: maximumBytes)
        var past = Past()
        var forks = ForkYield()
        for line in bytes.split(separator: 0x0A) {
            forks.step()
            if let entry = try? JSONParser.parse(line) { past.add(entry, files: .max) }
        }
        return past.orphans + past.multiparts.values
    }

    /// An upload in parts was begun; durable when this returns.
    func begin(_ index: Int, _ multipart: Multipart) throws(StorageError) {
        try write(Self.line(index, multipart))
        try file.syncData()
        try System.syncDirectory(Path.parent(file.path))
    }

    /// A file is there whole.
    func finish(_ index: Int, version: String) throws(StorageError) {
        var line: [UInt8] = []
        line.reserveCapacity(80)
        line.append(contentsOf: "{\"file\":".utf8)
        line.append(contentsOf: String(index).utf8)
        line.append(contentsOf: ",\"done\":".utf8)
        JSONValue.string(version).write(to: &line)
        line.append(UInt8(ascii: "}"))
        line.append(0x0A)
        try write(line)
        finished.withLock { $0 += 1 }
    }

    /// What an upload in parts has made is wrong: nothing goes on from it.
    func drop(_ index: Int) throws(StorageError) {
        try write(Array("{\"file\":\(index),\"dropped\":true}\n".utf8))
        try file.syncData()
    }

    /// Files that were finished since it was opened.
    var finishedCount: Int { finished.withLock { $0 } }

    /// One `write` of a line to a file that is open for appending: lines of several threads do not mix.
    private func write(_ line: [UInt8]) throws(StorageError) { try file.write(line) }

    private static func line(_ index: Int, _ multipart: Multipart) -> [UInt8] {
        var line = JSONValue.make([
            "file": JSONValue(index), "key": .string(multipart.key), "upload": .string(multipart.upload),
            "part_bytes": JSONValue(multipart.partBytes),
            "checksums": multipart.announcesChecksums.map { .bool($0) } ?? .null,
        ]).compactBytes
        line.append(0x0A)
        return line
    }

    private static func digest(_ place: String, _ files: [FileRecord], _ encryption: String) -> String {
        var digest = Digest()
        digest.add(place.utf8)
        if !encryption.isEmpty { digest.add(encryption.utf8) }
        var forks = ForkYield()
        for file in files {
            forks.step()
            digest.add(file.path.utf8)
            digest.add(file.size)
            digest.add(file.crc32c)
        }
        return digest.text
    }
}

extension UploadJournal.Past {
    /// Takes up one line; what makes no sense is as if it had never been written.
    fileprivate mutating func add(_ entry: JSONValue, files: Int) {
        guard let index = entry["file"]?.intValue, index < files else { return }
        if let version = entry["done"]?.stringValue, index >= 0 {
            done[index] = version
            multiparts[index] = nil
            return
        }
        if entry["dropped"]?.boolValue == true {
            if let wrong = multiparts.removeValue(forKey: index) { orphans.append(wrong) }
            return
        }
        guard let key = entry["key"]?.stringValue, let upload = entry["upload"]?.stringValue,
            let partBytes = entry["part_bytes"]?.intValue
        else { return }
        let multipart = UploadJournal.Multipart(
            key: key, upload: upload, partBytes: partBytes, announcesChecksums: entry["checksums"]?.boolValue)
        // Parts are whole blocks. Of others nobody can go on, and a byte each would be more of them than fit in memory.
        guard index >= 0, partBytes > 0, partBytes % CRC32C.blockSize == 0 else {
            orphans.append(multipart)
            return
        }
        if let earlier = multiparts.updateValue(multipart, forKey: index) { orphans.append(earlier) }
    }
}
