import Glibc
import Synchronization
import Testing

@testable import StorageCore

/// A sealed directory and a store to send it to.
final class TransferFixture: Sendable {
    let tree: TreeFixture
    let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 8))

    init() throws { tree = try TreeFixture() }

    var directory: String { tree.at("sealed") }
    var journal: String { tree.at("upload.journal") }

    func seal() async throws(StorageError) -> [FileRecord] {
        try await Seal.run(directory: directory, captured: nil, durability: .none, progress: Progress())
    }

    func upload(
        _ records: [FileRecord], to store: MemoryObjectStore, gate: TransferGate? = nil, progress: Progress = Progress()
    ) async throws(StorageError) {
        try await ObjectUpload.run(
            store: store, directory: directory, files: records, prefix: "ckpt/", journal: journal,
            gate: gate ?? self.gate, order: nil, partBytes: CRC32C.blockSize, progress: progress)
    }

    /// A store that got every part of the large file, but not its end or no answer to that; of the small files whichever came
    /// before it.
    func cutOff(
        _ records: [FileRecord], isAfter: Bool = false, _ prepare: (MemoryObjectStore) -> Void
    ) async -> MemoryObjectStore {
        let isCut = Flag(true)
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            if call.operation == .completeMultipart, moment == (isAfter ? .after : .before), isCut.clear() {
                throw StorageError(.io, "killed")
            }
        })
        prepare(store)
        let error = await failure { () async throws(StorageError) in try await upload(records, to: store) }
        #expect(error?.message == "killed")
        return store
    }

    func expectWhole(_ store: MemoryObjectStore, _ records: [FileRecord]) throws {
        let files = records.filter { $0.kind == .file }
        #expect(Set(store.contents.keys) == Set(files.map { "ckpt/" + $0.path }))
        for file in files {
            let bytes = try #require(store.contents["ckpt/" + file.path])
            #expect(bytes.count == file.size && CRC32C.of(bytes) == file.crc32c, "\(file.path)")
        }
        #expect(store.openUploads == 0)
    }

    func inputs(_ records: [FileRecord]) -> [FilePass.Input] {
        records.filter { $0.kind == .file }.map {
            FilePass.Input(
                path: $0.path, size: $0.size, mayHaveHoles: false, mode: $0.mode,
                modifiedNanoseconds: $0.modifiedNanoseconds, signature: nil, expectedBlocks: $0.blocks)
        }
    }

    func download(
        _ records: [FileRecord], from store: MemoryObjectStore, to name: String, gate: TransferGate? = nil
    ) async throws {
        let root = try RootDirectory(try tree.directory(name))
        for record in records where record.kind == .directory { try root.makeDirectory(record.path, mode: 0o755) }
        try await ObjectDownload.run(
            store: store, prefix: "ckpt/", files: inputs(records), into: root, gate: gate ?? self.gate,
            progress: Progress())
    }

    /// One file of five parts, and some small ones.
    func fill() throws {
        try tree.file("sealed/large.bin", Self.content)
        try tree.file("sealed/empty", [])
        try tree.file("sealed/one", [7])
        try tree.file("sealed/sub/block", Array(Self.content.suffix(CRC32C.blockSize)))
    }

    private static let content: [UInt8] = {
        var random = SeededGenerator(11)
        return random.bytes(4 * CRC32C.blockSize + 77)
    }()
}

/// Fails requests from some event on, as a kill would: nothing arrives any more, no answer comes back.
private final class Cut: Sendable {
    struct Seen: Sendable {
        var events = 0
        var arrivedParts: Set<Int> = []
        var answered: [MemoryObjectStore.Call] = []
    }
    let seen = Mutex(Seen())
    private let limit: Mutex<Int>
    init(at limit: Int) { self.limit = Mutex(limit) }
    func lift() { limit.withLock { $0 = .max } }

