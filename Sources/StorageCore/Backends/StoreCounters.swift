internal import Synchronization

/// What has gone to and from a store since it was opened.
final class StoreCounters: Sendable {
    private let requests = Atomic<Int>(0)
    private let retries = Atomic<Int>(0)
    private let throttled = Atomic<Int>(0)
    private let bytesSent = Atomic<Int>(0)
    private let bytesReceived = Atomic<Int>(0)

    /// One try is sent; `isRepeated`: not the first of its request.
    func send(isRepeated: Bool) {
        requests.add(1, ordering: .relaxed)
        if isRepeated { retries.add(1, ordering: .relaxed) }
    }

    /// The store asked to slow down.
    func throttle() { throttled.add(1, ordering: .relaxed) }

    /// Bytes of a body have moved, in whatever came of it.
    func move(_ count: Int, _ way: HTTPWay) {
        switch way {
        case .up: bytesSent.wrappingAdd(count, ordering: .relaxed)
        case .down: bytesReceived.wrappingAdd(count, ordering: .relaxed)
        }
    }

    /// Those of `raystorage_run_stats`.
    var members: [JSONMember] {
        [
            JSONMember("requests", JSONValue(requests.load(ordering: .relaxed))),
            JSONMember("retries", JSONValue(retries.load(ordering: .relaxed))),
            JSONMember("throttled", JSONValue(throttled.load(ordering: .relaxed))),
            JSONMember("bytes_sent", JSONValue(bytesSent.load(ordering: .relaxed))),
            JSONMember("bytes_received", JSONValue(bytesReceived.load(ordering: .relaxed))),
        ]
    }
}
