internal import CStorage
internal import Glibc
internal import Synchronization

/// A large file whose parts several threads work on: opened by the first, closed behind the last.
final class SharedFile: Sendable {
    private struct State {
        var input: HeldDescriptor?
        var output: HeldDescriptor?
        var blocks: [UInt32]
        var partsLeft: Int
        var failed = false
    }
    private let state: SlowMutex<State>

    init(blocks: Int, parts: Int) {
        state = SlowMutex(State(blocks: Array(repeating: 0, count: blocks), partsLeft: parts))
    }

    var hasFailed: Bool { state.withLock { $0.failed } }

    /// The descriptors, opened with `body` by the first who asks.
    func open(
        _ body: () throws(StorageError) -> (HeldDescriptor, HeldDescriptor?)
    ) throws(StorageError) -> (HeldDescriptor, HeldDescriptor?) {
        try state.withLock { state throws(StorageError) in
            if let input = state.input { return (input, state.output) }
            let pair = try body()
            state.input = pair.0
            state.output = pair.1
            return pair
        }
    }

    func setBlock(_ index: Int, _ crc: UInt32) {
        state.withLock { if index < $0.blocks.count { $0.blocks[index] = crc } }
    }

    /// All blocks' CRCs when this was the last part; nothing is held open then.
    func endPart() -> [UInt32]? {
        state.withLock { state in
            state.partsLeft -= 1
            guard state.partsLeft == 0, !state.failed else { return nil }
            state.input = nil
            state.output = nil
            return state.blocks
        }
    }

    /// Gives the file up; true the first time.
    func fail() -> Bool {
        state.withLock { state in
            state.input = nil
            state.output = nil
            defer { state.failed = true }
            return !state.failed
        }
    }
}

/// A file descriptor with several users: closed when the last lets go.
final class HeldDescriptor: Sendable {
    let number: Int32
    private let isOpen = Flag(true)

    init(_ descriptor: consuming Descriptor) { number = descriptor.release() }

    deinit { if isOpen.clear() { _ = cs_close(number) } }

    /// Closes; returns an errno when the kernel tells of lost writes.
    func close() -> Int32? {
        guard isOpen.clear(), cs_close(number) == -1, errno != EINTR else { return nil }
        return errno
    }
}
