import Glibc
import Testing

@testable import StorageCore

/// Runs and storage paths where a checkpoint was asked for (P1), and marks of directories.
@Suite struct NoCheckpointTests {
    private func refused(_ access: CheckpointAccess, _ tree: TreeFixture, _ part: String) async throws {
        let target = tree.at("target")
        var errors: [StorageError?] = []
        for selection in [nil, try FileSelection(["**"])] {
            errors.append(
                await #expect(throws: StorageError.self) {
                    try await access.download(selection, to: target, verify: true, progress: Progress())
                })
        }
        for error in errors {
            #expect(error?.code == .invalidArgument && error?.message.contains(part) == true, "\(error as Any)")
        }
        #expect(try System.status(target) == nil)
    }

    private func refusedAltogether(_ access: CheckpointAccess, _ tree: TreeFixture, _ part: String) async throws {
        try await refused(access, tree, part)
        let progress = Progress()
        var errors: [StorageError?] = []
        errors.append(
            await #expect(throws: StorageError.self) {
                try await access.acquire(stagingDirectory: tree.at("host-r"), progress: progress)
            })
        errors.append(await #expect(throws: StorageError.self) { try await access.verify(progress: progress) })
        errors.append(await #expect(throws: StorageError.self) { try await access.metadata(progress: progress) })
        errors.append(
            await #expect(throws: StorageError.self) { try await access.setMetadata("{}", progress: progress) })
        errors.append(
            await #expect(throws: StorageError.self) { try await access.manifestDocument(progress: progress) })
        for error in errors.dropLast() {
            #expect(error?.code == .invalidArgument && error?.message.contains(part) == true, "\(error as Any)")
        }
    }

    @Test(arguments: RunFixture.Kind.allCases)
    func `P1 a run is no checkpoint, and the error says how to name one`(_ kind: RunFixture.Kind) async throws {
        let fixture = try RunFixture(kind)
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        try await fixture.leave(opened, 1, .begun)
        func access(_ path: String) throws -> CheckpointAccess {
            try CheckpointAccess(path, environment: .system, opener: fixture.opener)
        }
        let run = try access(fixture.root)
        try await refusedAltogether(run, fixture.tree, "\(fixture.root)/<checkpoint_dir_name>")
        #expect(try !fixture.exists(RunLayout.metadata))
        // As little as opening has left, and damaged at that.
        if kind == .objects {
            fixture.memory.place("storage/run/\(RunLayout.snapshot)", nil)
        } else {
            try System.unlink(fixture.path(RunLayout.snapshot))
        }
        try await refused(run, fixture.tree, "is a run and no checkpoint")
        try await refused(try access(Path.parent(fixture.root)), fixture.tree, "holds runs (run)")
        // What is a checkpoint costs no listing.
        let before = fixture.memory.calls.count
        _ = try await access(fixture.path(entry.physicalName)).download(
            to: fixture.tree.at("whole"), verify: true, progress: Progress())
        #expect(!fixture.memory.calls[before...].contains { $0.operation == .list })
    }

    @Test(arguments: [false, true])
    func `P1 Ray's runs are none either`(isOld: Bool) async throws {
        let fixture = try RunFixture(.objects)
        let files = ["ray/checkpoint_000000/a", isOld ? "ray/result.json" : "ray/\(RunLayout.snapshot)"]
        for key in files {
            fixture.memory.place("storage/\(key)", [1])
            try fixture.tree.file(key)
        }
        let stored = try CheckpointAccess(
            "\(fixture.bucket)/storage/ray", environment: .system, opener: fixture.opener)
        for access in [stored, try CheckpointAccess(fixture.tree.at("ray"))] {
            try await refusedAltogether(access, fixture.tree, "is a run and no checkpoint")
        }
        // A checkpoint of it is one, and so are results beside no checkpoints.
        fixture.memory.place("storage/plain/result.json", [1])
        try fixture.tree.file("plain/result.json")
        for place in ["\(fixture.bucket)/storage/ray/checkpoint_000000", "\(fixture.bucket)/storage/plain"] {
            let document = try await CheckpointAccess(place, environment: .system, opener: fixture.opener)
                .download(to: fixture.tree.at("out"), verify: true, progress: Progress())
            #expect(document["verified"] == false)
        }
        for place in ["ray/checkpoint_000000", "plain"] {
            _ = try await CheckpointAccess(fixture.tree.at(place))
                .download(to: fixture.tree.at("out"), verify: true, progress: Progress())
        }
    }

    @Test func `an empty object whose key ends in a slash is a directory`() async throws {
        let fixture = try RunFixture(.objects)
        for key in ["", "a/", "a/empty/", "b/c"] { fixture.memory.place("storage/plain/\(key)", []) }
        let access = try CheckpointAccess(
            "\(fixture.bucket)/storage/plain", environment: .system, opener: fixture.opener)
        let document = try await access.download(
            to: fixture.tree.at("target"), verify: true, progress: Progress())
        #expect(document["files"] == 1)
        #expect(try System.status(fixture.tree.at("target/a/empty"))?.kind == .directory)
        _ = try await access.download(
            try FileSelection(["a/empty"]), to: fixture.tree.at("part"), verify: true, progress: Progress())
        #expect(try System.status(fixture.tree.at("part/a/empty"))?.kind == .directory)
    }

    @Test(arguments: ["", "a/", "a/b/"])
    func `P5 one with content is refused by name, never dropped`(_ key: String) async throws {
        let fixture = try RunFixture(.objects)
        fixture.memory.place("storage/plain/\(key)", [1, 2])
        fixture.memory.place("storage/plain/c", [3])
        let access = try CheckpointAccess(
            "\(fixture.bucket)/storage/plain", environment: .system, opener: fixture.opener)
        let target = fixture.tree.at("target")
        let error = await #expect(throws: StorageError.self) {
            try await access.download(to: target, verify: true, progress: Progress())
        }
        #expect(error?.code == .invalidArgument && error?.detailsDocument["file"]?.stringValue == key)
        #expect(try System.status(target) == nil)
        // Of what is selected beside it nothing is lost.
        _ = try await access.download(try FileSelection(["c"]), to: target, verify: true, progress: Progress())
    }

    @Test func `a mark in a checkpoint of ours is no damage, content is`() async throws {
        let fixture = try RunFixture(.objects)
        let opened = try await fixture.open()
        let entry = try await fixture.commit(opened, 0)
        let access = try CheckpointAccess(
            fixture.path(entry.physicalName), environment: .system, opener: fixture.opener)
        fixture.memory.place("storage/run/\(entry.physicalName)/", [])
        fixture.memory.place("storage/run/\(entry.physicalName)/made/", [])
        #expect(try await access.verify(progress: Progress())["ok"] == true)
        fixture.memory.place("storage/run/\(entry.physicalName)/made/", [1])
        #expect(try await access.verify(progress: Progress())["ok"] == false)
    }
}
