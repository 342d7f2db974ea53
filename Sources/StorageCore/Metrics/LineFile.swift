internal import CStorage
internal import Glibc

/// A file of whole lines that one process appends to.
struct LineFile {
    let path: String
    private let calls: FileCalls
    private var file: OpenFile?
    /// Bytes in the file, all of them whole lines.
    private(set) var length = 0

    /// Opens the file if it is there; it is created by the first `append`.
    init(_ path: String, _ calls: FileCalls) throws(StorageError) {
        self.path = path
        self.calls = calls
        do throws(StorageError) {
            let file = try OpenFile(path, O_RDWR | O_APPEND)
            self.file = file
            length = try file.status().size
        } catch {
            guard error.code == .notFound else { throw error }
        }
    }

    /// Cuts the file back to its last whole line that is good, and returns that line without its newline; nil when
    /// none is left. What a crash leaves behind the last newline, or as zeros, goes.
    mutating func cutToLastLine(where isGood: ([UInt8]) -> Bool) throws(StorageError) -> [UInt8]? {
        guard let file else { return nil }
        var end = try newline(before: length).map { $0 + 1 } ?? 0
        var line: [UInt8]?
        while end > 0 {
            let start = try newline(before: end - 1).map { $0 + 1 } ?? 0
            let text = try read(start..<(end - 1))
            if isGood(text) {
                line = text
                break
            }
            end = start
        }
        if end != length {
            try System.check("ftruncate", path) { calls.truncate(file.descriptor, end) }
            length = end
        }
        return line
    }

    /// The first line without its newline, nil when there is none.
    func firstLine() throws(StorageError) -> [UInt8]? {
        guard length > 0 else { return nil }
        var reader = try LineReader(path)
        var first: [UInt8]?
        try reader.forEach { line throws(StorageError) -> Bool in
            first = Array(line)
            return false
        }
        return first
    }

    /// Appends whole lines by one write. After an error the file may end within a line: open it anew and cut it.
    mutating func append(_ lines: [UInt8]) throws(StorageError) {
        if lines.isEmpty { return }
        if file == nil { file = try OpenFile(path, O_RDWR | O_APPEND | O_CREAT) }
        guard let file else { return }
        var isTorn = false
        try calls.append(lines[...], to: file, length: length, isTorn: &isTorn)
        length += lines.count
    }

    /// The place of the last newline before that offset.
    private func newline(before end: Int) throws(StorageError) -> Int? {
        var end = end
        while end > 0 {
            let start = max(0, end - 64 * 1024)
            if let place = try read(start..<end).lastIndex(of: 0x0A) { return start + place }
            end = start
        }
        return nil
    }

    private func read(_ range: Range<Int>) throws(StorageError) -> [UInt8] {
        guard let file else { return [] }
        var bytes = [UInt8](repeating: 0, count: range.count)
        var done = 0
        while done < bytes.count {
            let count = try System.check("read", path) {
                bytes.withUnsafeMutableBytes { buffer in
                    cs_pread(
                        file.descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done,
                        off_t(range.lowerBound + done))
                }
            }
            if count == 0 { break }
            done += count
        }
        return Array(bytes.prefix(done))
    }
}
