/// `storage_options` that `drain` finds again on this machine: where the store is and how it is spoken to, and a role to
/// assume, never a key or a secret. Those come from where they come from for everybody (environment, files, the machine's
/// own), or are given to `drain`.
extension StoragePath {
    /// The part that may be kept in a file; nil when there is none.
    func rememberable(_ options: JSONValue?) -> JSONValue? {
        guard scheme == .s3, let members = options?.objectValue else { return nil }
        let kept = members.filter { member in
            guard let option = S3Option.named(member.key), option.kind != .secret else { return false }
            return option.key != "access_key_id"
        }
        return kept.isEmpty ? nil : .object(kept)
    }

    /// What was remembered, with what is given now before it.
    static func merged(_ given: JSONValue?, over remembered: JSONValue?) -> JSONValue? {
        guard let kept = remembered?.objectValue else { return given }
        let members = given?.objectValue ?? []
        let keys = Set(members.map { Array($0.key.utf8) })
        return .object(members + kept.filter { !keys.contains(Array($0.key.utf8)) })
    }
}
