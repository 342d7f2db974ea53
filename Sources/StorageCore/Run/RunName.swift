/// The names of run directories.
public enum RunName {
    /// What a run name may be, for error texts.
    public static let allowed =
        "one path component of 1 to \(PathComponent.maximumBytes) bytes without leading dot, leading '~', '/' and"
        + " control characters"

    /// Refuses a name that could leave the storage path, hide in it or be taken for a home directory, with
    /// INVALID_ARGUMENT (details `name`, `value`, `allowed`).
    public static func validate(_ name: String) throws(StorageError) {
        var problem = PathComponent.problem(name)
        // A shell reads `~name` as somebody's home, so a pasted command would act on the wrong directory. Behind the
        // first place `~` is free: only checkpoint directories use it to separate.
        if problem == nil, name.utf8.first == UInt8(ascii: "~") { problem = "begins with '~'" }
        if let problem {
            throw PathComponent.refusal("run name", argument: "name", name, problem, allowed: allowed)
        }
    }

    /// The default: `raystorage_run-<date>_<time>-<4 hex>` in local time; the random digits keep runs apart that start
    /// within one second.
    public static func automatic(_ environment: Environment) -> String {
        automatic(now: environment.now(), randomHex: environment.randomHex(2), localTime: LocalTime.system)
    }

    static func automatic(now: Double, randomHex: String, localTime: (Double) -> LocalTime) -> String {
        "raystorage_run-\(localTime(now).underscored)-\(randomHex)"
    }
}
