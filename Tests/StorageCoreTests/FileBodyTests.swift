import Glibc
import Testing

@testable import StorageCore

/// What arrives goes to its file in whole pieces, and only what is there counts as arrived.
@Suite struct FileBodyTests {
    private static let content: [UInt8] = {
        var content = [UInt8](repeating: 0, count: CRC32C.blockSize + 12_345)
        for index in content.indices { content[index] = UInt8(truncatingIfNeeded: index &* 31 &+ index >> 11) }
        return content
    }()

    @Test(arguments: [0, 1, 4096, FileBody.pieceSize - 1, FileBody.pieceSize, 3 * FileBody.pieceSize + 77])
    func `pieces end on multiples of their size, wherever the bytes begin`(start: Int) async throws {
        let fixture = try TreeFixture()
        let file = try OpenFile(fixture.at("out"), O_RDWR | O_CREAT)
        let content = Self.content
        var random = SeededRandom(UInt64(start))
        let body = FileBody(file, offset: start, expected: content.count)
        var taken = 0
        while taken < content.count {
            // curl's 16 KiB, rests of a buffer, and more than a piece at once.
            let most = [100, 16 << 10, FileBody.pieceSize, 3 * FileBody.pieceSize].randomElement(using: &random) ?? 1
            let count = min(content.count - taken, Int.random(in: 1...most, using: &random))
            try content[taken..<(taken + count)].withUnsafeBytes { part in try body.take(part) }
            taken += count
            let written = body.received.length
            #expect(written == 0 || written == taken || (start + written) % FileBody.pieceSize == 0)
            #expect(taken - written < FileBody.pieceSize)
        }
        try body.flush()
        #expect(body.received.length == content.count)
        #expect(Array(try file.readAll(limit: 30_000_000).dropFirst(start)) == content)
        let blocks = stride(from: 0, to: content.count, by: CRC32C.blockSize).map {
            CRC32C.of(Array(content[$0..<min($0 + CRC32C.blockSize, content.count)]))
        }
        #expect(body.endBlocks() == blocks)
    }

    @Test func `P5 what cannot be written has not arrived`() throws {
        let full = try OpenFile("/dev/full", O_WRONLY)
        var reader = HTTPResponseReader(.file(full, offset: 0, length: 1000))
        for line in ["HTTP/1.1 206 Partial Content", "etag: \"a\"", ""] {
            _ = Array(line.utf8).withUnsafeBytes { reader.takeHeader($0) }
        }
        try Self.content[..<600].withUnsafeBytes { part in try reader.take(part, shown: "here") }
        #expect(reader.arrived()?.length == 0)
        try Self.content[600..<1000].withUnsafeBytes { part in try reader.take(part, shown: "here") }
        #expect {
            _ = try reader.response(shown: "here", method: "GET")
        } throws: {
            ($0 as? StorageError)?.code == .noSpace
        }
    }
}
