import Glibc

@testable import StorageCore

/// The services that hand out AWS credentials (`Tests/servers/identity.py`), in a process of its own. Each way to find them is a
/// set of environment variables, with the files that they name.
final class IdentityServer: @unchecked Sendable {
    // Proof for @unchecked: set once, closed once in deinit.
    private let pipe: UnsafeMutablePointer<FILE>
    private let directory: String
    let ways: JSONValue

    init(lifetimeSeconds: Int = 3600, failures: [Int] = []) throws {
        directory = "/tmp/raystorage-identity-\(Environment.system.randomHex(8))"
        try System.makeDirectories(directory)
        let answer = directory + "/ways"
        let tests = Path.parent(Path.parent(#filePath))
        let command =
            "exec python3 -c '\(Self.script)' '\(tests)' '\(directory)' \(lifetimeSeconds) "
            + failures.map { String($0) }.joined(separator: " ")
        guard let opened = popen(command, "we") else { throw StorageError(.io, "popen") }
        pipe = opened
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        var found: JSONValue?
        while found == nil, !deadline.isPast {
            found = (try? OpenFile(answer, O_RDONLY)).flatMap { try? $0.readAll(limit: 100_000) }
                .flatMap { try? JSONParser.parse($0) }
            if found == nil { usleep(2000) }
        }
        guard let found else { throw StorageError(.timeout, "the server does not start") }
        ways = found
    }

    deinit {
        pclose(pipe)
        try? System.removeTree(directory)
    }

    /// The environment of one way, and no other variable.
    func context(_ way: String, adding: [String: String] = [:]) -> AuthContext {
        var variables = ["AWS_EC2_METADATA_DISABLED": "true", "HOME": directory + "/nobody", "AWS_REGION": "us-east-1"]
        for member in ways[way]?.objectValue ?? [] { variables[member.key] = member.value.stringValue }
        variables.merge(adding) { $1 }
        let fixed = variables
        var environment = Environment.system
        environment.variable = { fixed[$0] }
        environment.names = { Array(fixed.keys) }
        return AuthContext(transport: CurlTransport(tls: TLSOptions()), files: AuthFiles(environment: environment))
    }

    private static let script = """
        import json, os, sys, types
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        # For checksums of the store that lies beside; these services take none.
        sys.modules["awscrt"] = types.ModuleType("awscrt")
        sys.modules["awscrt"].checksums = None
        from servers.identity import FakeIdentity
        place = Path(sys.argv[2])
        identity = FakeIdentity(lifetime_s=float(sys.argv[3]))
        identity.failures = [int(status) for status in sys.argv[4:]]
        def at(name):
            path = place / name
            path.mkdir()
            return path
        pod, web, role, process, sso = (at(name) for name in ("pod", "web", "role", "process", "sso"))
        ways = {
            "instance": identity.instance(), "container": identity.container(),
            "pod": identity.container(pod / "token"), "web identity": identity.web_identity(web / "token"),
            "assumed role": identity.assumed_role(role / "config"),
            "process": identity.process(process / "config", process / "fetch"),
            "sso": identity.sso(sso / "config", sso / "home"),
        }
        (place / "ways.new").write_text(json.dumps(ways))
        os.rename(place / "ways.new", place / "ways")
        sys.stdin.read()
        os._exit(len(identity.refusals))
        """
}
