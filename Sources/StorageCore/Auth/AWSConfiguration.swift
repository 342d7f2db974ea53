/// The profiles of both of AWS's files, merged: what the credentials file says wins.
struct AWSConfiguration: Sendable {
    /// One profile.
    struct Profile: Sendable {
        let name: String
        private let fromConfig: ConfigFile.Properties
        private let fromCredentials: ConfigFile.Properties

        fileprivate init(_ name: String, config: ConfigFile.Properties, credentials: ConfigFile.Properties) {
            self.name = name
            fromConfig = config
            fromCredentials = credentials
        }

        /// nil when unset or empty.
        subscript(_ key: String) -> String? {
            [fromCredentials[key], fromConfig[key]].compactMap { $0 }.first { !$0.isEmpty }
        }

        /// Whether the key comes from the credentials file.
        func isInCredentialsFile(_ key: String) -> Bool { !(fromCredentials[key] ?? "").isEmpty }
    }

    private var config = ConfigFile()
    private var credentials = ConfigFile()
    /// The files that were looked for.
    private(set) var paths: [String] = []
    /// What kept a file from being read, other than that it is not there.
    private(set) var problems: [String] = []
    /// For each file what tells its content from another one; nil: it is not there.
    private(set) var marks: [String?] = []

    init() {}

    /// For tests and for files that were read already.
    init(config: String, credentials: String = "") throws(StorageError) {
        self.config = try ConfigFile(config, kind: .config, path: "config")
        self.credentials = try ConfigFile(credentials, kind: .credentials, path: "credentials")
        paths = ["config", "credentials"]
    }

    /// Reads `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`, by default `~/.aws/config` and `~/.aws/credentials`.
    /// Files that are not there are empty; one that breaks the format is INVALID_ARGUMENT.
    init(_ files: AuthFiles) throws(StorageError) {
        config = try read(files, "AWS_CONFIG_FILE", "config", .config)
        credentials = try read(files, "AWS_SHARED_CREDENTIALS_FILE", "credentials", .credentials)
    }

    private mutating func read(
        _ files: AuthFiles, _ variable: String, _ name: String, _ kind: ConfigFile.Kind
    ) throws(StorageError) -> ConfigFile {
        let given = files.environment.variable(variable)
        guard let path = files.expanded(given ?? "~/.aws/\(name)") else { return ConfigFile() }
        paths.append(path)
        let bytes: [UInt8]?
        do throws(StorageError) { bytes = try files.readFile(path, ConfigFile.maximumBytes) } catch {
            problems.append(error.message)
            marks.append(error.message)
            return ConfigFile()
        }
        marks.append(bytes.map { SHA256.hex($0) })
        guard let bytes else { return ConfigFile() }
        return try ConfigFile(String(decoding: bytes, as: UTF8.self), kind: kind, path: path)
    }

    func profile(_ name: String) -> Profile? {
        guard config.profiles[name] != nil || credentials.profiles[name] != nil else { return nil }
        return Profile(
            name, config: config.profiles[name] ?? [:], credentials: credentials.profiles[name] ?? [:])
    }

    func ssoSession(_ name: String) -> ConfigFile.Properties? { config.ssoSessions[name] }

    /// The settings of one service (lower case) in a `[services …]` section.
    func service(_ service: String, in section: String) -> ConfigFile.Properties {
        ConfigFile.nested(config.services[section]?[service])
    }

    var profileNames: [String] { Set(config.profiles.keys).union(credentials.profiles.keys).sorted() }
}
