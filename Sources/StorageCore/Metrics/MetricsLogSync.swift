internal import Synchronization

extension MetricsLog {
    private struct Dirty: Sendable {
        var name: MetricsSegmentName
        var file: OpenFile
        var length: Int
        var isSuspect: Bool
    }

    /// Makes every line durable that was added before the call; returns at once when there is none.
    ///
    /// After a failed fsync the kernel may have forgotten the lines, whatever a second fsync says, and with them earlier
    /// ones that lie in the same blocks. They are written again, into a new segment; readers drop the repetitions. Fails with the error of the system call when that fails
    /// too; the next call tries again.
    public func sync() throws(StorageError) {
        guard isDurable else { return }
        try syncTurn.withLock { () throws(StorageError) in
            guard let failure = try syncOnce() else { return }
            Log.shared.write(
                .warning, "lines of the metrics log are written again: \(failure.message)", failure.details)
            try state.withLock { state throws(StorageError) in try rewrite(&state) }
            if let failure = try syncOnce() { throw failure }
        }
    }

    /// Syncs what is dirty. Returns the first failure of a segment, which is then suspect.
    private func syncOnce() throws(StorageError) -> StorageError? {
        // Without the tails: a second owner would make the next append copy them.
        let (dirty, directories) = state.withLock { state in
            let segments = state.full + (state.current.map { [$0] } ?? [])
            let dirty = segments.filter(\.isDirty).map {
                Dirty(name: $0.name, file: $0.file, length: $0.length, isSuspect: $0.isSuspect)
            }
            return (dirty, state.changedDirectories)
        }
        for (index, directory) in directories.enumerated() where !directories[..<index].contains(directory) {
            try System.syncDirectory(directory)
        }
        state.withLock { $0.changedDirectories.removeFirst(directories.count) }
        var failure: StorageError?
        for segment in dirty {
            let error = segment.isSuspect ? Self.suspect(segment.file) : synchronize(segment.file)
            failure = failure ?? error
            state.withLock { state in
                Self.update(&state, segment.name) { known in
                    if error == nil { known.markSynced(segment.length) } else { known.isSuspect = true }
                }
            }
        }
        state.withLock { state in state.full.removeAll { !$0.isDirty } }
        return failure
    }

    private func synchronize(_ file: OpenFile) -> StorageError? {
        do throws(StorageError) {
            try System.check("fdatasync", file.path) { calls.synchronize(file.descriptor) }
            return nil
        } catch {
            return error
        }
    }

    private static func suspect(_ file: OpenFile) -> StorageError {
        StorageError(
            .io, "an earlier fsync of \(quoted(file.path)) failed",
            details: [("path", .string(file.path))], isRetryable: true)
    }

    private static func update(_ state: inout State, _ name: MetricsSegmentName, _ body: (inout MetricsSegment) -> Void)
    {
        if state.current?.name == name, var segment = state.current.take() {
            body(&segment)
            state.current = segment
        }
        for place in state.full.indices where state.full[place].name == name { body(&state.full[place]) }
    }

    /// Puts everything that is not durable, or not any more, into a new segment, in order, and lets go of the old ones.
    private func rewrite(_ state: inout State) throws(StorageError) {
        var bytes: [UInt8] = [0x0A]
        for segment in state.full + (state.current.map { [$0] } ?? []) where segment.isDirty {
            bytes += try segment.endangered()
            if bytes.last != 0x0A { bytes.append(0x0A) }
        }
        var next = try openSegment(&state)
        do throws(StorageError) {
            if bytes.count > 1 { try next.append(bytes, room: limits.tailBytes, calls) }
        } catch {
            _ = try? System.unlink(next.file.path)
            throw error
        }
        state.full = []
        state.current = next
    }

    /// Syncs and closes; later lines are refused with CLOSED. A second call does nothing.
    public func close() throws(StorageError) {
        let wasOpen = state.withLock { state in
            let wasOpen = !state.isClosed
            state.isClosed = true
            return wasOpen
        }
        guard wasOpen else { return }
        try sync()
        try state.withLock { state throws(StorageError) in
            let file = state.current?.file
            state.current = nil
            try file?.close()
        }
    }
}
