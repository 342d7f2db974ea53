// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation
public import CStorage
internal import StorageCore

@implementation @_cdecl("raystorage_run_report")
public func raystorage_run_report(
    _ run: OpaquePointer?, _ metrics_json: UnsafePointer<CChar>?, _ local_directory: UnsafePointer<CChar>?,
    _ options: UnsafePointer<raystorage_report_options>?, _ out_report: UnsafeMutablePointer<OpaquePointer?>?,
    _ error: OutError?
) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in
        let (report, options) = try begin(run, metrics_json, local_directory, options)
        let forever = Deadline(timeoutMilliseconds: -1)
        try report.waitCaptured(forever)
        if options.mode == .sync { try report.wait(forever) }
        if out_report != nil { try put(report, out_report, "out_report") }
    }
}

@implementation @_cdecl("raystorage_run_report_start")
public func raystorage_run_report_start(
    _ run: OpaquePointer?, _ metrics_json: UnsafePointer<CChar>?, _ local_directory: UnsafePointer<CChar>?,
    _ options: UnsafePointer<raystorage_report_options>?, _ out_report: UnsafeMutablePointer<OpaquePointer?>?,
    _ error: OutError?
) -> raystorage_status {
    withRun(run, error) { run throws(StorageError) in
        if out_report == nil { throw .null("out_report") }
        try put(try begin(run, metrics_json, local_directory, options).report, out_report, "out_report")
    }
}

@implementation @_cdecl("raystorage_report_state")
public func raystorage_report_state(_ report: OpaquePointer?) -> Int32 {
    inside { (try? Handle.get(report, Report.self, "report"))?.currentState.rawValue ?? -1 }
}

@implementation @_cdecl("raystorage_report_wait_captured")
public func raystorage_report_wait_captured(
    _ report: OpaquePointer?, _ timeout_ms: Int64, _ error: OutError?
) -> raystorage_status {
    withReport(report, error) { report throws(StorageError) in
        try report.waitCaptured(Deadline(timeoutMilliseconds: timeout_ms))
    }
}

@implementation @_cdecl("raystorage_report_wait")
public func raystorage_report_wait(
    _ report: OpaquePointer?, _ timeout_ms: Int64, _ error: OutError?
) -> raystorage_status {
    withReport(report, error) { report throws(StorageError) in
        try report.wait(Deadline(timeoutMilliseconds: timeout_ms))
    }
}

@implementation @_cdecl("raystorage_report_cancel")
public func raystorage_report_cancel(_ report: OpaquePointer?, _ error: OutError?) -> raystorage_status {
    withReport(report, error) { report throws(StorageError) in report.cancel() }
}

@implementation @_cdecl("raystorage_report_checkpoint")
public func raystorage_report_checkpoint(
    _ report: OpaquePointer?, _ out_json: OutText?, _ error: OutError?
) -> raystorage_status {
    withReport(report, error) { report throws(StorageError) in
        try put(report.checkpointDocument.compact, out_json)
    }
}

@implementation @_cdecl("raystorage_report_info")
public func raystorage_report_info(
    _ report: OpaquePointer?, _ out_json: OutText?, _ error: OutError?
) -> raystorage_status {
    withReport(report, error) { report throws(StorageError) in try put(report.document.compact, out_json) }
}

@implementation @_cdecl("raystorage_report_free")
public func raystorage_report_free(_ report: OpaquePointer?) { Handle.release(report) }

private func withReport(
    _ report: OpaquePointer?, _ error: OutError?, _ body: (Report) throws(StorageError) -> Void
) -> raystorage_status {
    guarded(error) { () throws(StorageError) in try body(try Handle.get(report, Report.self, "report")) }
}

private func begin(
    _ run: TrainingRun, _ metrics: UnsafePointer<CChar>?, _ directory: UnsafePointer<CChar>?,
    _ pointer: UnsafePointer<raystorage_report_options>?
) throws(StorageError) -> (report: Report, options: ReportOptions) {
    var given = raystorage_report_options()
    try readOptions(pointer, into: &given)
    var options = ReportOptions()
    options.mode = try choose(given.upload_mode, [.async, .sync, .noUpload], "upload_mode")
    options.checkpointDirName = try optionalText(given.checkpoint_dir_name, "checkpoint_dir_name")
    options.deleteLocalAfterUpload = given.delete_local_after_upload != 0
    let metrics = Array(try text(metrics, "metrics_json").utf8)
    let report = try run.report(
        metricsJSON: metrics, directory: try optionalText(directory, "local_directory"), options: options)
    return (report, options)
}
