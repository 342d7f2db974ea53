internal import CStorage

/// The checks of `raystorage doctor` as they are made: name, outcome, words, time.
final class DoctorChecks {
    private var documents: [JSONValue] = []
    /// No check has failed so far.
    private(set) var isFine = true
    /// Of the last check that failed.
    private(set) var failure: StorageError?

    /// Makes one check: `body` says what is fine, or throws what is not. True: it is fine.
    @discardableResult
    func check(_ name: String, _ body: () async throws(StorageError) -> String) async -> Bool {
        let start = cs_monotonic_ns()
        var detail: String
        var ok = true
        var error: JSONValue = .null
        do throws(StorageError) { detail = try await body() } catch let failure {
            self.failure = failure
            detail = failure.message
            if let advice = Diagnosis.advice(for: failure) { detail += ". \(advice)" }
            error = .make(["code": .string(failure.code.description), "details": failure.detailsDocument])
            ok = false
        }
        isFine = isFine && ok
        documents.append(
            .make([
                "name": .string(name), "ok": .bool(ok), "detail": .string(detail), "error": error,
                "seconds": .number(Double(cs_monotonic_ns() - start) / 1e9),
            ]))
        return ok
    }

    /// The document of `raystorage_path_doctor_start`.
    func document(path: String) -> JSONValue {
        .make(["path": .string(path), "ok": .bool(isFine), "checks": .array(documents)])
    }
}

/// The staging directory of this machine, which every run needs.
enum StagingCheck {
    static func run(_ environment: Environment) throws(StorageError) -> String {
        let host = try HostIdentity.open(nil, environment: environment)
        let free = try System.freeBytes(host.directory)
        return "\(quoted(host.directory)), \(free >> 30) GiB free, host id \(host.id)"
    }
}
