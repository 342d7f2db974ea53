internal import CStorage
internal import Glibc

/// A helper program: run without a shell, with no descriptor of ours, in a process group of its own.
enum Program {
    struct Limits: Sendable, Equatable {
        var milliseconds: Int64 = 60_000
        var outputBytes = 64 * 1024
    }

    /// Splits a command line as AWS does: blanks, quotes of both kinds, backslashes; nothing is expanded. nil when a quote is
    /// not closed.
    static func arguments(of line: String) -> [String]? {
        var arguments: [String] = []
        var current: [UInt8]?
        var quote: UInt8?
        var rest = Array(line.utf8)[...]
        let backslash = UInt8(ascii: "\\")
        while let byte = rest.popFirst() {
            switch (byte, quote) {
            case (backslash, nil):
                guard let next = rest.popFirst() else { return nil }
                current = (current ?? []) + [next]
            case (backslash, UInt8(ascii: "\"")):
                guard let next = rest.popFirst() else { return nil }
                let isEscape = next == backslash || next == UInt8(ascii: "\"")
                current = (current ?? []) + (isEscape ? [next] : [backslash, next])
            case (let byte, let open?) where byte == open: quote = nil
            case (UInt8(ascii: "\""), nil), (UInt8(ascii: "'"), nil):
                quote = byte
                current = current ?? []
            case (0x20, nil), (0x09...0x0D, nil):
                if let word = current { arguments.append(String(decoding: word, as: UTF8.self)) }
                current = nil
            default: current = (current ?? []) + [byte]
            }
        }
        if let word = current { arguments.append(String(decoding: word, as: UTF8.self)) }
        return quote == nil ? arguments : nil
    }

    /// The program's standard output when it ends with status 0 within the limits. It is killed, with what it started,
    /// when it does not, or when `progress` is cancelled. Its standard error is the host's: people may have to read it.
    static func run(
        _ arguments: [String], limits: Limits, progress: Progress
    ) async throws(StorageError) -> [UInt8] {
        let name = arguments.first ?? ""
        var ends: [Int32] = [-1, -1]
        guard cs_pipe(&ends) == 0 else { throw .system(errno, "pipe", name) }
        let output = ends[0]
        defer { cs_close(output) }
        var child: pid_t = 0
        let failure = Self.spawn(arguments, output: ends[1], &child)
        cs_close(ends[1])
        guard failure == 0 else { throw .system(failure, "posix_spawn", name) }
        let bytes: [UInt8]
        do throws(StorageError) { bytes = try await read(output, name, limits, progress) } catch {
            kill(child)
            throw error
        }
        try await end(child, name, limits, progress)
        return bytes
    }

    /// A child that was not waited for yet, so that its id is still its own.
    private static func kill(_ child: pid_t) {
        killpg(child, SIGKILL)
        _ = cs_waitpid(child, nil, 0)
    }

    private static func spawn(_ arguments: [String], output: Int32, _ child: inout pid_t) -> Int32 {
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        guard !pointers.isEmpty, !pointers.contains(nil) else { return ENOMEM }
        pointers.append(nil)
        return cs_spawn(&pointers, output, &child)
    }

    /// Everything up to the end of the output, looking again every few milliseconds: no thread is held meanwhile.
    private static func read(
        _ output: Int32, _ name: String, _ limits: Limits, _ progress: Progress
    ) async throws(StorageError) -> [UInt8] {
        _ = cs_set_nonblocking(output)
        let deadline = Deadline(timeoutMilliseconds: limits.milliseconds)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            try progress.checkCancelled()
            let count = buffer.withUnsafeMutableBytes { cs_read(output, $0.baseAddress, $0.count) }
            if count == 0 { return bytes }
            if count > 0 {
                bytes.append(contentsOf: buffer.prefix(count))
                if bytes.count > limits.outputBytes {
                    throw StorageError(
                        .io, "\(quoted(name)) writes more than \(limits.outputBytes) bytes",
                        details: [("operation", "posix_spawn"), ("path", .string(name))])
                }
                continue
            }
            guard errno == EAGAIN || errno == EINTR else { throw .system(errno, "read", name) }
            if deadline.isPast { throw late(name, limits) }
            await Engine.shared.sleep(milliseconds: 5)
        }
    }

    /// Waits for the end and looks at the status. Where the host ignores SIGCHLD, or waits for every child itself, the status
    /// is lost and what was written has to do.
    private static func end(
        _ child: pid_t, _ name: String, _ limits: Limits, _ progress: Progress
    ) async throws(StorageError) {
        let deadline = Deadline(timeoutMilliseconds: limits.milliseconds)
        while true {
            var status: Int32 = 0
            let ended = cs_waitpid(child, &status, WNOHANG)
            if ended == -1, errno == ECHILD { return }
            if ended == child {
                let signal = status & 0x7F
                let code = status >> 8 & 0xFF
                if status == 0 { return }
                throw StorageError(
                    .io,
                    "\(quoted(name)) ended with \(signal == 0 ? "status \(code)" : "signal \(signal)"); what it says about "
                        + "it is on the standard error",
                    details: [("operation", "posix_spawn"), ("path", .string(name))])
            }
            if progress.isCancelled || deadline.isPast {
                kill(child)
                try progress.checkCancelled()
                throw late(name, limits)
            }
            await Engine.shared.sleep(milliseconds: 5)
        }
    }

    private static func late(_ name: String, _ limits: Limits) -> StorageError {
        StorageError(
            .timeout, "\(quoted(name)) did not end within \(limits.milliseconds / 1000) s",
            details: [("operation", "posix_spawn"), ("path", .string(name))], isRetryable: true)
    }
}
