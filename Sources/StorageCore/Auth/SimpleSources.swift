/// Keys that were given as arguments. They do not change.
struct GivenCredentials: AWSCredentialsProvider {
    let name = "the access key that was given"
    let given: AWSCredentials

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? { given }
}

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, read anew each time.
struct EnvironmentCredentials: AWSCredentialsProvider {
    let name = "environment"
    let context: AuthContext

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? { try read() }

    func read() throws(StorageError) -> AWSCredentials? {
        let id = context.variable("AWS_ACCESS_KEY_ID") ?? context.variable("AWS_ACCESS_KEY")
        let secret = context.variable("AWS_SECRET_ACCESS_KEY") ?? context.variable("AWS_SECRET_KEY")
        if id == nil, secret == nil { return nil }
        guard let id, let secret else {
            let (set, unset) =
                id == nil
                ? ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID") : ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            throw StorageError(.unauthenticated, "\(set) is set and \(unset) is not: set both or neither")
        }
        var credentials = AWSCredentials(accessKeyID: id.trimmedBlanks, secretAccessKey: secret.trimmedBlanks)
        credentials.sessionToken =
            (context.variable("AWS_SESSION_TOKEN") ?? context.variable("AWS_SECURITY_TOKEN"))?.trimmedBlanks
        credentials.expiresAt = context.variable("AWS_CREDENTIAL_EXPIRATION").flatMap { UTCTime.parse(iso8601: $0) }
        guard credentials.isSendable else {
            throw StorageError(
                .unauthenticated,
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN holds a blank, a line break or another "
                    + "character that no key has")
        }
        return credentials
    }
}

/// `credential_process`: a program that prints a JSON document.
struct ProcessCredentials: AWSCredentialsProvider {
    var name: String { "credential_process of profile \(quoted(profile))" }
    let context: AuthContext
    let profile: String
    let command: String

    func credentials(
        refreshing rejected: AWSCredentials?, progress: Progress
    ) async throws(StorageError) -> AWSCredentials? {
        guard let arguments = Program.arguments(of: command), let program = arguments.first else {
            throw StorageError(.unauthenticated, "\(name): empty, or a quote is not closed")
        }
        let output: [UInt8]
        do throws(StorageError) {
            output = try await context.runProgram(arguments, Program.Limits(), progress)
        } catch {
            if error.code == .cancelled { throw error }
            var failure = error.while_(name)
            if failure.code != .timeout { failure.code = .unauthenticated }
            throw failure
        }
        // What the program wrote is never repeated.
        func failure(_ reason: String) -> StorageError {
            StorageError(.unauthenticated, "\(name): \(quoted(program)) \(reason)")
        }
        guard let document = try? JSONParser.parse(output), document.objectValue != nil else {
            throw failure("does not print a JSON object")
        }
        guard document["Version"]?.intValue == 1 else { throw failure("does not print \"Version\": 1") }
        var missing = ""
        guard let credentials = AWSCredentials.read(document, token: "SessionToken", missing: &missing) else {
            throw failure("prints a document without \(missing)")
        }
        return credentials
    }
}
