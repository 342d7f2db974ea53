internal import Glibc

/// Where settings are read: the environment and the files of the user, so that tests run without the machine's own.
struct AuthFiles: Sendable {
    var environment: Environment
    /// A whole file of at most that many bytes; nil when there is none.
    var readFile: @Sendable (_ path: String, _ limit: Int) throws(StorageError) -> [UInt8]?
    /// The user's home directory; nil: unknown.
    var homeDirectory: @Sendable () -> String?

    init(environment: Environment = .system) {
        self.environment = environment
        readFile = { path, limit throws(StorageError) in try AuthFiles.read(path, limit) }
        homeDirectory = { environment.variable("HOME") ?? HomeDirectory.ofPasswordFile() }
    }

    /// O_NONBLOCK: a FIFO in place of a file must not hold a thread.
    private static func read(_ path: String, _ limit: Int) throws(StorageError) -> [UInt8]? {
        do throws(StorageError) {
            return try OpenFile(path, O_RDONLY | O_NONBLOCK).readAll(limit: limit)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }

    /// A leading `~/` replaced by the home directory; nil when that is unknown.
    func expanded(_ path: String) -> String? {
        guard path.hasPrefix("~/") else { return path }
        return homeDirectory().map { Path.join($0, String(path.dropFirst(2))) }
    }

    /// `true` or `false` in any case; nil when unset. Anything else is INVALID_ARGUMENT.
    func flag(_ variable: String) throws(StorageError) -> Bool? {
        try environment.variable(variable).map { text throws(StorageError) in
            try AuthFiles.flag(text, named: variable)
        }
    }

    static func flag(_ text: String, named name: String) throws(StorageError) -> Bool {
        switch text.lowercased() {
        case "true": return true
        case "false": return false
        default:
            throw StorageError(
                .invalidArgument, "\(name) is \(quoted(text)): use true or false",
                details: [("name", .string(name)), ("value", .string(text))])
        }
    }
}

/// What the sources of credentials need of the world.
struct AuthContext: Sendable {
    var files: AuthFiles
    var transport: any HTTPTransport
    /// Runs a program without a shell and returns what it writes to its standard output.
    var runProgram:
        @Sendable (_ arguments: [String], _ limits: Program.Limits, _ progress: Progress) async throws(StorageError) ->
            [UInt8]
    var sleep: @Sendable (_ milliseconds: Int64) async -> Void
    /// For what goes wrong without failing yet. Never holds a secret.
    var warn: @Sendable (_ message: String, _ details: [(String, JSONValue)]) -> Void

    init(transport: any HTTPTransport, files: AuthFiles = AuthFiles()) {
        self.files = files
        self.transport = transport
        runProgram = { arguments, limits, progress async throws(StorageError) in
            try await Program.run(arguments, limits: limits, progress: progress)
        }
        sleep = { await Engine.shared.sleep(milliseconds: $0) }
        warn = { Log.shared.write(.warning, $0, $1) }
    }

    func variable(_ name: String) -> String? { files.environment.variable(name) }
    /// Seconds since 1970.
    var now: Double { files.environment.now() }
    var bootMilliseconds: Int64 { files.environment.bootMilliseconds() }
    /// From 0 to 1.
    var random: Double { Double(UInt32(files.environment.randomHex(4), radix: 16) ?? 0) / Double(UInt32.max) }

    /// Sleeps in slices, so that a cancellation is answered at once.
    func pause(_ milliseconds: Int64, _ progress: Progress) async throws(StorageError) {
        var rest = milliseconds
        while rest > 0 {
            try progress.checkCancelled()
            await sleep(min(rest, 50))
            rest -= 50
        }
        try progress.checkCancelled()
    }
}
