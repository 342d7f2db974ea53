extension Manifest {
    /// Reads a document. Nothing in it is believed: a manifest must never make a restore write elsewhere.
    ///
    /// Errors: CHECKSUM for what is no manifest, NOT_SUPPORTED for a later schema.
    static func parse(_ document: [UInt8], path: String) throws(StorageError) -> Manifest {
        let reader = ManifestReader(path: path)
        let value = try reader.parse(document)
        var manifest = try reader.head(value)
        guard let list = value["files"]?.arrayValue else { throw reader.damaged("\"files\" is not a list") }
        manifest.files.reserveCapacity(list.count)
        var forks = ForkYield()
        for element in list {
            forks.step()
            manifest.files.append(try reader.record(element))
        }
        try reader.checkTree(manifest.files)
        var bytes = 0
        for file in manifest.files {
            let (sum, overflow) = bytes.addingReportingOverflow(file.size)
            if overflow { throw reader.damaged("its files are larger than any storage") }
            bytes = sum
        }
        let (saidBytes, saidCount) = (try reader.count(value, "bytes"), try reader.count(value, "file_count"))
        if bytes != saidBytes || manifest.fileCount != saidCount {
            throw reader.damaged("its files are not as many or as large as it says")
        }
        return manifest
    }
}

/// Checks a manifest's members one by one; every error names the document.
struct ManifestReader {
    let path: String

    func damaged(_ why: String) -> StorageError {
        StorageError(
            .checksum, "the manifest \(quoted(path)) is damaged: \(why)",
            details: [("path", .string(path)), ("reason", .string(why))])
    }

    func parse(_ bytes: some Sequence<UInt8>) throws(StorageError) -> JSONValue {
        do throws(JSONSyntaxError) { return try JSONParser.parse(Array(bytes)) } catch {
            throw damaged("\(error.reason) expected at byte \(error.offset)")
        }
    }

    private func text(_ value: JSONValue, _ key: String) throws(StorageError) -> String {
        guard let text = value[key]?.stringValue else { throw damaged("\(quoted(key)) is missing or no text") }
        return text
    }

    func count(_ value: JSONValue, _ key: String) throws(StorageError) -> Int {
        guard let number = value[key]?.intValue, number >= 0 else {
            throw damaged("\(quoted(key)) is missing or no count")
        }
        return number
    }

    /// Everything but the files.
    func head(_ value: JSONValue) throws(StorageError) -> Manifest {
        let schema = try count(value, "schema")
        guard schema == Manifest.schema else {
            throw StorageError(
                .notSupported,
                "the manifest \(quoted(path)) has schema \(schema), this library knows \(Manifest.schema)",
                details: [("path", .string(path)), ("schema", JSONValue(schema))])
        }
        guard try count(value, "block_size") == CRC32C.blockSize else { throw damaged("its block size is not 8 MiB") }
        guard let attempt = AttemptID(try text(value, "attempt")) else { throw damaged("\"attempt\" is no attempt id") }
        guard let durability = Durability(rawValue: try text(value, "durability")) else {
            throw damaged("\"durability\" is neither \"fsync\" nor \"none\"")
        }
        guard let createdAt = value["created_at"]?.doubleValue, createdAt.isFinite else {
            throw damaged("\"created_at\" is no time")
        }
        guard let metrics = value["metrics"], case .object = metrics else { throw damaged("\"metrics\" is no object") }
        var ranks: [Int] = []
        for rank in value["ranks"]?.arrayValue ?? [] {
            guard let rank = rank.intValue, rank >= 0 else { throw damaged("\"ranks\" is no list of ranks") }
            ranks.append(rank)
        }
        return Manifest(
            runID: try text(value, "run_id"), attempt: attempt, name: try text(value, "name"),
            physicalName: try text(value, "physical_name"), createdAt: createdAt, durability: durability,
            ranks: ranks, metrics: metrics, files: [])
    }

