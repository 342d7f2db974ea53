internal import CStorage

/// What kind of file system a path is on, by the magic number of `statfs(2)`.
enum FileSystemKind {
    private static let network: Set<Int64> = [
        0x6969,  // NFS
        0x517B, 0xFF53_4D42, 0xFE53_4D42,  // SMB, CIFS, SMB2
        0x6573_5546,  // FUSE
        0x0BD0_0BD0,  // Lustre
        0x00C3_6400,  // CephFS
        0x4750_4653,  // GPFS
        0x0102_1997,  // 9p
        0x1983_0326,  // BeeGFS
        0x5346_414F, 0x6B41_4653,  // OpenAFS, kAFS
        0x7375_7245,  // Coda
        0xAAD7_AAEA,  // PanFS
        0x7461_636F, 0x0116_1970,  // OCFS2, GFS2: shared disks, whose locks cost a network round trip
    ]

    /// Whether reading it again costs a network; false when it cannot be told.
    static func isNetwork(_ path: String) -> Bool { network.contains(cs_filesystem_type(path)) }

    /// Whether it lives in memory and is gone after a power cut.
    static func isMemory(_ path: String) -> Bool {
        let type = cs_filesystem_type(path)
        return type == 0x0102_1994 || type == 0x8584_58F6
    }
}
