import CStorage
import Glibc
import Synchronization

@testable import StorageCore

/// A directory of a test's own, removed at the end, and words for making and looking at trees in it.
final class TreeFixture: Sendable {
    let path: String

    init(in parent: String = "/tmp") throws {
        path = "\(parent)/raystorage-tree-\(Environment.system.randomHex(8))"
        try System.makeDirectories(path)
    }

    deinit { try? TreeRemoval.remove(path) }

    func at(_ name: String) -> String { name.isEmpty ? path : "\(path)/\(name)" }

    @discardableResult
    func directory(_ name: String, mode: UInt32 = 0o755) throws -> String {
        try System.makeDirectories(at(name))
        try System.check("chmod", at(name)) { chmod(at(name), mode_t(mode)) }
        return at(name)
    }

    func file(_ name: String, _ bytes: [UInt8] = [1, 2, 3], mode: UInt32 = 0o644) throws {
        try System.makeDirectories(Path.parent(at(name)))
        let file = try OpenFile(at(name), O_WRONLY | O_CREAT | O_TRUNC)
        try file.write(bytes)
        try System.check("chmod", at(name)) { fchmod(file.descriptor, mode_t(mode)) }
        try file.close()
    }

    /// Bytes at offsets, holes in between.
    func sparse(_ name: String, size: Int, _ data: [(offset: Int, bytes: [UInt8])]) throws {
        try System.makeDirectories(Path.parent(at(name)))
        let file = try OpenFile(at(name), O_WRONLY | O_CREAT | O_TRUNC)
        try System.check("ftruncate", at(name)) { ftruncate(file.descriptor, off_t(size)) }
        for piece in data {
            try System.check("pwrite", at(name)) {
                piece.bytes.withUnsafeBytes { pwrite(file.descriptor, $0.baseAddress, $0.count, off_t(piece.offset)) }
            }
        }
    }

    func link(_ name: String, to target: String) throws {
        try System.makeDirectories(Path.parent(at(name)))
        try System.check("symlink", at(name)) { symlink(target, at(name)) }
    }

    func bytes(_ name: String) throws -> [UInt8] { try OpenFile(at(name), O_RDONLY).readAll(limit: 1 << 30) }

    /// Changes bytes of a file without changing its size.
    func overwrite(_ name: String, at offset: Int, _ bytes: [UInt8]) throws {
        let file = try OpenFile(at(name), O_WRONLY)
        try System.check("pwrite", at(name)) {
            bytes.withUnsafeBytes { pwrite(file.descriptor, $0.baseAddress, $0.count, off_t(offset)) }
        }
    }

    func names(_ name: String = "") throws -> Set<String> { Set(try System.list(at(name))) }

    /// One line per entry: path, kind, mode, mtime, size, CRC or target. Equal lines mean equal trees.
    func lines(_ name: String = "") async throws -> [String] { try await Self.lines(at(name)) }

    static func lines(_ path: String) async throws -> [String] {
        let root = try RootDirectory(path)
        let tree = try await FileTree.walk(root, rules: .asFound, progress: Progress())
        var lines: [String] = []
        for entry in tree.entries where entry.path != ".raystorage" && !entry.path.hasPrefix(".raystorage/") {
            var what = "\(entry.status.kind)"
            if let target = entry.target { what += " -> \(target)" }
            if entry.status.kind == .file {
                let bytes = try OpenFile(root.full(entry.path), O_RDONLY).readAll(limit: 1 << 30)
                what += " \(entry.status.size) \(CRC32C.of(bytes))"
            }
            let mode = entry.status.kind == .symlink ? "" : String(entry.status.mode, radix: 8)
            lines.append("\(Array(entry.path.utf8)) \(what) \(mode) \(entry.status.modifiedNanoseconds)")
        }
        return lines
    }
}

/// Repeatable random numbers.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_F491_4F6C_DD1D
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count + 8) { buffer, length in
            let bytes = UnsafeMutableRawBufferPointer(buffer)
            for offset in stride(from: 0, to: count, by: 8) {
                bytes.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
            }
            length = count
        }
    }
}

extension TreeFixture {
    /// Directories, files of odd sizes, holes, links that stay inside, odd names, modes and mtimes.
    func random(_ name: String, seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        var directories = [""]
        var files: [String] = []
        try directory(name)
        for index in 0..<Int.random(in: 5...40, using: &generator) {
            let parent = directories.randomElement(using: &generator) ?? ""
            let odd = ["plain", "sp ace", "pe%20rcent", "new\nline", "é", "e\u{301}", ".hidden", "日本", "quote\"\\"]
            let leaf = "\(odd.randomElement(using: &generator) ?? "")\(index)"
            let path = parent.isEmpty ? leaf : "\(parent)/\(leaf)"
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...2:
                try directory("\(name)/\(path)")
                directories.append(path)
            case 3:
                let size = Int.random(in: 1...(20 << 20), using: &generator)
                let offset = Int.random(in: 0..<size, using: &generator)
                try sparse("\(name)/\(path)", size: size, [(offset, generator.bytes(min(5000, size - offset)))])
                files.append(path)
            case 4 where !files.isEmpty:
                let up = String(repeating: "../", count: path.utf8.count { $0 == UInt8(ascii: "/") })
                try link("\(name)/\(path)", to: "\(up)\(files.randomElement(using: &generator) ?? "")")
            default:
                let size = [0, 1, 4095, 4096, 70_000, CRC32C.blockSize, CRC32C.blockSize + 1, 17 << 20]
                let modes: [UInt32] = [0o644, 0o600, 0o755, 0o400, 0o444]
                let bytes = generator.bytes(size.randomElement(using: &generator) ?? 0)
                try file("\(name)/\(path)", bytes, mode: modes.randomElement(using: &generator) ?? 0o644)
                files.append(path)
            }
        }
        for directory in directories.dropFirst() {
            let mode: UInt32 = [0o755, 0o700, 0o555].randomElement(using: &generator) ?? 0o755
            try System.check("chmod", directory) { chmod(at("\(name)/\(directory)"), mode_t(mode)) }
        }
        let root = try RootDirectory(at(name))
        for path in files + directories.dropFirst() {
            let time = Int64.random(in: 0..<2_000_000_000, using: &generator) * 1_000_000_000 + 123_456_789
            try root.setModified(path, nanoseconds: time)
        }
    }
}

/// The error that the work ends with.
func failure(_ body: () async throws(StorageError) -> Void) async -> StorageError? {
    do throws(StorageError) {
        try await body()
        return nil
    } catch { return error }
}
