import Glibc
import Testing

@testable import StorageCore

/// Helper programs: real processes.
@Suite struct ProgramTests {
    private func run(
        _ script: String, limits: Program.Limits = Program.Limits(), progress: Progress = Progress()
    ) async throws(StorageError) -> String {
        let bytes = try await Program.run(["sh", "-c", script], limits: limits, progress: progress)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func `gives what a program prints`() async throws {
        #expect(try await run("echo one; sleep 0.05; echo two") == "one\ntwo\n")
        #expect(try await run("head -c 60000 /dev/zero | tr '\\0' x").utf8.count == 60_000)
    }

    @Test func `no shell reads the arguments`() async throws {
        let bytes = try await Program.run(
            ["printf", "%s|", "$HOME", "*", "a b", "`id`"], limits: Program.Limits(), progress: Progress())
        #expect(String(decoding: bytes, as: UTF8.self) == "$HOME|*|a b|`id`|")
    }

    @Test func `a program inherits no descriptor of ours, no input and no blocked signal (P12)`() async throws {
        // Without FD_CLOEXEC, as a host may have them.
        let leaked = open("/etc/passwd", O_RDONLY)
        defer { close(leaked) }
        #expect(fcntl(leaked, F_GETFD) == 0)
        // 0, 1, 2, and the one that ls itself reads the directory with.
        #expect(try await run("ls /proc/self/fd").split(separator: "\n").count == 4)
        #expect(try await run("readlink /proc/self/fd/0") == "/dev/null\n")
        // Signals 32 and 33 are glibc's own, which it ignores in every child.
        #expect(
            try await run("grep -E 'Sig(Blk|Ign)' /proc/self/status")
                == "SigBlk:\t0000000000000000\nSigIgn:\t0000000180000000\n")
    }

    @Test func `the status of a program counts`() async throws {
        let failed = await #expect(throws: StorageError.self) { try await run("echo SECRET; exit 3") }
        #expect(failed?.message.contains("\"sh\" ended with status 3") == true)
        #expect(failed?.message.contains("SECRET") == false)
        let killed = await #expect(throws: StorageError.self) { try await run("kill -9 $$") }
        #expect(killed?.message.contains("signal 9") == true)
        let absent = await #expect(throws: StorageError.self) {
            try await Program.run(["/nowhere/tool"], limits: Program.Limits(), progress: Progress())
        }
        #expect(absent?.code == .notFound)
    }

    @Test func `output and time have limits, and what was started ends with it`() async throws {
        let long = await #expect(throws: StorageError.self) { try await run("yes") }
        #expect(long?.message.contains("more than 65536 bytes") == true)
        let slow = await #expect(throws: StorageError.self) {
            try await run("echo $$ >&2; sleep 1000 & sleep 1000", limits: Program.Limits(milliseconds: 200))
        }
        #expect(slow?.code == .timeout)
        // It closes its output and stays.
        let silent = await #expect(throws: StorageError.self) {
            try await run("exec >&-; sleep 1000", limits: Program.Limits(milliseconds: 200))
        }
        #expect(silent?.code == .timeout)
    }

    @Test func `cancelling ends the program`() async throws {
        let progress = Progress()
        progress.cancel()
        let error = await #expect(throws: StorageError.self) { try await run("sleep 1000", progress: progress) }
        #expect(error?.code == .cancelled)
    }

    @Test(arguments: [
        ("a b  c", ["a", "b", "c"]), ("  a\tb\n", ["a", "b"]), ("'a b' \"c d\"", ["a b", "c d"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("a\\ b \\\"", ["a b", "\""]), ("\"a\\\"b\\\\c\\n\"", ["a\"b\\c\\n"]), ("'a\\b\"'", ["a\\b\""]),
        ("'' \"\" x", ["", "", "x"]),
        ("$HOME ~ * `x`", ["$HOME", "~", "*", "`x`"]), ("", []), ("é '日 本'", ["é", "日 本"]),
    ])
    func `splits a command line as AWS does`(line: String, expected: [String]) {
        #expect(Program.arguments(of: line) == expected)
    }

    @Test(arguments: ["'a", "\"a", "a\\", "\"a\\"]) func `a quote that is not closed is no command line`(line: String) {
        #expect(Program.arguments(of: line) == nil)
    }
}