    func pass(_ moment: MemoryObjectStore.Moment, _ call: MemoryObjectStore.Call) throws(StorageError) {
        let limit = limit.withLock { $0 }
        let isCut = seen.withLock { seen in
            seen.events += 1
            if moment == .after, call.operation == .putPart { seen.arrivedParts.insert(call.number) }
            if seen.events > limit { return true }
            if moment == .after { seen.answered.append(call) }
            return false
        }
        if isCut { throw StorageError(.io, "killed") }
    }
}

@Suite struct ObjectUploadTests {
    @Test func `P5 every file is there whole after an upload`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        try fixture.tree.directory("sealed/nothing")
        try fixture.tree.link("sealed/link", to: "one")
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        let progress = Progress()
        try await fixture.upload(records, to: store, progress: progress)
        try fixture.expectWhole(store, records)
        #expect(progress.document["bytes_done"] == progress.document["bytes_total"])
        #expect(progress.document["files_done"] == 4)
        // One request for each small file, no looking around.
        #expect(store.calls.count { $0.operation == .put } == 3)
        #expect(store.calls.count { [.head, .list, .listParts, .get].contains($0.operation) } == 0)
    }

    @Test func `P4 killed between any two steps, another process goes on and sends nothing twice`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        var cut = 0
        var isCut = true
        while isCut {
            _ = try System.unlink(fixture.journal)
            let hook = Cut(at: cut)
            let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in try hook.pass(moment, call) })
            let error = await failure { () async throws(StorageError) in
                try await fixture.upload(records, to: store)
            }
            isCut = error != nil
            let before = hook.seen.withLock { $0 }
            hook.lift()
            let first = store.calls.count
            try await fixture.upload(records, to: store)
            try fixture.expectWhole(store, records)
            let again = store.calls[first...]
            for call in before.answered where call.operation == .put {
                #expect(!again.contains { $0.operation == .put && $0.key == call.key }, "\(call.key), cut \(cut)")
            }
            let isBegun = before.answered.contains { $0.operation == .startMultipart }
            let sent = again.filter { $0.operation == .putPart }.map(\.number).sorted()
            let missing = isBegun ? Set(1...5).subtracting(before.arrivedParts).sorted() : Array(1...5)
            #expect(sent == missing, "cut \(cut)")
            cut += 1
        }
        #expect(cut > 20)
    }

    @Test func `P4 an upload that the store has lost is begun anew`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let lost = Flag()
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .putPart, call.number == 4, lost.set() else { return }
            throw StorageError(.notFound, "no such upload")
        })
        let progress = Progress()
        try await fixture.upload(records, to: store, progress: progress)
        try fixture.expectWhole(store, records)
        #expect(progress.document["bytes_done"] == progress.document["bytes_total"])
        #expect(store.calls.count { $0.operation == .startMultipart } == 2)
    }

    @Test(arguments: [true, false])
    func `P5 what the store made of the parts is not taken for whole by the next process`(isTold: Bool) async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let isDamaged = Flag(true)
        let key = Mutex("")
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard isDamaged.isSet else { return }
            // The process ends before another upload is on record.
            if call.operation == .startMultipart, moment == .before, !key.withLock({ $0.isEmpty }) {
                throw StorageError(.io, "killed")
            }
            guard call.operation == .completeMultipart, moment == .after else { return }
            key.withLock { $0 = call.key }
            throw StorageError(isTold ? .checksum : .io, "the store has other bytes, or the process was killed")
        })
        _ = await failure { () async throws(StorageError) in try await fixture.upload(records, to: store) }
        let damaged = key.withLock { $0 }
        let size = try #require(store.contents[damaged]?.count)
        store.place(damaged, [UInt8](repeating: 7, count: size))
        _ = isDamaged.clear()
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
    }

    @Test func `P4 a part that was on its way when the store lost its upload is sent again`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let (isLost, isLate, begun) = (Flag(), Flag(), Counter())
        let (hasArrived, hasBegunAgain) = (Gate(), Gate())
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            switch (call.operation, moment, call.number) {
            case (.putPart, .before, 4):
                await hasArrived.pass()
                if isLost.set() { throw StorageError(.notFound, "no such upload") }
            case (.putPart, .after, 2) where isLate.set():
                hasArrived.open()
                // Its answer comes when the next upload has begun.
                await hasBegunAgain.pass()
            case (.startMultipart, .after, _):
                if begun.next() == 1 { hasBegunAgain.open() }
            default: break
            }
        })
        let progress = Progress()
        try await fixture.upload(records, to: store, progress: progress)
        try fixture.expectWhole(store, records)
        #expect(progress.document["bytes_done"] == progress.document["bytes_total"])
        #expect(store.calls.count { $0.operation == .putPart && $0.number == 2 } == 2)
    }

    @Test(.timeLimit(.minutes(30)))
    func `P7 the first error is the one that is told, and ends what runs beside it`() async {
        let queue = UnitQueue((0..<4).map { PartPlan.Unit(file: 0, part: $0) })
        let life = Progress()
        let others = Barrier(4)
        let error = await failure { () async throws(StorageError) in
            let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 4))
            try await gate.job(order: nil, progress: Progress()) { job, _ throws(StorageError) in
                try await queue.run(gate, job, life: life) { unit throws(StorageError) in
                    await others.arrive()
                    if unit.part == 3 { throw StorageError(.permissionDenied, "no") }
                    while true {
                        try life.checkCancelled()
                        await Engine.shared.sleep(milliseconds: 1)
                    }
                }
            }
        }
        #expect(error?.code == .permissionDenied)
        #expect(queue.take() == nil)
    }

    @Test func `P5 a file that the store put together wrongly is sent anew, and named when that goes on`() async throws
    {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let left = Counter()
        let once = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .after, call.operation == .completeMultipart, left.next() == 0 else { return }
            throw StorageError(.checksum, "put together with other bytes")
        })
        let progress = Progress()
        try await fixture.upload(records, to: once, progress: progress)
        try fixture.expectWhole(once, records)
        #expect(once.calls.count { $0.operation == .putPart } == 10)
        #expect(progress.document["bytes_done"] == progress.document["bytes_total"])

        _ = try System.unlink(fixture.journal)
        let always = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .completeMultipart else { return }
            throw StorageError(.checksum, "put together with other bytes")
        })
        let error = await failure { () async throws(StorageError) in try await fixture.upload(records, to: always) }
        #expect(error?.code == .checksum)
        #expect(always.openUploads == 0)
    }

    @Test func `P7 a store that loses every upload is an error, not a loop`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .before, call.operation == .completeMultipart else { return }
            throw StorageError(.notFound, "no such upload")
        })
        let error = await failure { () async throws(StorageError) in try await fixture.upload(records, to: store) }
        #expect(error?.code == .notFound)
        #expect(fixture.gate.load.running == 0)
    }

    @Test func `P5 a source that changed is named, and so is one that shrank or went`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        func outcome(_ change: () throws -> Void) async throws -> StorageError? {
            _ = try System.unlink(fixture.journal)
            try change()
            return await failure { () async throws(StorageError) in
                try await fixture.upload(records, to: MemoryObjectStore())
            }
        }
        let flipped = try await outcome { try fixture.tree.overwrite("sealed/sub/block", at: 100, [1, 2, 3]) }
        #expect(flipped?.code == .precondition)
        #expect(flipped?.message.contains("sub/block") == true)
        let large = try await outcome {
            try fixture.tree.overwrite("sealed/large.bin", at: 3 * CRC32C.blockSize, [1, 2, 3])
        }
        #expect(large?.code == .precondition)
        let short = try await outcome { try fixture.tree.file("sealed/large.bin", [1]) }
        #expect(short?.code == .precondition)
        let gone = try await outcome { try System.unlink(fixture.tree.at("sealed/large.bin")) }
        #expect(gone?.code == .precondition)
    }

    @Test func `P5 a file that is written to while it is sent is an error`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .after, call.operation == .put, call.key == "ckpt/one" else { return }
            do { try fixture.tree.file("sealed/one", [8]) } catch { throw StorageError(.internal, "test") }
        })
        let error = await failure { () async throws(StorageError) in try await fixture.upload(records, to: store) }
        #expect(error?.code == .precondition)
    }

    @Test func `P4 a journal of other files is not gone on from, and its uploads are aborted`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        var records = try await fixture.seal()
        let cut = Cut(at: 9)
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in try cut.pass(moment, call) })
        _ = await failure { () async throws(StorageError) in try await fixture.upload(records, to: store) }
        cut.lift()
        try fixture.tree.file("sealed/one", [8])
        records = try await fixture.seal()
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
    }

    @Test func `P5 a part of the store that has other bytes or another length is sent again`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let isCut = Flag(true)
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            if moment == .before, call.operation == .completeMultipart, isCut.isSet {
                throw StorageError(.io, "killed")
            }
        })
        _ = await failure { () async throws(StorageError) in try await fixture.upload(records, to: store) }
        let open = try #require(try await store.multiparts("ckpt/", progress: Progress()).first)
        for (number, bytes) in [(2, [UInt8](repeating: 7, count: CRC32C.blockSize)), (5, [7])] {
            _ = try await store.putPart(
                open.key, upload: open.upload, number: number, .bytes(bytes), crc32c: CRC32C.of(bytes),
                progress: Progress())
        }
        _ = isCut.clear()
        let before = store.calls.count
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
        let sent = store.calls[before...].filter { $0.operation == .putPart }.map(\.number).sorted()
        #expect(sent == [2, 5])
    }

    @Test(arguments: [true, false])
    func `P4 an upload that was begun with another setting of checksums is begun anew`(announces: Bool) async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = await fixture.cutOff(records) { $0.announcesChecksums = !announces }
        store.announcesChecksums = announces
        let before = store.calls.count
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
        let calls = store.calls[before...]
        #expect(calls.count { $0.operation == .startMultipart } == 1)
        #expect(calls.filter { $0.operation == .putPart }.map(\.number).sorted() == [1, 2, 3, 4, 5])
        // And with the same one it is gone on with.
        try await fixture.upload(records, to: store)
        #expect(store.calls.count { $0.operation == .startMultipart } == 2)
    }

    @Test(arguments: [true, false])
    func `P4 an upload whose journal does not say what was announced is begun anew`(announces: Bool) async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = await fixture.cutOff(records) { $0.announcesChecksums = announces }
        let text = String(decoding: try OpenFile(fixture.journal, O_RDONLY).readAll(limit: 1 << 20), as: UTF8.self)
        let older = text.replacing(",\"checksums\":\(announces)", with: "")
        try #require(older != text)
        try OpenFile(fixture.journal, O_WRONLY | O_TRUNC).write(Array(older.utf8))
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
        #expect(store.calls.count { $0.operation == .startMultipart } == 2)
    }

    @Test func `P4 a file that was completed is not sent again though the setting is another`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = await fixture.cutOff(records, isAfter: true) { $0.announcesChecksums = true }
        store.announcesChecksums = false
        try await fixture.upload(records, to: store)
        try fixture.expectWhole(store, records)
        #expect(store.calls.count { $0.operation == .startMultipart } == 1)
    }

    @Test(arguments: ObjectStoreFixture.servers)
    func `P4 a server takes a file whose upload was begun with another setting of checksums`(
        _ server: ObjectStoreFixture
    ) async throws {
        // Calls a checksum of the whole what is none, so that files in parts fail as damaged.
        if server.quirks.contains("wrong-checksum-of-parts") { return }
        for (first, second) in [("none", "auto"), ("auto", "none")] {
            let fixture = try TransferFixture()
            try fixture.fill()
            let files = try await fixture.seal().filter { $0.kind == .file }
            let prefix = "test-" + Environment.system.randomHex(8)
            let (before, after) = (try server.reopen(prefix, first), try server.reopen(prefix, second))
            let index = try #require(files.firstIndex { $0.path == "large.bin" })
            let begun: BegunMultipart
            do throws(StorageError) {
                begun = try await before.startMultipart("ckpt/large.bin", progress: Progress())
                let given = try await after.startMultipart("ckpt/large.bin", progress: Progress())
                try await after.abortMultipart("ckpt/large.bin", upload: given.upload, progress: Progress())
            } catch {
                // The server of our own demands checksums, and nothing can be begun without.
                guard error.code == .invalidArgument, server.name.hasPrefix("faulty") else { throw error }
                return
            }
            do {
                let journal = try UploadJournal(fixture.journal, place: Path.join(before.root, "ckpt/"), files: files)
                try journal.begin(
                    index,
                    .init(
                        key: "ckpt/large.bin", upload: begun.upload, partBytes: CRC32C.blockSize,
                        announcesChecksums: begun.announcesChecksums))
            }
            let source = try OpenFile(fixture.tree.at("sealed/large.bin"), O_RDONLY)
            _ = try await before.putPart(
                "ckpt/large.bin", upload: begun.upload, number: 1,
                .file(source, offset: 0, length: CRC32C.blockSize), crc32c: files[index].blocks[0],
                progress: Progress())
            try await ObjectUpload.run(
                store: after, directory: fixture.directory, files: files, prefix: "ckpt/", journal: fixture.journal,
                gate: fixture.gate, order: nil, partBytes: CRC32C.blockSize, progress: Progress())
            let listing = try await after.list("ckpt/", delimited: false, progress: Progress())
            #expect(Set(listing.objects.map(\.key)) == Set(files.map { "ckpt/" + $0.path }))
            let open = try await after.multiparts("ckpt/", progress: Progress())
            #expect(open.isEmpty)
            try await after.delete(listing.objects.map(\.key), progress: Progress())
        }
    }

    @Test func `P4 a torn line of the journal is as if it had not been written`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        try await fixture.upload(records, to: store)
        let bytes = try OpenFile(fixture.journal, O_RDONLY).readAll(limit: 1 << 20)
        for end in 0..<bytes.count {
            let file = try OpenFile(fixture.journal, O_WRONLY | O_TRUNC)
            try file.write(Array(bytes[..<end]))
            let files = records.filter { $0.kind == .file }
            let past = try UploadJournal(fixture.journal, place: "memory://bucket/ckpt/", files: files).past
            let whole = bytes[..<end].count { $0 == 0x0A }
            #expect(past.done.count + past.multiparts.count <= max(0, whole - 1))
        }
    }

    @Test(arguments: [true, false])
    func `P9 an upload that is given up leaves nothing behind, also where uploads may not be listed`(
        mayList: Bool
    ) async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let cut = Cut(at: 11)
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            try cut.pass(moment, call)
            if call.operation == .multiparts, !mayList { throw StorageError(.permissionDenied, "may not be listed") }
        })
        // One after the other: the cut is always at the same request.
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 1))
        _ = await failure { () async throws(StorageError) in try await fixture.upload(records, to: store, gate: gate) }
        cut.lift()
        #expect(!store.contents.isEmpty && store.openUploads > 0)
        let files = ObjectFiles(store: store, prefix: "ckpt/", progress: Progress())
        try await files.remove(journal: fixture.journal)
        #expect(store.contents.isEmpty && store.openUploads == 0)
    }

    @Test func `P7 a cancelled upload ends though its requests wait for another's`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 1))
        let progress = Progress()
        let error = Mutex<StorageError?>(nil)
        try await gate.job(order: nil, progress: Progress()) { job, life throws(StorageError) in
            try await gate.request(job, bytes: 1, life: life) { _ throws(StorageError) in
                progress.cancel()
                let outcome = await failure { () async throws(StorageError) in
                    try await fixture.upload(records, to: MemoryObjectStore(), gate: gate, progress: progress)
                }
                error.withLock { $0 = outcome }
            }
        }
        #expect(error.withLock { $0?.code } == .cancelled)
        #expect(gate.load.running == 0)
    }

    @Test func `a store's trouble within a request that goes on halves the window, once for all of it`() throws {
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 8))
        let relay = TroubleRelay()
        relay.tell(.throttled)
        relay.lead(to: gate)
        #expect(gate.load.window == 8)
        for trouble in [StoreTrouble.throttled, .timedOut] { relay.tell(trouble) }
        #expect(gate.load.window == 4)
    }

    @Test func `the buckets of an endpoint have one gate, another endpoint has its own`() throws {
        func gate(_ bucket: String, _ endpoint: String) throws -> TransferGate {
            .shared(try ScriptedS3(bucket: bucket, endpoint: endpoint) { _, _ in HTTPResponse(200) }.store)
        }
        let first = try gate("one", "http://gate-a.test")
        #expect(try gate("two", "http://gate-a.test") === first)
        #expect(try gate("one", "http://gate-b.test") !== first)
        #expect(try gate("one", "http://gate-a.test:81") !== first)
    }

    @Test func `P6 never more requests at a time than the window allows`() async throws {
        let fixture = try TransferFixture()
        for index in 0..<200 { try fixture.tree.file("sealed/\(index)", [UInt8(index)]) }
        let records = try await fixture.seal()
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 3))
        let running = Mutex((now: 0, most: 0))
        let store = MemoryObjectStore(hook: { moment, _ throws(StorageError) in
            running.withLock { running in
                running.now += moment == .before ? 1 : -1
                running.most = max(running.most, running.now)
            }
        })
        try await fixture.upload(records, to: store, gate: gate)
        try fixture.expectWhole(store, records)
        #expect(running.withLock { $0.most } <= 3)
    }
}

