/// Whether data is forced to the disk before anything relies on it.
public enum Durability: String, Sendable {
    /// Every promise holds.
    case fsync
    /// No fsync at all: scratch runs and tests. A power cut may lose or damage everything.
    case none
}
