internal import Glibc

extension StorageError {
    /// The error of a failed system call on a path.
    static func system(_ number: Int32, _ operation: String, _ path: String) -> StorageError {
        let code: Code
        var retryable = false
        switch number {
        case ENOENT, ENOTDIR: code = .notFound
        case EEXIST, ENOTEMPTY: code = .alreadyExists
        case EACCES, EPERM, EROFS: code = .permissionDenied
        case ENOSPC, EDQUOT:
            code = .noSpace
            retryable = true
        case ESTALE, EIO, EAGAIN, ETIMEDOUT, EBUSY, EMFILE, ENFILE:
            code = .io
            retryable = true
        case ENAMETOOLONG, ELOOP: code = .invalidArgument
        default: code = .io
        }
        let name = Self.errnoName(number)
        return StorageError(
            code, "\(operation) \(quoted(path)): \(name) (\(String(cString: strerror(number))))",
            details: [
                ("operation", .string(operation)), ("path", .string(path)), ("errno", JSONValue(Int(number))),
                ("errno_name", .string(name)),
            ],
            isRetryable: retryable)
    }

    private static func errnoName(_ number: Int32) -> String {
        switch number {
        case EPERM: "EPERM"
        case ENOENT: "ENOENT"
        case EIO: "EIO"
        case EAGAIN: "EAGAIN"
        case EACCES: "EACCES"
        case EBUSY: "EBUSY"
        case EEXIST: "EEXIST"
        case EXDEV: "EXDEV"
        case ENOTDIR: "ENOTDIR"
        case EISDIR: "EISDIR"
        case EINVAL: "EINVAL"
        case ENFILE: "ENFILE"
        case EMFILE: "EMFILE"
        case EFBIG: "EFBIG"
        case ENOSPC: "ENOSPC"
        case EROFS: "EROFS"
        case ENAMETOOLONG: "ENAMETOOLONG"
        case ENOTEMPTY: "ENOTEMPTY"
        case ELOOP: "ELOOP"
        case ESTALE: "ESTALE"
        case EDQUOT: "EDQUOT"
        case ETIMEDOUT: "ETIMEDOUT"
        case ENOMEM: "ENOMEM"
        default: "errno \(number)"
        }
    }
}

/// A path or name for an error text: on one line, whatever it holds.
func quoted(_ text: String) -> String { JSONValue.string(text).compact }
