internal import Synchronization

/// Uploads in parts that nobody completes cost money and are in no listing: whoever deletes ends them as well, as far as the
/// store lets him. A permission that is missing for that is told once and keeps nothing else from being done, since no
/// upload can become a checkpoint, and what one leaves after all is collected as that of a frozen writer.
extension ObjectStore {
    /// The open uploads below a prefix; none where the store does not let us look.
    func openUploads(_ prefix: String, progress: Progress) async throws(StorageError) -> [OpenMultipart] {
        do throws(StorageError) { return try await multiparts(prefix, progress: progress) } catch {
            try doWithout(
                "ListMultipartUploads", error,
                "uploads that nobody completes are not looked for: allow s3:ListBucketMultipartUploads")
            return []
        }
    }

    /// Gives up an upload; it stays where the store does not allow that.
    func endUpload(_ key: String, upload: String, progress: Progress) async throws(StorageError) {
        do throws(StorageError) { try await abortMultipart(key, upload: upload, progress: progress) } catch {
            try doWithout(
                "AbortMultipartUpload", error, "uploads that nobody completes stay: allow s3:AbortMultipartUpload")
        }
    }

    /// Throws what is no refusal.
    private func doWithout(_ operation: String, _ error: StorageError, _ consequence: String) throws(StorageError) {
        guard error.code == .permissionDenied || error.code == .notSupported else { throw error }
        guard ToldRefusals.shared.isNew([queueName, bucketAddress, operation]) else { return }
        Log.shared.write(
            .warning, "\(error.message); \(consequence), or have the bucket's lifecycle rule end them",
            error.details.map { ($0.key, $0.value) })
    }
}

/// What this process has said once of each bucket.
private final class ToldRefusals: Sendable {
    private let told = Mutex<Set<[String]>>([])
    static var shared: ToldRefusals { Engine.shared.only(ToldRefusals.self) { ToldRefusals() } }

    func isNew(_ refusal: [String]) -> Bool { told.withLock { $0.insert(refusal).inserted } }
}
