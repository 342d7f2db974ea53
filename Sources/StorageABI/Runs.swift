// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation
public import CStorage
internal import Glibc
internal import StorageCore

public typealias OutError = UnsafeMutablePointer<OpaquePointer?>
public typealias OutText = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

@implementation @_cdecl("raystorage_run_open")
public func raystorage_run_open(
    _ storage_path: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?,
    _ options: UnsafePointer<raystorage_run_options>?, _ out_run: UnsafeMutablePointer<OpaquePointer?>?,
    _ error: OutError?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        if out_run == nil { throw .null("out_run") }
        let operation = try Operation(opening: try runOptions(storage_path, name, options))
        try operation.wait(Deadline(timeoutMilliseconds: -1))
        if let run = operation.takeRun() { try put(RunHandle(run), out_run, "out_run") }
    }
}

@implementation @_cdecl("raystorage_run_open_start")
public func raystorage_run_open_start(
    _ storage_path: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?,
    _ options: UnsafePointer<raystorage_run_options>?, _ out_operation: UnsafeMutablePointer<OpaquePointer?>?,
    _ error: OutError?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        if out_operation == nil { throw .null("out_operation") }
        try put(try Operation(opening: try runOptions(storage_path, name, options)), out_operation, "out_operation")
    }
}

@implementation @_cdecl("raystorage_operation_take_run")
public func raystorage_operation_take_run(
    _ operation: OpaquePointer?, _ out_run: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        let operation = try Handle.get(operation, Operation.self, "operation")
        if out_run == nil { throw .null("out_run") }
        _ = try operation.document()
        guard let run = operation.takeRun() else {
            throw StorageError(.invalidArgument, "this operation opened no run, or it was taken already")
        }
        try put(RunHandle(run), out_run, "out_run")
    }
}

@implementation @_cdecl("raystorage_run_path")
public func raystorage_run_path(_ run: OpaquePointer?) -> UnsafePointer<CChar>? {
    inside {
        guard let run, let handle = Handle.at(run).object as? RunHandle else { return nil }
        return UnsafePointer(handle.path)
    }
}

@implementation @_cdecl("raystorage_run_info")
public func raystorage_run_info(_ run: OpaquePointer?, _ out_json: OutText?, _ error: OutError?) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in try put(run.info.compact, out_json) }
}

@implementation @_cdecl("raystorage_run_stats")
public func raystorage_run_stats(_ run: OpaquePointer?, _ out_json: OutText?, _ error: OutError?) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in try put(run.stats.compact, out_json) }
}

@implementation @_cdecl("raystorage_run_event_fd")
public func raystorage_run_event_fd(
    _ run: OpaquePointer?, _ out_fd: UnsafeMutablePointer<Int32>?, _ error: OutError?
) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in
        guard let out_fd else { throw .null("out_fd") }
        out_fd.pointee = run.eventFileDescriptor
    }
}

@implementation @_cdecl("raystorage_run_checkpoints")
public func raystorage_run_checkpoints(
    _ run: OpaquePointer?, _ out_json: OutText?, _ error: OutError?
) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in try put(run.checkpoints.compact, out_json) }
}

@implementation @_cdecl("raystorage_run_get_checkpoint_start")
public func raystorage_run_get_checkpoint_start(
    _ run: OpaquePointer?, _ out_operation: UnsafeMutablePointer<OpaquePointer?>?, _ error: OutError?
) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in
        if out_operation == nil { throw .null("out_operation") }
        let operation = try Operation { progress throws(StorageError) in try await run.currentCheckpoint(progress) }
        try put(operation, out_operation, "out_operation")
    }
}

@implementation @_cdecl("raystorage_run_flush")
public func raystorage_run_flush(_ run: OpaquePointer?, _ timeout_ms: Int64, _ error: OutError?) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in try run.flush(Deadline(timeoutMilliseconds: timeout_ms)) }
}

@implementation @_cdecl("raystorage_run_close")
public func raystorage_run_close(_ run: OpaquePointer?, _ timeout_ms: Int64, _ error: OutError?) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in try run.close(Deadline(timeoutMilliseconds: timeout_ms)) }
}

