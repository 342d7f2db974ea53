internal import Glibc

/// Where a user's own files are when `HOME` does not say.
enum HomeDirectory {
    /// The home directory of the effective user, nil when the user is not in the password file (containers).
    @Sendable static func ofPasswordFile() -> String? {
        var buffer = [CChar](repeating: 0, count: 16 * 1024)
        return buffer.withUnsafeMutableBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return nil }
            var entry = passwd()
            var found: UnsafeMutablePointer<passwd>?
            guard getpwuid_r(geteuid(), &entry, start, buffer.count, &found) == 0, found != nil else { return nil }
            return entry.pw_dir.map { String(cString: $0) }
        }
    }
}
