internal import Synchronization

/// The key of the last signature: four HMACs make it, and it holds for a day.
final class SigningKeys: Sendable {
    /// All that a key depends on (SigV4, step 3).
    struct Place: Sendable, Equatable {
        var secret: String
        /// `20150830`
        var date: String
        var region: String
        var service: String

        func derived() -> [UInt8] {
            var key = Array("AWS4\(secret)".utf8)
            for part in [date, region, service, "aws4_request"] {
                key = HMAC.sha256(key: key, bytes: Array(part.utf8))
            }
            return key
        }
    }
    private let last = Mutex<(place: Place, key: [UInt8])?>(nil)

    func key(_ place: Place) -> [UInt8] {
        if let known = last.withLock({ $0?.place == place ? $0?.key : nil }) { return known }
        let key = place.derived()
        last.withLock { $0 = (place, key) }
        return key
    }
}

extension SigningKeys.Place: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    var description: String { "\(date)/\(region)/\(service)" }
    var debugDescription: String { description }
    var customMirror: Mirror { Mirror(self, children: ["scope": description]) }
}