@implementation @_cdecl("raystorage_run_free")
public func raystorage_run_free(_ run: OpaquePointer?) {
    Handle.release(run) { ($0 as? RunHandle)?.run.abandon() }
}

// MARK: - Helpers

/// A run and its path as a C string that lives as long as the handle.
final class RunHandle {
    let run: TrainingRun
    let path: UnsafeMutablePointer<CChar>?

    init(_ run: TrainingRun) {
        self.run = run
        path = strdup(run.path)
    }

    deinit { free(path) }
}

func withRun(
    _ run: OpaquePointer?, _ error: OutError?, _ body: (TrainingRun) throws(StorageError) -> Void
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in try body(try Handle.get(run, RunHandle.self, "run").run) }
}

private func runOptions(
    _ storagePath: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?,
    _ pointer: UnsafePointer<raystorage_run_options>?
) throws(StorageError) -> RunOptions {
    var given = raystorage_run_options()
    try readOptions(pointer, into: &given)
    var options = RunOptions()
    options.storagePath = try optionalText(storagePath, "storage_path")
    options.name = try optionalText(name, "name")
    options.rank = Int(given.rank)
    options.worldSize = given.world_size == 0 ? 1 : Int(given.world_size)
    options.resume = try choose(given.resume, [.auto, .must, .never], "resume")
    options.whenFull = try choose(given.when_full, [.wait, .skip, .error], "when_full")
    options.durability = try choose(given.durability, [.fsync, .none], "durability")
    if given.max_pending_reports > 0 { options.maxPendingReports = Int(given.max_pending_reports) }
    if given.retry_timeout_ms != 0 { options.retryTimeoutMilliseconds = given.retry_timeout_ms }
    if given.drain_timeout_ms != 0 { options.drainTimeoutMilliseconds = given.drain_timeout_ms }
    if given.heartbeat_ms != 0 { options.heartbeatMilliseconds = Int(given.heartbeat_ms) }
    if given.orphan_ttl_ms != 0 { options.orphanTTLMilliseconds = given.orphan_ttl_ms }
    if given.staging_max_bytes != 0 { options.stagingMaxBytes = Int(clamping: given.staging_max_bytes) }
    if given.max_inflight_bytes != 0 { options.maxInflightBytes = Int(clamping: given.max_inflight_bytes) }
    let order = try optionalText(given.checkpoint_score_order, "checkpoint_score_order") ?? "max"
    guard let direction = RetentionPolicy.Order(rawValue: order) else {
        throw refusal("checkpoint_score_order", .string(order), "\"max\" or \"min\"")
    }
    options.retention = RetentionPolicy(
        numToKeep: given.num_to_keep == 0 ? nil : Int(given.num_to_keep),
        scoreAttribute: try optionalText(given.checkpoint_score_attribute, "checkpoint_score_attribute"),
        order: direction)
    options.resumeFrom = try optionalText(given.resume_from, "resume_from")
    options.stagingDirectory = try optionalText(given.staging_dir, "staging_dir")
    options.storageOptions = try storageOptions(given.storage_options_json)
    return options
}

func choose<Value>(_ number: UInt32, _ values: [Value], _ name: String) throws(StorageError) -> Value {
    guard Int(number) < values.count else {
        throw refusal(name, JSONValue(Int(number)), "a number from 0 to \(values.count - 1)")
    }
    return values[Int(number)]
}

func refusal(_ name: String, _ value: JSONValue, _ allowed: String) -> StorageError {
    StorageError(
        .invalidArgument, "\(name) must be \(allowed), not \(value.compact)",
        details: [("name", .string(name)), ("value", value), ("allowed", .string(allowed))])
}

/// Options of a storage; which ones there are is its business.
func storageOptions(_ pointer: UnsafePointer<CChar>?) throws(StorageError) -> JSONValue? {
    guard let json = try optionalText(pointer, "storage_options_json") else { return nil }
    guard let document = try? JSONParser.parse(json), let members = document.objectValue else {
        throw StorageError(
            .invalidArgument, "storage_options must be a JSON object", details: [("name", "storage_options")])
    }
    return members.isEmpty ? nil : document
}
