extension Manifest {
    /// The document: the summary on one line, so that it can be read alone, then one line per entry.
    var document: [UInt8] {
        let summary = JSONValue.make([
            "schema": JSONValue(Self.schema), "run_id": .string(runID), "attempt": .string(attempt.description),
            "name": .string(name), "physical_name": .string(physicalName), "created_at": .number(createdAt),
            "durability": .string(durability.rawValue), "ranks": .array(ranks.map { JSONValue($0) }),
            "bytes": JSONValue(bytes), "file_count": JSONValue(fileCount),
            "block_size": JSONValue(CRC32C.blockSize), "metrics": metrics,
        ])
        var output: [UInt8] = []
        output.reserveCapacity(1024 + files.count * 160)
        summary.write(to: &output)
        output.removeLast()
        output.append(contentsOf: ",\n\"files\":[".utf8)
        for (index, file) in files.enumerated() {
            let start = output.count
            output.append(contentsOf: index == 0 ? "\n".utf8 : ",\n".utf8)
            file.write(to: &output)
            ForkYield.passed(start, output.count)
        }
        output.append(contentsOf: "\n]}\n".utf8)
        return output
    }
}

extension FileRecord {
    /// `{"path","size","mode","mtime_ns","crc32c"[,"blocks"]}`; directories and links have a `kind` instead of a size.
    /// Text is put together by hand: a tree of values for 100,000 files would cost more than writing it.
    func write(to output: inout [UInt8]) {
        output.append(contentsOf: "{\"path\":".utf8)
        JSONValue.string(path).write(to: &output)
        switch kind {
        case .file:
            output.append(contentsOf: ",\"size\":".utf8)
            output.append(contentsOf: String(size).utf8)
        case .directory:
            output.append(contentsOf: ",\"kind\":\"directory\"".utf8)
        case .symlink(let target):
            output.append(contentsOf: ",\"kind\":\"symlink\",\"target\":".utf8)
            JSONValue.string(target).write(to: &output)
        }
        output.append(contentsOf: ",\"mode\":\"".utf8)
        output.append(contentsOf: String(mode, radix: 8).utf8)
        output.append(contentsOf: "\",\"mtime_ns\":".utf8)
        output.append(contentsOf: String(modifiedNanoseconds).utf8)
        if kind == .file {
            output.append(contentsOf: ",\"crc32c\":".utf8)
            Self.writeHex(crc32c, to: &output)
            // The only block of a small file says nothing that the file's own CRC does not.
            if blocks.count > 1 {
                output.append(contentsOf: ",\"blocks\":[".utf8)
                for (index, block) in blocks.enumerated() {
                    if index > 0 { output.append(UInt8(ascii: ",")) }
                    Self.writeHex(block, to: &output)
                }
                output.append(UInt8(ascii: "]"))
            }
        }
        output.append(UInt8(ascii: "}"))
    }

    /// Eight lower-case digits in quotes.
    private static func writeHex(_ value: UInt32, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        for shift in stride(from: 28, through: 0, by: -4) {
            let digit = UInt8(truncatingIfNeeded: value >> UInt32(shift)) & 15
            output.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
        }
        output.append(UInt8(ascii: "\""))
    }
}
