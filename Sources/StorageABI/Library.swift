// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation
// The documentation of these functions is the header.
public import CStorage
internal import Glibc
internal import StorageCore

@implementation @_cdecl("raystorage_abi_version")
public func raystorage_abi_version() -> UInt32 { UInt32(RAYSTORAGE_ABI_VERSION) }

@implementation @_cdecl("raystorage_version")
public func raystorage_version() -> UnsafePointer<CChar>? { cs_version() }

@implementation @_cdecl("raystorage_status_name")
public func raystorage_status_name(_ status: raystorage_status) -> UnsafePointer<CChar>? {
    inside {
        if status == 0 { return staticText("OK") }
        return staticText(StorageError.Code.all.first { $0.rawValue == status }?.staticName ?? "UNKNOWN")
    }
}

@implementation @_cdecl("raystorage_error_code")
public func raystorage_error_code(_ error: OpaquePointer?) -> raystorage_status {
    inside { errorBox(error)?.error.code.rawValue ?? 0 }
}

@implementation @_cdecl("raystorage_error_message")
public func raystorage_error_message(_ error: OpaquePointer?) -> UnsafePointer<CChar>? {
    inside { UnsafePointer(errorBox(error)?.message) ?? staticText("") }
}

@implementation @_cdecl("raystorage_error_details_json")
public func raystorage_error_details_json(_ error: OpaquePointer?) -> UnsafePointer<CChar>? {
    inside { UnsafePointer(errorBox(error)?.details) ?? staticText("{}") }
}

@implementation @_cdecl("raystorage_error_is_retryable")
public func raystorage_error_is_retryable(_ error: OpaquePointer?) -> Int32 {
    inside { errorBox(error)?.error.isRetryable == true ? 1 : 0 }
}

@implementation @_cdecl("raystorage_error_free")
public func raystorage_error_free(_ error: OpaquePointer?) {
    guard let error else { return }
    inside { Unmanaged<ErrorBox>.fromOpaque(UnsafeRawPointer(error)).release() }
}

@implementation @_cdecl("raystorage_string_free")
public func raystorage_string_free(_ string: UnsafeMutablePointer<CChar>?) { free(string) }

@implementation @_cdecl("raystorage_shutdown")
public func raystorage_shutdown(
    _ timeout_ms: Int64, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        try TrainingRun.shutdown(Deadline(timeoutMilliseconds: timeout_ms))
    }
}

@implementation @_cdecl("raystorage_log_next")
public func raystorage_log_next(
    _ timeout_ms: Int64, _ out_json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
    _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        guard let line = Log.shared.next(Deadline(timeoutMilliseconds: timeout_ms)) else {
            throw StorageError(.timeout, "no line in the log", details: [("pending", true)])
        }
        try put(line.compact, out_json)
    }
}

@implementation @_cdecl("raystorage_build_info")
public func raystorage_build_info(
    _ out_json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in
        try put(BuildInformation.document(abi: Int(RAYSTORAGE_ABI_VERSION)).compact, out_json)
    }
}

private func errorBox(_ pointer: OpaquePointer?) -> ErrorBox? {
    pointer.map { Unmanaged<ErrorBox>.fromOpaque(UnsafeRawPointer($0)).takeUnretainedValue() }
}

private func staticText(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
