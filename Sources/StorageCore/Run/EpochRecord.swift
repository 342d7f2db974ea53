/// One launch of the job on a run. Created once, never deleted, never reused.
struct EpochRecord: Sendable, Equatable {
    var number: Int
    /// 16 hexadecimal digits that make its attempts unlike those of any other launch.
    var nonce: String
    /// The random id of the staging directory: what "host" means.
    var hostID: String
    var hostname: String
    var processID: Int
    /// Seconds since 1970 on the holder's clock; for people only.
    var startedAt: Double
    /// The holder's heartbeat period.
    var heartbeatMilliseconds: Int
    /// The boot of the holder's machine: of two machines with one host id (a cloned image) only one has it.
    var bootID: String

    static let allowedHeartbeats = 10...86_400_000
    /// The heartbeat period to reckon with, whatever a damaged record says.
    var period: Int64 {
        Int64(min(max(Self.allowedHeartbeats.lowerBound, heartbeatMilliseconds), Self.allowedHeartbeats.upperBound))
    }

    var document: JSONValue {
        .make([
            "schema": 1, "epoch": JSONValue(number), "nonce": .string(nonce), "host_id": .string(hostID),
            "hostname": .string(hostname), "pid": JSONValue(processID), "started_at": .number(startedAt),
            "heartbeat_ms": JSONValue(heartbeatMilliseconds), "boot_id": .string(bootID),
        ])
    }

    init(
        number: Int, nonce: String, hostID: String, hostname: String, processID: Int, startedAt: Double,
        heartbeatMilliseconds: Int, bootID: String
    ) {
        self.bootID = bootID
        self.number = number
        self.nonce = nonce
        self.hostID = hostID
        self.hostname = hostname
        self.processID = processID
        self.startedAt = startedAt
        self.heartbeatMilliseconds = heartbeatMilliseconds
    }

    init?(_ document: JSONValue) {
        guard let number = document["epoch"]?.intValue, 1...ReportSequence.limit ~= number,
            let nonce = document["nonce"]?.stringValue,
            let hostID = document["host_id"]?.stringValue
        else { return nil }
        self.init(
            number: number, nonce: nonce, hostID: hostID, hostname: document["hostname"]?.stringValue ?? "?",
            processID: document["pid"]?.intValue ?? 0, startedAt: document["started_at"]?.doubleValue ?? 0,
            heartbeatMilliseconds: document["heartbeat_ms"]?.intValue ?? 10_000,
            bootID: document["boot_id"]?.stringValue ?? "")
    }

    /// Who holds it, for an error text.
    var holder: String { "process \(processID) on \(quoted(hostname)) (epoch \(number))" }

    var holderDetails: [(key: String, value: JSONValue)] {
        [
            ("holder_pid", JSONValue(processID)), ("holder_hostname", .string(hostname)),
            ("holder_epoch", JSONValue(number)), ("holder_started_at", .number(startedAt)),
        ]
    }
}
