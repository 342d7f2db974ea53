internal import CStorage
internal import Glibc

/// One pass over the files of a tree, in parallel: takes CRCs, compares them with those expected, copies on the way.
struct FilePass: Sendable {
    struct Input: Sendable {
        var path: String
        /// Where the copy goes; nil: the same path.
        var destinationPath: String?
        var size: Int
        var mayHaveHoles: Bool
        var mode: UInt32
        var modifiedNanoseconds: Int64
        /// What the file must still be after it was read.
        var signature: System.FileStatus?
        /// CRCs of its blocks that must come out.
        var expectedBlocks: [UInt32]?
    }

    struct Output: Sendable {
        /// nil where the bytes were shared instead of read.
        var sums: Sums?
        /// Of the copy, or of the file itself when nothing was copied.
        var status: System.FileStatus
    }

    struct Sums: Sendable, Equatable {
        var crc32c: UInt32
        var blocks: [UInt32]

        init(blocks: [UInt32], size: Int) {
            self.blocks = blocks
            crc32c = blocks.count == 1 ? blocks[0] : CRC32C.combine(blocks: blocks, size: size)
        }
    }

    let source: RootDirectory
    /// nil: only read.
    let destination: RootDirectory?
    let progress: Progress
    var hooks = TransferHooks.none
    /// What happens to the files, for errors: "captured".
    var activity = "captured"
    /// For files that only we write to.
    var ignoresChangeTime = false
    /// Share extents where the file system can, file by file; no CRC is taken then.
    var reflink = false
    var workers = WorkPlan.workers(onNetwork: false)
    /// What bounds the bytes in flight, of this pass and of those that share it.
    var buffers = BufferPool()
    /// Gets the failure of a file instead of ending the pass.
    var onFailure: (@Sendable (Int, StorageError) -> Void)?

    /// The outcome of each file, in the order given; nil for those that `onFailure` was told of.
    func run(_ files: [Input]) async throws(StorageError) -> [Output?] {
        let workers = min(workers, buffers.limit)
        let plan = WorkPlan(sizes: reflink ? files.map { _ in 0 } : files.map(\.size), workers: workers)
        let results = Slots<Output>(count: files.count)
        let large = plan.parts.reduce(into: [Int: SharedFile]()) { result, entry in
            result[entry.key] = SharedFile(blocks: CRC32C.blockCount(size: files[entry.key].size), parts: entry.value)
        }
        let items = plan.items
        try await buffers.forPass { () throws(StorageError) in
            try await Engine.shared.forEach(Array(items.indices), limit: workers) { index throws(StorageError) in
                try run(items[index], of: files, large, results)
            }
        }
        return results.takeAll()
    }

    private func run(
        _ item: WorkPlan.Item, of files: [Input], _ large: [Int: SharedFile], _ results: Slots<Output>
    ) throws(StorageError) {
        switch item {
        case .files(let range):
            for file in range {
                try progress.checkCancelled()
                try attempt(file) { () throws(StorageError) in
                    results.set(file, try whole(files[file]))
                }
            }
        case .part(let file, let range):
            guard let shared = large[file], !shared.hasFailed else { return }
            try attempt(file) { () throws(StorageError) in
                do throws(StorageError) {
                    if let output = try part(files[file], shared, range) { results.set(file, output) }
                } catch {
                    // Its other parts are not worth reading, and one failure is reported once.
                    if shared.fail() { throw error }
                }
            }
        }
    }

    private func attempt(_ file: Int, _ body: () throws(StorageError) -> Void) throws(StorageError) {
        do throws(StorageError) { try body() } catch {
            guard let onFailure, error.code != .cancelled else { throw error }
            onFailure(file, error)
        }
    }

    private func whole(_ file: Input) throws(StorageError) -> Output {
        let input = try source.open(file.path, O_RDONLY)
        guard let destination else {
            let sums = try sums(file, input.number, nil)
            let status = try checkUnchanged(input.number, file)
            progress.advance(files: 1)
            return Output(sums: sums, status: status)
        }
        let output = try create(file, destination)
        var sums: Sums?
        if reflink, file.size > 0, cs_reflink(output.number, input.number) == 0 {
            progress.advance(bytes: file.size)
        } else {
            sums = try self.sums(file, input.number, output.number)
            if file.mayHaveHoles { try extend(output.number, file, destination) }
        }
        _ = try checkUnchanged(input.number, file)
        let status = try finish(output.number, file, destination)
        try destination.close(output, file.destinationPath ?? file.path)
        progress.advance(files: 1)
        return Output(sums: sums, status: status)
    }

    private func create(_ file: Input, _ destination: RootDirectory) throws(StorageError) -> Descriptor {
        // Never more permissions than the file will have, not even for an instant.
        try destination.create(file.destinationPath ?? file.path, O_WRONLY, mode: file.mode)
    }