@Suite struct ObjectDownloadTests {
    @Test func `P5 what was uploaded comes back, with modes and times`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        try fixture.tree.file("sealed/readonly", [1, 2], mode: 0o400)
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        try await fixture.upload(records, to: store)
        try await fixture.download(records, from: store, to: "back")
        for record in records where record.kind == .file {
            #expect(CRC32C.of(try fixture.tree.bytes("back/" + record.path)) == record.crc32c)
            let status = try System.status(fixture.tree.at("back/" + record.path))
            #expect(status?.mode == record.mode && status?.modifiedNanoseconds == record.modifiedNanoseconds)
        }
    }

    @Test func `P5 a block that is damaged at rest is fetched twice more, then named with its offset`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        try await fixture.upload(records, to: store)
        store.tamper("ckpt/large.bin") { $0[3 * CRC32C.blockSize + 5] ^= 1 }
        do {
            try await fixture.download(records, from: store, to: "damaged")
            Issue.record("nothing was noticed")
        } catch let error as StorageError {
            #expect(error.code == .checksum)
            #expect(error.detailsDocument["file"] == "large.bin")
            #expect(error.detailsDocument["offset"] == JSONValue(3 * CRC32C.blockSize))
        }
        // Two ranges, and the block.
        #expect(store.calls.count { $0.operation == .getRange && $0.key == "ckpt/large.bin" } == 4)
    }

    @Test func `P5 a block that is damaged once on the way costs one more request`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let target = Mutex<MemoryObjectStore?>(nil)
        let gets = Counter()
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard call.operation == .getRange, call.key == "ckpt/sub/block" else { return }
            if gets.next() < 2 { target.withLock { $0 }?.tamper(call.key) { $0[9] ^= 4 } }
        })
        target.withLock { $0 = store }
        try await fixture.upload(records, to: store)
        try await fixture.download(records, from: store, to: "good")
        #expect(try fixture.tree.bytes("good/sub/block") == fixture.tree.bytes("sealed/sub/block"))
        #expect(store.calls.count { $0.operation == .getRange && $0.key == "ckpt/sub/block" } == 2)
        target.withLock { $0 = nil }
    }

    @Test func `P5 a range of another length is fetched again, and named when that goes on`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let left = Mutex(2)
        let store = MemoryObjectStore(hook: { moment, call throws(StorageError) in
            guard moment == .after, call.operation == .getRange, call.key == "ckpt/sub/block" else { return }
            let isWrong = left.withLock { left in
                left -= 1
                return left >= 0
            }
            if isWrong { throw StorageError(.checksum, "gave 7 bytes instead") }
        })
        try await fixture.upload(records, to: store)
        try await fixture.download(records, from: store, to: "good")
        #expect(try fixture.tree.bytes("good/sub/block").count == CRC32C.blockSize)
        #expect(store.calls.count { $0.operation == .getRange && $0.key == "ckpt/sub/block" } == 3)
        left.withLock { $0 = 3 }
        do {
            try await fixture.download(records, from: store, to: "bad")
            Issue.record("nothing was noticed")
        } catch let error as StorageError {
            #expect(error.code == .checksum)
            #expect(error.detailsDocument["file"] == "sub/block" && error.detailsDocument["offset"] == 0)
        }
    }

    @Test func `P5 verify without download tells what is missing, of another size, or not ours`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        try await fixture.upload(records, to: store)
        let none = try await ObjectVerify.run(store: store, prefix: "ckpt/", files: records, progress: Progress())
        #expect(none.isEmpty)
        store.tamper("ckpt/one") { $0.append(1) }
        try await store.delete(["ckpt/sub/block"], progress: Progress())
        for key in ["ckpt/zzz", "ckpt/.raystorage/manifest.json", "ckpt/.metadata.json", "ckpt/sub/"] {
            _ = try await store.put(key, .none, crc32c: 0, condition: .always, progress: Progress())
        }
        let found = try await ObjectVerify.run(store: store, prefix: "ckpt/", files: records, progress: Progress())
        let expected: [ObjectVerify.Finding] = [
            ObjectVerify.Finding(path: "one", kind: .size(2)),
            ObjectVerify.Finding(path: "sub/block", kind: .missing), ObjectVerify.Finding(path: "zzz", kind: .extra),
        ]
        #expect(found == expected)
    }

    @Test func `P5 verify with download names each damaged file once and goes on`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        try await fixture.upload(records, to: store)
        store.tamper("ckpt/one") { $0[0] ^= 1 }
        store.tamper("ckpt/large.bin") { bytes in
            for place in [5, 4 * CRC32C.blockSize + 5] { bytes[place] ^= 1 }
        }
        try await store.delete(["ckpt/sub/block"], progress: Progress())
        let inputs = fixture.inputs(records)
        let found = Mutex<[(String, StorageError.Code)]>([])
        try await ObjectDownload.check(
            store: store, prefix: "ckpt/", files: inputs, gate: fixture.gate, progress: Progress(),
            onFailure: { index, error in found.withLock { $0.append((inputs[index].path, error.code)) } })
        let told = found.withLock { $0 }.sorted { $0.0 < $1.0 }
        #expect(told.map(\.0) == ["large.bin", "one", "sub/block"])
        #expect(told.map(\.1) == [.checksum, .checksum, .notFound])
    }

    @Test func `files that nobody knows the CRCs of come with their sizes, of one version`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let store = MemoryObjectStore()
        try await fixture.upload(records, to: store)
        let listing = try await store.list("ckpt/", delimited: false, progress: Progress())
        let inputs = listing.objects.map {
            FilePass.Input(
                path: String($0.key.dropFirst(5)), size: $0.size, mayHaveHoles: false, mode: 0o644,
                modifiedNanoseconds: 0, signature: nil)
        }
        let root = try RootDirectory(try fixture.tree.directory("plain"))
        try root.makeDirectory("sub", mode: 0o755)
        try await ObjectDownload.run(
            store: store, prefix: "ckpt/", files: inputs, versions: listing.objects.map(\.version), into: root,
            gate: fixture.gate, progress: Progress())
        #expect(try fixture.tree.bytes("plain/large.bin") == fixture.tree.bytes("sealed/large.bin"))
        let other = try RootDirectory(try fixture.tree.directory("other"))
        let error = await failure { () async throws(StorageError) in
            try await ObjectDownload.run(
                store: store, prefix: "ckpt/", files: inputs.filter { $0.path == "one" }, versions: ["\"other\""],
                into: other, gate: fixture.gate, progress: Progress())
        }
        #expect(error?.code == .precondition)
    }
}
