/// What went wrong, in a form that crosses every layer and the C interface unchanged.
public struct StorageError: Error, Sendable, Equatable {
    /// The kind of an error; the numbers are those of `raystorage.h`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The `RAYSTORAGE_ERROR_*` number.
        public let rawValue: Int32
        /// The name without its prefix, for example `NOT_FOUND`.
        public var description: String { String(describing: staticName) }
        /// The same as text that lives as long as the process.
        public let staticName: StaticString

        private init(_ rawValue: Int32, _ name: StaticString) {
            self.rawValue = rawValue
            self.staticName = name
        }

        /// Codes are equal when their numbers are.
        public static func == (left: Code, right: Code) -> Bool { left.rawValue == right.rawValue }
        /// Hashes the number.
        public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }

        /// Refused before anything was written.
        public static let invalidArgument = Code(1, "INVALID_ARGUMENT")
        /// The caller cancelled.
        public static let cancelled = Code(2, "CANCELLED")
        /// A wait ended before the work did.
        public static let timeout = Code(3, "TIMEOUT")
        /// Nothing there.
        public static let notFound = Code(4, "NOT_FOUND")
        /// Something there that must not be.
        public static let alreadyExists = Code(5, "ALREADY_EXISTS")
        /// The storage changed under us.
        public static let precondition = Code(6, "PRECONDITION")
        /// No or wrong credentials.
        public static let unauthenticated = Code(7, "UNAUTHENTICATED")
        /// Not allowed.
        public static let permissionDenied = Code(8, "PERMISSION_DENIED")
        /// Bytes are not those that were reported.
        public static let checksum = Code(9, "CHECKSUM")
        /// The network failed.
        public static let network = Code(10, "NETWORK")
        /// The storage asked to slow down.
        public static let throttled = Code(11, "THROTTLED")
        /// A system call failed.
        public static let io = Code(12, "IO")
        /// `max_pending_reports` reached.
        public static let queueFull = Code(13, "QUEUE_FULL")
        /// The handle is closed.
        public static let closed = Code(14, "CLOSED")
        /// The handle belongs to a parent process.
        public static let forked = Code(15, "FORKED")
        /// Not built, or not possible here.
        public static let notSupported = Code(16, "NOT_SUPPORTED")
        /// A bug of ours.
        public static let `internal` = Code(17, "INTERNAL")
        /// `staging_max_bytes` reached.
        public static let stagingFull = Code(18, "STAGING_FULL")
        /// Another trainer has taken over.
        public static let superseded = Code(19, "SUPERSEDED")
        /// A rank did not come.
        public static let missingRanks = Code(20, "MISSING_RANKS")
        /// Another trainer holds the run and is alive.
        public static let runInUse = Code(21, "RUN_IN_USE")
        /// The storage is full.
        public static let noSpace = Code(22, "NO_SPACE")

        /// Every code, in the order of the header.
        public static let all: [Code] = [
            .invalidArgument, .cancelled, .timeout, .notFound, .alreadyExists, .precondition, .unauthenticated,
            .permissionDenied, .checksum, .network, .throttled, .io, .queueFull, .closed, .forked, .notSupported,
            .internal, .stagingFull, .superseded, .missingRanks, .runInUse, .noSpace,
        ]
    }

    /// The kind of error.
    public var code: Code
    /// One sentence for a person, without secrets.
    public var message: String
    /// Path, operation, errno, attempts and so on, as far as they apply.
    public var details: [(key: String, value: JSONValue)]
    /// Whether the same call may succeed later without a change by the caller.
    public var isRetryable: Bool

    /// Creates an error; `details` keep their order.
    public init(
        _ code: Code, _ message: String, details: [(key: String, value: JSONValue)] = [], isRetryable: Bool = false
    ) {
        self.code = code
        self.message = message
        self.details = details
        self.isRetryable = isRetryable
    }

    /// Errors are equal when code and message are.
    public static func == (left: StorageError, right: StorageError) -> Bool {
        left.code == right.code && left.message == right.message
    }

    /// The details as one JSON object.
    public var detailsDocument: JSONValue {
        .object(details.map { JSONMember($0.key, $0.value) })
    }

    /// The same error with words put before its message, for a caller that knows what it was doing.
    public func while_(_ doing: String) -> StorageError {
        var copy = self
        copy.message = "\(doing): \(message)"
        return copy
    }
}
