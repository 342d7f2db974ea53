/// The place of one request among those that may run at a time.
///
/// Who waits for something else meanwhile, a pause between tries or a turn that another request holds, gives it back:
/// otherwise those who could go on would wait for those who cannot. For one task at a time.
protocol RequestSlot: Sendable {
    /// Another request may run in its place. Twice is once.
    func release()
    /// Queues for it again, before the others of the same job; nothing to do when it was not given back. CANCELLED when it will
    /// never come.
    func reclaim() async throws(StorageError)
}
