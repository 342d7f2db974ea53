import CStorage
import Glibc
import Testing

@testable import StorageCore

/// What processes of one machine share. Other processes are `python3` with fcntl locks of its own.
@Suite struct NodeCacheTests {
    let fixture: TreeFixture

    init() throws { fixture = try TreeFixture() }

    var staging: String { fixture.at("staging") }

    /// A process that holds a lock on a file until it is killed.
    final class Holder {
        private var process: pid_t = 0

        init(_ path: String, shared: Bool) throws {
            let code = """
                import fcntl, os, sys, time
                f = open(sys.argv[1], "a+")
                fcntl.lockf(f, fcntl.LOCK_SH if sys.argv[2] == "1" else fcntl.LOCK_EX)
                os.write(1, b"x")
                time.sleep(600)
                """
            var ends: [Int32] = [0, 0]
            pipe(&ends)
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
            let words = ["python3", "-c", code, path, shared ? "1" : "0"]
            let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            let result = posix_spawnp(&process, "python3", &actions, nil, arguments, environ)
            posix_spawn_file_actions_destroy(&actions)
            arguments.forEach { free($0) }
            close(ends[1])
            var byte: UInt8 = 0
            let got = read(ends[0], &byte, 1)
            close(ends[0])
            if result != 0 || got != 1 { throw StorageError(.internal, "no python3") }
        }

        func kill() {
            guard process > 0 else { return }
            Glibc.kill(process, SIGKILL)
            waitpid(process, nil, 0)
            process = 0
        }

        deinit { kill() }
    }

    @Test func `is the checkpoint itself on a local disk`() async throws {
        try fixture.file("source/a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        let lease = try await NodeCache(staging: staging).acquire(
            fixture.at("c"), manifest: manifest, progress: Progress())
        #expect(lease.path == fixture.at("c"))
        lease.release()
        #expect(try System.exists(fixture.at("c/a")) && !System.exists(staging))
        #expect(!FileSystemKind.isNetwork("/tmp") && FileSystemKind.isMemory("/dev/shm"))
    }

    @Test func `copies once for many users and is removed by the last`() async throws {
        try fixture.random("source", seed: 5)
        let manifest = try await fixture.checkpoint("c", of: "source")
        let count = Counter()
        let hooks = TransferHooks(beforeBlock: { _, _ in _ = count.next() })
        let cache = NodeCache(staging: staging)
        let path = fixture.at("c")
        var leases = try await withThrowingTaskGroup(of: NodeCache.Lease.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    try await cache.acquire(path, manifest: manifest, copies: true, progress: Progress(), hooks: hooks)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(count.next() == manifest.files.reduce(0) { $0 + $1.blocks.count })
        #expect(Set(leases.map(\.path)).count == 1)
        let copy = leases[0].path
        #expect(try await TreeFixture.lines(copy) == fixture.lines("source"))
        for lease in leases.dropLast() { lease.release() }
        leases[0].release()
        #expect(try System.exists(copy))
        leases.removeAll()
        #expect(try System.list(Path.join(staging, "cache")).isEmpty)
    }

    @Test func `waits for users of other processes and outlives killed ones`() async throws {
        try fixture.file("source/a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        let cache = NodeCache(staging: staging)
        let lease = try await cache.acquire(fixture.at("c"), manifest: manifest, copies: true, progress: Progress())
        let other = try Holder("\(lease.path).lock", shared: true)
        lease.release()
        // Somebody else still reads it.
        #expect(try System.exists(lease.path + "/a"))
        // Killed: the next one to come collects, whatever checkpoint it wants.
        other.kill()
        var second = manifest
        second.attempt = AttemptID(sequence: ReportSequence(epoch: 9, index: 9), nonce: "ff")
        let next = try await cache.acquire(fixture.at("c"), manifest: second, copies: true, progress: Progress())
        #expect(try !System.exists(lease.path) && !System.exists("\(lease.path).lock") && System.exists(next.path))
        next.release()
    }

    @Test func `can be cancelled while another process copies`() async throws {
        try fixture.file("source/a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        let folder = Path.join(staging, "cache")
        try System.makeDirectories(folder)
        let holder = try Holder("\(folder)/\(manifest.runID)-\(manifest.attempt).lock", shared: false)
        defer { holder.kill() }
        let progress = Progress()
        let path = fixture.at("c")
        async let error = failure { () throws(StorageError) in
            _ = try await NodeCache(staging: staging).acquire(
                path, manifest: manifest, copies: true, progress: progress)
        }
        progress.cancel()
        #expect(await error?.code == .cancelled)
    }

    @Test func `leaves nothing when the checkpoint is damaged`() async throws {
        try fixture.file("source/a")
        let manifest = try await fixture.checkpoint("c", of: "source")
        try fixture.overwrite("c/a", at: 0, [9])
        let error = await failure { () throws(StorageError) in
            _ = try await NodeCache(staging: staging).acquire(
                fixture.at("c"), manifest: manifest, copies: true, progress: Progress())
        }
        #expect(error?.code == .checksum)
        #expect(try System.list(Path.join(staging, "cache")).isEmpty)
    }

    @Test func `verifies once for all, and again after a change`() async throws {
        try fixture.file("source/a", [UInt8](repeating: 1, count: 1000))
        let manifest = try await fixture.checkpoint("c", of: "source")
        let count = Counter()
        let hooks = TransferHooks(beforeBlock: { _, _ in _ = count.next() })
        let records = VerifiedRecords(staging: staging)
        let path = fixture.at("c")
        let errors = await withTaskGroup(of: StorageError?.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    await failure { () throws(StorageError) in
                        try await records.ensure(
                            directory: path, manifest: manifest, progress: Progress(), hooks: hooks)
                    }
                }
            }
            return await group.reduce(into: [StorageError]()) { if let error = $1 { $0.append(error) } }
        }
        #expect(errors == [] && count.next() == 1)
        try fixture.overwrite("c/a", at: 7, [9])
        let error = await failure { () throws(StorageError) in
            try await records.ensure(directory: path, manifest: manifest, progress: Progress(), hooks: hooks)
        }
        #expect(error?.code == .checksum && count.next() == 3)
        try fixture.overwrite("c/a", at: 7, [1])
        try await records.ensure(directory: path, manifest: manifest, progress: Progress(), hooks: hooks)
        try await records.ensure(directory: path, manifest: manifest, progress: Progress(), hooks: hooks)
        #expect(count.next() == 5)
        #expect(try System.list(Path.join(staging, "verified")).allSatisfy { !$0.hasSuffix(".lock") })
    }
}