    private func sums(
        _ file: Input, _ input: Int32, _ output: Int32?
    ) throws(StorageError) -> Sums {
        var blocks: [UInt32] = []
        if file.size > 0 {
            blocks.reserveCapacity(CRC32C.blockCount(size: file.size))
            try buffers.withBuffer(progress) { buffer throws(StorageError) in
                try stream(file, input, output, buffer).run(0..<file.size) {
                    (offset, length, crc) throws(StorageError) in
                    try compare(file, offset, length, crc)
                    blocks.append(crc)
                }
            }
        }
        return Sums(blocks: blocks, size: file.size)
    }

    /// The outcome when it was the last part.
    private func part(
        _ file: Input, _ shared: SharedFile, _ range: Range<Int>
    ) throws(StorageError) -> Output? {
        let (input, output) = try shared.open { () throws(StorageError) in
            let input = HeldDescriptor(try source.open(file.path, O_RDONLY))
            guard let destination else { return (input, nil) }
            let output = HeldDescriptor(try create(file, destination))
            if file.mayHaveHoles { try extend(output.number, file, destination) }
            return (input, output)
        }
        try buffers.withBuffer(progress) { buffer throws(StorageError) in
            try stream(file, input.number, output?.number, buffer).run(range) {
                (offset, length, crc) throws(StorageError) in
                try compare(file, offset, length, crc)
                shared.setBlock(offset / CRC32C.blockSize, crc)
            }
        }
        guard let blocks = shared.endPart() else { return nil }
        var status = try checkUnchanged(input.number, file)
        if let destination, let output {
            status = try finish(output.number, file, destination)
            if let error = output.close() { throw .system(error, "close", destination.full(file.path)) }
        }
        progress.advance(files: 1)
        return Output(sums: Sums(blocks: blocks, size: file.size), status: status)
    }

    private func stream(
        _ file: Input, _ input: Int32, _ output: Int32?, _ buffer: UnsafeMutableRawBufferPointer
    ) -> BlockStream {
        BlockStream(
            source: input, destination: output, root: source, destinationRoot: destination, path: file.path,
            mayHaveHoles: file.mayHaveHoles, buffer: buffer, progress: progress, hooks: hooks, activity: activity)
    }

    private func compare(_ file: Input, _ offset: Int, _ length: Int, _ crc: UInt32) throws(StorageError) {
        guard let expected = file.expectedBlocks else { return }
        let block = offset / CRC32C.blockSize
        if block < expected.count, expected[block] == crc { return }
        throw .damaged(source.full(file.path), file.path, offset: offset, length: length)
    }

    /// The status of the file that was read.
    private func checkUnchanged(_ input: Int32, _ file: Input) throws(StorageError) -> System.FileStatus {
        let now = try source.status(of: input, file.path)
        if now.size != file.size {
            let how = "it had \(file.size) bytes and has \(now.size)"
            throw .changed(source.full(file.path), how, during: activity)
        }
        if let before = file.signature, !now.isUnchanged(since: before, ignoringChangeTime: ignoresChangeTime) {
            throw .changed(source.full(file.path), "it was written or replaced", during: activity)
        }
        return now
    }

    private func finish(
        _ output: Int32, _ file: Input, _ destination: RootDirectory
    ) throws(StorageError) -> System.FileStatus {
        try destination.finish(
            output, file.destinationPath ?? file.path, mode: file.mode, modifiedNanoseconds: file.modifiedNanoseconds)
    }

    /// Gives the copy its size, so that a hole at its end is there too.
    private func extend(_ output: Int32, _ file: Input, _ destination: RootDirectory) throws(StorageError) {
        try System.check("ftruncate", destination.full(file.path)) { cs_ftruncate(output, off_t(file.size)) }
    }
}

extension FilePass.Input {
    /// To copy a file as it is, provided that nobody writes to it meanwhile.
    init(_ entry: FileTree.Entry) {
        self.init(
            path: entry.path, size: entry.status.size, mayHaveHoles: entry.status.mayHaveHoles,
            mode: entry.status.mode & 0o777, modifiedNanoseconds: entry.status.modifiedNanoseconds,
            signature: entry.status)
    }
}

extension StorageError {
    /// Bytes that are not those that were reported.
    static func damaged(_ path: String, _ relative: String, offset: Int, length: Int) -> StorageError {
        StorageError(
            .checksum,
            "\(quoted(path)) is damaged: bytes \(offset) to \(offset + length) are not those that were reported",
            details: [
                ("path", .string(path)), ("file", .string(relative)), ("offset", JSONValue(offset)),
                ("length", JSONValue(length)),
            ])
    }
}
