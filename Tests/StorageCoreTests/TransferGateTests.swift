import Synchronization
import Testing

@testable import StorageCore

/// Requests to several buckets that pass one gate, in tasks of their own.
@Suite struct TransferGateTests {
    private func until(_ condition: () -> Bool) async {
        while !condition() { await Engine.shared.sleep(milliseconds: 1) }
    }

    private func failure(_ body: () async throws(StorageError) -> Void) async -> StorageError? {
        do throws(StorageError) {
            try await body()
            return nil
        } catch { return error }
    }

    /// One write as a job of its own.
    private func put(
        _ s3: ScriptedS3, _ key: String, _ gate: TransferGate, _ condition: WriteCondition = .always,
        progress: Progress = Progress(), onBegin: Flag = Flag()
    ) async throws(StorageError) {
        try await gate.job(order: nil, progress: progress) { job, life throws(StorageError) in
            try await gate.request(job, bytes: 1, life: life) { progress throws(StorageError) in
                onBegin.raise()
                _ = try await s3.store.put(
                    key, .bytes([1]), crc32c: CRC32C.of([1]), condition: condition, progress: progress)
            }
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func `P7 a bucket that asks to slow down for an hour does not hold up a restore from another`() async throws {
        let fixture = try TransferFixture()
        try fixture.fill()
        let records = try await fixture.seal()
        let healthy = MemoryObjectStore()
        try await fixture.upload(records, to: healthy)
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 1))
        let isRestored = Flag()
        let isRefused = Flag()
        let throttled = try ScriptedS3(retryTimeout: 3_600_000) { _, _ in
            isRefused.raise()
            return isRestored.isSet ? HTTPResponse(200, ["etag": "\"e\""]) : .error(503, "SlowDown")
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { isRestored.raise() }
            group.addTask(executorPreference: Engine.shared) { try await put(throttled, "k", gate) }
            await until { isRefused.isSet }
            try await fixture.download(records, from: healthy, to: "back", gate: gate)
            isRestored.raise()
            try await group.waitForAll()
        }
        for record in records where record.kind == .file {
            #expect(CRC32C.of(try fixture.tree.bytes("back/" + record.path)) == record.crc32c)
        }
        #expect(gate.load.running == 0)
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 a request that waits for another's trial of conditions leaves it the slot to finish`() async throws {
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 1))
        let isTrying = Flag()
        let hasSecondBegun = Flag()
        let s3 = try ScriptedS3(retryTimeout: 3_600_000, conditions: nil) { request, number in
            isTrying.raise()
            if !hasSecondBegun.isSet { return .error(503, "SlowDown") }
            if request.method == "DELETE" { return HTTPResponse(204) }
            let isRefused = request["If-None-Match"] != nil && request.url.path.contains(S3Store.probePrefix)
            if isRefused { return .error(412, "PreconditionFailed") }
            return HTTPResponse(200, ["etag": "\"\(number)\"", "content-length": "9"])
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) { try await put(s3, "one", gate, .ifAbsent) }
            await until { isTrying.isSet }
            group.addTask(executorPreference: Engine.shared) {
                try await put(s3, "two", gate, .ifAbsent, onBegin: hasSecondBegun)
            }
            try await group.waitForAll()
        }
        #expect(Set(s3.lines.suffix(2)) == ["PUT /bucket/p/one", "PUT /bucket/p/two"])
        #expect(gate.load.running == 0)
    }

    @Test(.timeLimit(.minutes(5)))
    func `P7 a request that is cancelled while it pauses, or queues again, ends and leaves its slot`() async throws {
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 1))
        let impatient = Progress()
        let hasPaused = Flag()
        let s3 = try ScriptedS3(retryTimeout: 3_600_000) { _, _ in
            hasPaused.raise()
            return .error(503, "SlowDown", ["retry-after": "3600"])
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) {
                let error = await failure { () async throws(StorageError) in
                    try await put(s3, "k", gate, progress: impatient)
                }
                #expect(error?.code == .cancelled)
            }
            await until { hasPaused.isSet && gate.load.running == 0 }
            impatient.cancel()
            try await group.waitForAll()
        }
        let late = Progress()
        try await gate.job(order: nil, progress: late) { job, life throws(StorageError) in
            let error = await failure { () async throws(StorageError) in
                try await gate.request(job, bytes: 1, life: life) { progress throws(StorageError) in
                    progress.slot?.release()
                    // Somebody else has the only one.
                    try await gate.job(order: nil, progress: Progress()) { other, life throws(StorageError) in
                        try await gate.request(other, bytes: 1, life: life) { _ throws(StorageError) in
                            late.cancel()
                            try await progress.slot?.reclaim()
                        }
                    }
                }
            }
            #expect(error?.code == .cancelled)
        }
        #expect(gate.load.running == 0)
    }

    @Test(.timeLimit(.minutes(5)))
    func `P6 a job beside a limited one is not limited`() async throws {
        let gate = TransferGate(limits: TransferScheduler.Limits(maximumConcurrency: 4))
        let hasBegun = Flag()
        let hasAll = Flag()
        let most = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: Engine.shared) {
                try await gate.job(order: nil, terms: .init(concurrency: 1), progress: Progress()) {
                    job, life throws(StorageError) in
                    try await gate.request(job, bytes: 1, life: life) { _ throws(StorageError) in
                        hasBegun.raise()
                        while !hasAll.isSet { await Engine.shared.sleep(milliseconds: 1) }
                    }
                }
            }
            await until { hasBegun.isSet }
            let units = PartPlan.order((0..<8).map { _ in PartPlan(size: 1, partBytes: 10) })
            try await gate.job(order: nil, progress: Progress()) { job, life throws(StorageError) in
                try await UnitQueue(units).run(gate, job, life: life) { _ throws(StorageError) in
                    try await gate.request(job, bytes: 1, life: life) { _ throws(StorageError) in
                        // Three run together beside the other's one.
                        if most.next() == 2 { hasAll.raise() }
                        while !hasAll.isSet { await Engine.shared.sleep(milliseconds: 1) }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(most.next() == 8)
    }
}