    func record(_ value: JSONValue) throws(StorageError) -> FileRecord {
        let name = try text(value, "path")
        if let why = Self.refusal(of: name) { throw damaged("the path \(quoted(name)) \(why)") }
        guard let mode = UInt32(try text(value, "mode"), radix: 8), mode <= 0o777 else {
            throw damaged("the mode of \(quoted(name)) is none")
        }
        guard let modified = value["mtime_ns"]?.intValue else { throw damaged("the mtime of \(quoted(name)) is none") }
        var record = FileRecord(
            path: name, kind: .file, size: 0, mode: mode, modifiedNanoseconds: Int64(modified), crc32c: 0, blocks: [])
        switch value["kind"]?.stringValue {
        case "directory": record.kind = .directory
        case "symlink": record.kind = .symlink(target: try text(value, "target"))
        case nil where value["kind"] == nil: try readSums(value, into: &record)
        default: throw damaged("the kind of \(quoted(name)) is unknown")
        }
        return record
    }

    private func readSums(_ value: JSONValue, into record: inout FileRecord) throws(StorageError) {
        record.size = try count(value, "size")
        if record.size > FileTree.maximumFileSize { throw damaged("the size of \(quoted(record.path)) is too large") }
        record.crc32c = try crc(value["crc32c"], record.path)
        let expected = CRC32C.blockCount(size: record.size)
        if let blocks = value["blocks"] {
            guard let list = blocks.arrayValue, list.count == expected else {
                throw damaged("the blocks of \(quoted(record.path)) do not match its size")
            }
            for block in list { record.blocks.append(try crc(block, record.path)) }
        } else if expected == 1 {
            record.blocks = [record.crc32c]
        } else if expected > 1 {
            throw damaged("the blocks of \(quoted(record.path)) are missing")
        }
        if CRC32C.combine(blocks: record.blocks, size: record.size) != record.crc32c {
            throw damaged("the CRCs of \(quoted(record.path)) contradict each other")
        }
    }

    private func crc(_ value: JSONValue?, _ name: String) throws(StorageError) -> UInt32 {
        guard let digits = value?.stringValue, digits.utf8.count == 8,
            digits.utf8.allSatisfy(Decimal.isLowerHex), let crc = UInt32(digits, radix: 16)
        else { throw damaged("a CRC of \(quoted(name)) is none") }
        return crc
    }

    /// Why a path may not stand in a manifest, nil when it may.
    static func refusal(of path: String) -> String? {
        let bytes = Array(path.utf8)
        if bytes.isEmpty { return "is empty" }
        if bytes.count > 4095 { return "is longer than 4,095 bytes" }
        if bytes.contains(0) { return "holds a NUL" }
        let components = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        for component in components {
            if component.isEmpty { return "is absolute or has an empty component" }
            if component.count > 255 { return "has a component of more than 255 bytes" }
            if component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) { return "leaves its place" }
        }
        if components[0].elementsEqual(FileTree.ownName.utf8) { return "is our own" }
        return nil
    }

    /// Every path once, nothing below what is no directory, and links that stay inside.
    func checkTree(_ files: [FileRecord]) throws(StorageError) {
        var isDirectory: [[UInt8]: Bool] = [:]
        isDirectory.reserveCapacity(files.count)
        var links: [(path: String, target: String)] = []
        var forks = ForkYield()
        for file in files {
            forks.step()
            if isDirectory.updateValue(file.kind == .directory, forKey: Array(file.path.utf8)) != nil {
                throw damaged("the path \(quoted(file.path)) stands there twice")
            }
            if case .symlink(let target) = file.kind { links.append((file.path, target)) }
        }
        for file in files {
            forks.step()
            guard let slash = file.path.utf8.lastIndex(of: UInt8(ascii: "/")) else { continue }
            // A parent that is listed has a parent that is listed, and so on up.
            if isDirectory[Array(file.path.utf8[..<slash])] != true {
                throw damaged("the path \(quoted(file.path)) lies in no directory of its own")
            }
        }
        let rules = LinkRules(links)
        for link in links {
            forks.step(256)
            let isNone = link.target.utf8.isEmpty || link.target.utf8.contains(0)
            if !isNone, rules.staysInside(path: link.path, target: link.target) { continue }
            throw damaged("the link \(quoted(link.path)) -> \(quoted(link.target)) leaves the checkpoint")
        }
    }
}
