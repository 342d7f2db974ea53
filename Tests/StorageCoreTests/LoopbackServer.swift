import Glibc

@testable import StorageCore

/// An HTTP server in a process of its own, for tests of the transport: real sockets, real misbehaviour.
///
/// `/echo` answers with the request line, headers and length and CRC of the body as JSON; `/bytes?N` with N bytes (byte i is
/// i mod 251), or a `Range` of those; `/bytes?N&cut=K` closes after K of them; `/stall?N` sends N bytes and then nothing; `/early` refuses with 403
/// before it reads the body and lingers; CONNECT is refused with 403; `/headers?N` sends N bytes of headers; `/garbage` no HTTP at all; `/status?S`;
/// `/hangup` answers, and ends the connection a moment later without a word.
final class LoopbackServer: @unchecked Sendable {
    // Proof for @unchecked: set once, closed once in deinit.
    let port: Int
    private let pipe: UnsafeMutablePointer<FILE>
    private let fixture: TreeFixture

    /// With a certificate and its key (paths of PEM files) it speaks TLS.
    init(certificate: String? = nil, key: String? = nil) throws {
        fixture = try TreeFixture()
        try fixture.file("server.py", Array(Self.script.utf8))
        let address = fixture.at("port")
        let command = "exec python3 -u '\(fixture.at("server.py"))' '\(address)' '\(certificate ?? "")' '\(key ?? "")'"
        guard let opened = popen(command, "we") else { throw StorageError(.io, "popen") }
        pipe = opened
        let deadline = Deadline(timeoutMilliseconds: 600_000)
        var found: Int?
        while found == nil, !deadline.isPast {
            found = (try? OpenFile(address, O_RDONLY)).flatMap { try? $0.readAll(limit: 100) }
                .flatMap { Int(String(decoding: $0, as: UTF8.self)) }
            if found == nil { usleep(2000) }
        }
        guard let found else { throw StorageError(.timeout, "the server does not start") }
        port = found
    }

    deinit { pclose(pipe) }

    func url(_ path: String, query: String = "", scheme: String = "http", host: String = "127.0.0.1") -> HTTPURL {
        HTTPURL(scheme: scheme, host: host, port: port, path: path, query: query)
    }

    private static let script = #"""
        import json, os, socket, ssl, sys, threading, time, zlib

        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        context = None
        if sys.argv[2]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[2], sys.argv[3])
        connections = 0

        def head(stream):
            lines = []
            while True:
                line = stream.readline(65536)
                if not line:
                    return None
                if line in (b"\r\n", b"\n"):
                    return lines
                lines.append(line.decode("latin-1").rstrip("\r\n"))

        def serve(raw):
            global connections
            try:
                connection = context.wrap_socket(raw, server_side=True) if context else raw
            except OSError:
                return
            connections += 1
            number = connections
            stream = connection.makefile("rb")
            with connection:
                while True:
                    lines = head(stream)
                    if not lines:
                        return
                    method, target, _ = lines[0].split(" ", 2)
                    fields = [line.split(":", 1) for line in lines[1:]]
                    named = {name.lower(): value.strip() for name, value in fields}
                    path, _, query = target.partition("?")
                    values = query.split("&")
                    def send(status, body, announced=None, extra=""):
                        length = len(body) if announced is None else announced
                        connection.sendall(
                            f"HTTP/1.1 {status} Some\r\nContent-Length: {length}\r\nX-Number: {number}\r\n{extra}\r\n".encode())
                        if method != "HEAD":
                            connection.sendall(body)
                    if method == "CONNECT":
                        send(403, b"not through me")
                        return
                    if path == "/early":
                        send(403, b"<Error>no</Error>", extra="Connection: close\r\n")
                        connection.shutdown(socket.SHUT_WR)
                        # Lingers, as servers do: a reset may overtake the answer.
                        while connection.recv(1 << 20):
                            pass
                        return
                    left = int(named.get("content-length", "0"))
                    size, crc = left, 0
                    while left:
                        piece = stream.read(min(left, 1 << 20))
                        if not piece:
                            return
                        left -= len(piece)
                        crc = zlib.crc32(piece, crc)
                    if path == "/bytes":
                        count = int(values[0])
                        pattern = bytes(range(251))
                        body = (pattern * (count // 251 + 1))[:count]
                        status = 200
                        if "range" in named:
                            first, _, last = named["range"].removeprefix("bytes=").partition("-")
                            body, status = body[int(first) : int(last) + 1], 206
                        if len(values) > 1 and values[1] != "page":
                            send(status, body[: int(values[1].split("=")[1])], announced=len(body))
                            return
                        send(status, body, extra="" if "page" in values else 'ETag: "e"\r\n')
                    elif path == "/stall":
                        send(200, b"x" * int(values[0]), announced=int(values[0]) + 1)
                        stream.read(1)
                        return
                    elif path == "/silent":
                        stream.read(1)
                        return
                    elif path == "/headers":
                        send(200, b"", extra="".join(f"X-{i}: {'y' * 1000}\r\n" for i in range(int(values[0]) // 1000)))
                    elif path == "/garbage":
                        connection.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
                        return
                    elif path == "/hangup":
                        send(200, b"x")
                        time.sleep(0.02)
                        return
                    elif path == "/status":
                        send(int(values[0]), b"z" * 2_000_000)
                    else:
                        answer = {"method": method, "target": target, "headers": named, "size": size, "crc32": crc}
                        send(200, json.dumps(answer).encode())

        def accept():
            while True:
                raw, _ = listener.accept()
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(raw,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        with open(sys.argv[1] + ".new", "w") as file:
            file.write(str(listener.getsockname()[1]))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        sys.stdin.read()
        os._exit(0)
        """#
}
