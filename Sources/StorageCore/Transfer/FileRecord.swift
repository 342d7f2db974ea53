/// One entry of a checkpoint's tree, as it was reported.
struct FileRecord: Sendable, Equatable {
    enum Kind: Sendable, Equatable {
        case file
        case directory
        /// Kept as a link; the target is relative and stays inside the checkpoint.
        case symlink(target: String)

        static func == (left: Kind, right: Kind) -> Bool {
            switch (left, right) {
            case (.file, .file), (.directory, .directory): true
            // String's == takes composed and decomposed letters for the same; the kernel does not.
            case (.symlink(let left), .symlink(let right)): left.utf8.elementsEqual(right.utf8)
            default: false
            }
        }
    }

    /// Below the checkpoint's directory, with `/` between components.
    var path: String
    var kind: Kind
    /// Bytes; 0 for what is not a file.
    var size: Int
    /// Permission bits without setuid, setgid and sticky.
    var mode: UInt32
    /// Since 1970.
    var modifiedNanoseconds: Int64
    /// Of the whole file; 0 for an empty file and for what is not a file.
    var crc32c: UInt32
    /// CRC-32C of each block of `CRC32C.blockSize` bytes, the last one of what is left.
    var blocks: [UInt32]

    static func == (left: FileRecord, right: FileRecord) -> Bool {
        left.path.utf8.elementsEqual(right.path.utf8) && left.kind == right.kind && left.size == right.size
            && left.mode == right.mode && left.modifiedNanoseconds == right.modifiedNanoseconds
            && left.crc32c == right.crc32c && left.blocks == right.blocks
    }
}

/// What tells that a file is still the one that was looked at.
extension System.FileStatus {
    /// Whether inode, size, mtime and ctime are the same. The ctime of files that only we write to may be ignored: a
    /// network file system's server sets it again when it gets the bytes.
    func isUnchanged(since earlier: System.FileStatus, ignoringChangeTime: Bool = false) -> Bool {
        inode == earlier.inode && device == earlier.device && size == earlier.size
            && modifiedNanoseconds == earlier.modifiedNanoseconds
            && (ignoringChangeTime || changedNanoseconds == earlier.changedNanoseconds)
    }

    /// Whether fewer bytes are allocated than there are to read.
    var mayHaveHoles: Bool { blocks < (size + 511) / 512 }
}
