internal import CStorage
internal import Glibc
internal import Synchronization

/// Brings files from an object store, or only looks whether their bytes are those that were reported.
///
/// Large files come in several ranges at a time. What arrives is compared block by block with the CRCs of the manifest. A
/// block that is not the one that was reported, and a range that has another length, is fetched twice more; then it is damaged.
struct ObjectDownload: Sendable {
    private let store: any ObjectStore
    private let prefix: String
    private let files: [FilePass.Input]
    private let versions: [String?]
    private let plans: [PartPlan]
    private let sink: Sink
    private let gate: TransferGate
    private let job: TransferGate.Job
    private let progress: Progress
    /// Ends the requests.
    private let life: Progress

    /// How often what arrives damaged is fetched again: on the way bytes are lost once, at rest they stay lost.
    private static let maximumAgain = 2

    /// 128 TiB, of all files: the list of their ranges would no longer be small. No disk takes that much.
    static let maximumBytes = 1 << 47

    /// Where the bytes go.
    private enum Sink: Sendable {
        /// Below a directory, each to its own file.
        case files(RootDirectory, [ReceivingFile])
        /// Nowhere: they are only looked at.
        case nothing(OpenFile, onFailure: @Sendable (Int, StorageError) -> Void)
    }

    /// Makes the files in a directory that has none of them, and whose subdirectories are there. After an error the
    /// directory holds some of them.
    ///
    /// - `prefix`: of the keys; empty or ends in `/`.
    /// - `files`: their size, mode and mtime, and the CRCs of their blocks: nil where nobody knows them, as in what Ray and
    ///   other tools have written. Only their sizes are checked then.
    /// - `versions`: of those files, in their order, if a listing told them: an object that is replaced while it is read
    ///   gives PRECONDITION and no mixture.
    ///
    /// Errors: CHECKSUM naming file and offset, NOT_FOUND, PRECONDITION, NO_SPACE, IO, CANCELLED, INVALID_ARGUMENT for more
    /// than 128 TiB, those of the store.
    static func run(
        store: any ObjectStore, prefix: String, files: [FilePass.Input], versions: [String?] = [],
        into root: RootDirectory, gate: TransferGate, progress: Progress
    ) async throws(StorageError) {
        let plans = files.map { PartPlan(size: $0.size, partBytes: PartPlan.usualPartBytes) }
        let receiving = plans.map { ReceivingFile(parts: $0.count) }
        try await run(store, prefix, files, versions, plans, .files(root, receiving), gate, progress)
    }

    /// Fetches every byte of the files and compares it with the CRCs of its block, writing nothing anywhere and in bounded
    /// memory. `onFailure` gets the place of a file that is damaged, missing or cannot be read, once, and why.
    ///
    /// Errors: CANCELLED, INVALID_ARGUMENT for more than 128 TiB.
    static func check(
        store: any ObjectStore, prefix: String, files: [FilePass.Input], gate: TransferGate, progress: Progress,
        onFailure: @escaping @Sendable (Int, StorageError) -> Void
    ) async throws(StorageError) {
        let plans = files.map { PartPlan(size: $0.size, partBytes: PartPlan.usualPartBytes) }
        let nowhere = try OpenFile("/dev/null", O_WRONLY)
        let told = Mutex<Set<Int>>([])
        let sink = Sink.nothing(
            nowhere,
            onFailure: { index, error in
                if told.withLock({ $0.insert(index).inserted }) { onFailure(index, error) }
            })
        try await run(store, prefix, files, [], plans, sink, gate, progress)
    }

    private static func run(
        _ store: any ObjectStore, _ prefix: String, _ files: [FilePass.Input], _ versions: [String?],
        _ plans: [PartPlan], _ sink: Sink, _ gate: TransferGate, _ progress: Progress
    ) async throws(StorageError) {
        let bytes = ByteSum.of(files.lazy.map(\.size))
        guard bytes <= maximumBytes else {
            let place = Path.join(store.root, prefix)
            throw StorageError(
                .invalidArgument,
                "\(quoted(place)) has \(bytes) bytes or more: at most \(maximumBytes) are fetched at a time",
                details: [("path", .string(place)), ("size", JSONValue(bytes)), ("allowed", JSONValue(maximumBytes))])
        }
        progress.expect(bytes: bytes, files: files.count)
        let wishes = store.wishes
        try await gate.job(
            order: nil, terms: .init(concurrency: wishes.concurrency, owner: wishes.owner), progress: progress
        ) { job, life throws(StorageError) in
            let download = ObjectDownload(
                store: store, prefix: prefix, files: files, versions: versions, plans: plans, sink: sink, gate: gate,
                job: job, progress: progress, life: life)
            try await UnitQueue(PartPlan.order(plans)).run(gate, job, life: life) { unit throws(StorageError) in
                try await download.fetch(unit)
            }
        }
    }

