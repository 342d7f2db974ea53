internal import CStorage
internal import Glibc
internal import StorageCore

/// What a handle of the C interface points to: an object, and the process that made it.
final class Handle {
    let object: AnyObject
    let processID: Int32

    init(_ object: AnyObject) {
        self.object = object
        processID = getpid()
    }

    /// Owned by the caller until `release`.
    static func make(_ object: AnyObject) -> OpaquePointer {
        OpaquePointer(Unmanaged.passRetained(Handle(object)).toOpaque())
    }

    static func at(_ pointer: OpaquePointer) -> Handle {
        Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
    }

    /// The object, for the process that made it.
    static func get<Object: AnyObject>(
        _ pointer: OpaquePointer?, _ type: Object.Type, _ name: String
    ) throws(StorageError) -> Object {
        guard let pointer else { throw .null(name) }
        let handle = at(pointer)
        guard handle.processID == getpid() else {
            throw StorageError(
                .forked, "this \(name) belongs to process \(handle.processID): open another in process \(getpid())")
        }
        guard let object = handle.object as? Object else {
            throw StorageError(.invalidArgument, "the handle is not a \(name)")
        }
        return object
    }

    /// Gives up the caller's reference; nothing for NULL and in a forked child, whose threads never ran.
    static func release(_ pointer: OpaquePointer?, _ body: (AnyObject) -> Void = { _ in }) {
        guard let pointer else { return }
        inside {
            let handle = Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(pointer))
            guard handle.takeUnretainedValue().processID == getpid() else { return }
            body(handle.takeUnretainedValue().object)
            handle.release()
        }
    }
}

/// An error with its texts as C strings that live as long as it does.
final class ErrorBox {
    let error: StorageError
    let message: UnsafeMutablePointer<CChar>?
    let details: UnsafeMutablePointer<CChar>?

    init(_ error: StorageError) {
        self.error = error
        message = strdup(error.message)
        details = strdup(error.detailsDocument.compact)
    }

    deinit {
        free(message)
        free(details)
    }
}

extension StorageError {
    static func null(_ name: String) -> StorageError {
        StorageError(.invalidArgument, "\(name) must not be NULL", details: [("name", .string(name))])
    }
}

/// Runs the body of a function of the C interface: guard, convert, call, convert.
func guarded(
    _ error: UnsafeMutablePointer<OpaquePointer?>?, _ body: () throws(StorageError) -> Void
) -> Int32 {
    inside {
        do throws(StorageError) {
            try body()
            return 0
        } catch let failure {
            error?.pointee = OpaquePointer(Unmanaged.passRetained(ErrorBox(failure)).toOpaque())
            return failure.code.rawValue
        }
    }
}

/// Every function of the C interface runs within this: forks wait until it has ended.
func inside<Value>(_ body: () -> Value) -> Value {
    cs_fork_enter()
    defer { cs_fork_leave() }
    return body()
}

/// Text that the caller lent.
func text(_ pointer: UnsafePointer<CChar>?, _ name: String) throws(StorageError) -> String {
    guard let pointer else { throw .null(name) }
    guard let text = String(validatingCString: pointer) else {
        throw StorageError(.invalidArgument, "\(name) is not UTF-8", details: [("name", .string(name))])
    }
    return text
}

func optionalText(_ pointer: UnsafePointer<CChar>?, _ name: String) throws(StorageError) -> String? {
    guard pointer != nil else { return nil }
    return try text(pointer, name)
}

/// Hands a text out; the caller frees it.
func put(_ text: String, _ out: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) throws(StorageError) {
    guard let out else { throw .null("out_json") }
    guard let copy = strdup(text) else { throw StorageError(.internal, "out of memory") }
    out.pointee = copy
}

/// Hands an object out as a handle; the caller frees it.
func put(_ object: AnyObject, _ out: UnsafeMutablePointer<OpaquePointer?>?, _ name: String) throws(StorageError) {
    guard let out else { throw .null(name) }
    out.pointee = Handle.make(object)
}

/// Reads an option struct of a caller that may be older or newer than we are: what it lacks is zero, and what we do not
/// know must be.
func readOptions<Options>(_ pointer: UnsafePointer<Options>?, into options: inout Options) throws(StorageError) {
    guard let pointer else { return }
    let raw = UnsafeRawPointer(pointer)
    let size = Int(raw.load(as: UInt32.self))
    let known = MemoryLayout<Options>.size
    guard size >= 4 else {
        throw StorageError(
            .invalidArgument, "struct_size is \(size): start with the _INIT macro", details: [("name", "struct_size")])
    }
    for offset in min(known, size)..<size where raw.load(fromByteOffset: offset, as: UInt8.self) != 0 {
        throw StorageError(
            .invalidArgument, "the option struct has a field that this library does not know (byte \(offset))",
            details: [("name", "struct_size"), ("value", JSONValue(size)), ("allowed", JSONValue(known))])
    }
    withUnsafeMutableBytes(of: &options) {
        $0.copyMemory(from: UnsafeRawBufferPointer(start: raw, count: min(known, size)))
    }
}
