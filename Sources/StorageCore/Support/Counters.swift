public import Synchronization

/// Numbers handed out once each, from any thread.
final class Counter: Sendable {
    private let value = Atomic<Int>(0)
    func next() -> Int { value.add(1, ordering: .relaxed).oldValue }
}

extension Array {
    /// Removes and returns those of which that is true, in their order. It is asked once of each: what becomes true between
    /// two looks would be lost from both.
    mutating func extract(where isTaken: (Element) -> Bool) -> [Element] {
        var (kept, taken): ([Element], [Element]) = ([], [])
        for element in self {
            if isTaken(element) { taken.append(element) } else { kept.append(element) }
        }
        self = kept
        return taken
    }
}

/// The failure of the earliest element among those that ran side by side.
final class FirstFailure: Sendable {
    private let state = Mutex<(index: Int, error: StorageError)?>(nil)
    private let flag = Atomic<Bool>(false)

    var happened: Bool { flag.load(ordering: .relaxed) }
    var error: StorageError? { state.withLock { $0?.error } }

    func record(_ error: StorageError, at index: Int) {
        flag.store(true, ordering: .relaxed)
        state.withLock { state in
            if let current = state, current.index < index { return }
            state = (index, error)
        }
    }
}

/// What long work shows while it runs, and how it is asked to stop.
public final class Progress: Sendable {
    /// Bytes that have been handled.
    public let bytesDone = Atomic<Int>(0)
    /// Bytes to handle, as far as known.
    public let bytesTotal = Atomic<Int>(0)
    /// Files that have been handled.
    public let filesDone = Atomic<Int>(0)
    /// Files to handle, as far as known.
    public let filesTotal = Atomic<Int>(0)
    private let cancelled = Atomic<Bool>(false)
    private let phaseText = Mutex<String>("")
    private let followers = Mutex<[Progress]>([])

    /// Of the one request that this is of; nil: nobody waits for it.
    let slot: (any RequestSlot)?

    /// Starts at zero.
    public init() { slot = nil }

    /// Of one request that runs in a slot.
    init(slot: any RequestSlot) { self.slot = slot }

    /// What is being done, one word.
    public var phase: String {
        get { phaseText.withLock { $0 } }
        set { phaseText.withLock { $0 = newValue } }
    }

    /// Asks the work to end.
    public func cancel() {
        cancelled.store(true, ordering: .relaxed)
        for follower in followers.withLock({ $0 }) { follower.cancel() }
    }

    /// Cancels another one along, from now on.
    func lead(_ other: Progress) {
        followers.withLock { $0.append(other) }
        if isCancelled { other.cancel() }
    }

    /// No longer does.
    func release(_ other: Progress) { followers.withLock { $0.removeAll { $0 === other } } }

    /// Whether the work was asked to end.
    public var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

    /// Throws `CANCELLED` when the work was asked to end.
    public func checkCancelled() throws(StorageError) {
        if isCancelled { throw StorageError(.cancelled, "cancelled by the caller") }
    }

    /// Adds to the bytes and files that have been handled.
    public func advance(bytes: Int = 0, files: Int = 0) {
        // Not worth a trap, whatever sizes somebody has named.
        if bytes != 0 { bytesDone.wrappingAdd(bytes, ordering: .relaxed) }
        if files != 0 { filesDone.wrappingAdd(files, ordering: .relaxed) }
    }

    /// Adds to the bytes and files to handle.
    public func expect(bytes: Int = 0, files: Int = 0) {
        bytesTotal.wrappingAdd(bytes, ordering: .relaxed)
        filesTotal.wrappingAdd(files, ordering: .relaxed)
    }

    /// The progress document of the C interface.
    public var document: JSONValue {
        .make([
            "bytes_done": JSONValue(bytesDone.load(ordering: .relaxed)),
            "bytes_total": JSONValue(bytesTotal.load(ordering: .relaxed)),
            "files_done": JSONValue(filesDone.load(ordering: .relaxed)),
            "files_total": JSONValue(filesTotal.load(ordering: .relaxed)),
            "phase": .string(phase),
        ])
    }
}

/// A truth value that threads share.
final class Flag: Sendable {
    private let value: Atomic<Bool>
    init(_ initial: Bool = false) { value = Atomic(initial) }
    var isSet: Bool { value.load(ordering: .acquiring) }
    /// Sets it; true when it was clear.
    func set() -> Bool { !value.exchange(true, ordering: .acquiringAndReleasing) }
    /// Sets it.
    func raise() { value.store(true, ordering: .releasing) }
    /// Clears it; true when it was set.
    func clear() -> Bool { value.exchange(false, ordering: .acquiringAndReleasing) }
}