    // MARK: - One range

    private func fetch(_ unit: PartPlan.Unit) async throws(StorageError) {
        let input = files[unit.file]
        let range = plans[unit.file].range(unit.part)
        switch sink {
        case .files(let root, let receiving):
            let received = receiving[unit.file]
            let file = try received.open { () throws(StorageError) in try create(input, root) }
            try await fetch(unit.file, range, into: file)
            progress.advance(bytes: range.count)
            guard received.endPart() else { return }
            _ = try root.finish(
                file.descriptor, input.path, mode: input.mode, modifiedNanoseconds: input.modifiedNanoseconds)
            try file.close()
            progress.advance(files: 1)
        case .nothing(let file, let onFailure):
            do throws(StorageError) { try await fetch(unit.file, range, into: file) } catch {
                if error.code == .cancelled { throw error }
                onFailure(unit.file, error)
            }
            progress.advance(bytes: range.count, files: unit.part == 0 ? 1 : 0)
        }
    }

    private func create(_ input: FilePass.Input, _ root: RootDirectory) throws(StorageError) -> OpenFile {
        // Never more permissions than the file will have, not even for an instant.
        let descriptor = try root.create(
            input.destinationPath ?? input.path, O_RDWR, mode: input.mode)
        let file = OpenFile(owning: descriptor.release(), path: root.full(input.path))
        if input.size > PartPlan.usualPartBytes {
            try System.check("ftruncate", file.path) { cs_ftruncate(file.descriptor, off_t(input.size)) }
        }
        return file
    }

    private func fetch(_ index: Int, _ range: Range<Int>, into file: OpenFile) async throws(StorageError) {
        if range.isEmpty { return }
        let blocks = try await get(index, range, file)
        guard let expected = files[index].expectedBlocks else { return }
        for place in 0..<CRC32C.blockCount(size: range.count) {
            let number = range.lowerBound / CRC32C.blockSize + place
            guard number < expected.count else { throw damaged(index, number * CRC32C.blockSize) }
            if place < blocks.count, blocks[place] == expected[number] { continue }
            let start = number * CRC32C.blockSize
            let block = start..<min(range.upperBound, start + CRC32C.blockSize)
            guard try await getAgain(index, block, file, expected[number]) else { throw damaged(index, start) }
        }
    }

    /// On the way or at rest: another look tells.
    private func getAgain(
        _ index: Int, _ block: Range<Int>, _ file: OpenFile, _ expected: UInt32
    ) async throws(StorageError) -> Bool {
        for _ in 0..<Self.maximumAgain where try await get(index, block, file) == [expected] { return true }
        return false
    }

    private func get(_ index: Int, _ range: Range<Int>, _ file: OpenFile) async throws(StorageError) -> [UInt32] {
        var again = 0
        while true {
            do throws(StorageError) {
                return try await gate.request(job, bytes: range.count, life: life) { progress throws(StorageError) in
                    try await store.get(
                        prefix + files[index].path, range: range, of: files[index].size,
                        version: index < versions.count ? versions[index] : nil, into: file, shift: 0,
                        progress: progress)
                }
            } catch {
                // Another length than was asked for.
                guard error.code == .checksum else { throw error }
                guard again < Self.maximumAgain else { throw placed(error, index, range.lowerBound) }
                again += 1
            }
        }
    }

    /// The error with the file and the offset that it is about.
    private func placed(_ error: StorageError, _ index: Int, _ offset: Int) -> StorageError {
        var placed = error
        placed.details.append(("file", .string(files[index].path)))
        placed.details.append(("offset", JSONValue(offset)))
        return placed
    }

    private func damaged(_ index: Int, _ offset: Int) -> StorageError {
        let input = files[index]
        return .damaged(
            Path.join(store.root, prefix + input.path), input.path, offset: offset,
            length: max(0, min(CRC32C.blockSize, input.size - offset)))
    }
}

/// A file that several ranges go to: opened by the first, closed behind the last.
private final class ReceivingFile: Sendable {
    private struct State {
        var file: OpenFile?
        var partsLeft: Int
    }
    private let state: Mutex<State>

    init(parts: Int) { state = Mutex(State(partsLeft: parts)) }

    func open(_ make: () throws(StorageError) -> OpenFile) throws(StorageError) -> OpenFile {
        try state.withLock { state throws(StorageError) in
            if let file = state.file { return file }
            let file = try make()
            state.file = file
            return file
        }
    }

    /// True for the last.
    func endPart() -> Bool {
        state.withLock { state in
            state.partsLeft -= 1
            if state.partsLeft == 0 { state.file = nil }
            return state.partsLeft == 0
        }
    }
}
