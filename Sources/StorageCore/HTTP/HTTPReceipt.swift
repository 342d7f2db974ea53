internal import Synchronization

/// What of a body has arrived in its file when a try broke off, so that the next one asks for the rest only.
final class HTTPReceipt: Sendable {
    struct State: Sendable, Equatable {
        /// Bytes of the body, from its beginning on without a gap.
        var length = 0
        /// CRC-32C of each whole block of those.
        var blocks: [UInt32] = []
        /// Of what there is of the next block, and how much that is.
        var block: UInt32 = 0
        var blockLength = 0
        /// Of the version that they are of, when the server named it.
        var etag: String?
    }
    private let state = Mutex(State())

    var current: State {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }

    /// Begins anew.
    func clear() { current = State() }
}
