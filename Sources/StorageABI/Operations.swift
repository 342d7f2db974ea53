// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation
public import CStorage
internal import StorageCore

@implementation @_cdecl("raystorage_operation_wait")
public func raystorage_operation_wait(
    _ operation: OpaquePointer?, _ timeout_ms: Int64, _ error: OutError?
) -> raystorage_status {
    withOperation(operation, error) { operation throws(StorageError) in
        try operation.wait(Deadline(timeoutMilliseconds: timeout_ms))
    }
}

@implementation @_cdecl("raystorage_operation_progress")
public func raystorage_operation_progress(
    _ operation: OpaquePointer?, _ out_json: OutText?, _ error: OutError?
) -> raystorage_status {
    withOperation(operation, error) { operation throws(StorageError) in
        try put(operation.progress.document.compact, out_json)
    }
}

@implementation @_cdecl("raystorage_operation_result")
public func raystorage_operation_result(
    _ operation: OpaquePointer?, _ out_json: OutText?, _ error: OutError?
) -> raystorage_status {
    withOperation(operation, error) { operation throws(StorageError) in
        try put(try operation.document().compact, out_json)
    }
}

@implementation @_cdecl("raystorage_operation_cancel")
public func raystorage_operation_cancel(_ operation: OpaquePointer?) {
    inside { (try? Handle.get(operation, Operation.self, "operation"))?.cancel() }
}

@implementation @_cdecl("raystorage_operation_free")
public func raystorage_operation_free(_ operation: OpaquePointer?) {
    Handle.release(operation) { ($0 as? Operation)?.abandon() }
}

private func withOperation(
    _ operation: OpaquePointer?, _ error: OutError?, _ body: (Operation) throws(StorageError) -> Void
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in try body(try Handle.get(operation, Operation.self, "operation")) }
}

/// Starts an operation; arguments are converted before it, so that bad ones are answered at once.
func start(
    _ out: UnsafeMutablePointer<OpaquePointer?>?, _ options: UnsafePointer<CChar>?, _ error: OutError?,
    _ prepare: (JSONValue?) throws(StorageError) -> @Sendable (Progress) async throws(StorageError) -> JSONValue
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        if out == nil { throw .null("out_operation") }
        try put(try Operation(try prepare(try storageOptions(options))), out, "out_operation")
    }
}

/// Runs what may ask a store, and waits for it: for calls that yield their answer at once.
func wait(
    _ body: @escaping @Sendable (Progress) async throws(StorageError) -> JSONValue
) throws(StorageError) -> JSONValue {
    let operation = try Operation(body)
    try operation.wait(Deadline(timeoutMilliseconds: -1))
    return try operation.document()
}
