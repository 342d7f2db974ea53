/// Which checkpoints to keep, and how they rank.
public struct RetentionPolicy: Sendable, Equatable {
    /// Which end of the score is better.
    public enum Order: String, Sendable, CaseIterable {
        /// The largest score is the best.
        case max
        /// The smallest score is the best.
        case min
    }

    /// How many to keep besides the latest; nil keeps all.
    public var numToKeep: Int?
    /// The flat key (`a/b` for a nested one) of the metric to rank by; nil ranks by age.
    public var scoreAttribute: String?
    /// Which end of the score is better.
    public var order: Order

    /// Creates a policy; by default everything is kept and ranks by age.
    public init(numToKeep: Int? = nil, scoreAttribute: String? = nil, order: Order = .max) {
        self.numToKeep = numToKeep
        self.scoreAttribute = scoreAttribute
        self.order = order
    }

    /// Refuses `num_to_keep` below 1 and an empty score attribute with INVALID_ARGUMENT.
    public func validate() throws(StorageError) {
        if let numToKeep, numToKeep < 1 {
            throw StorageError(
                .invalidArgument, "num_to_keep is \(numToKeep); allowed is 1 or more, or none to keep all",
                details: [("name", "num_to_keep"), ("value", JSONValue(numToKeep)), ("allowed", ">= 1")])
        }
        if scoreAttribute?.isEmpty == true {
            throw StorageError(
                .invalidArgument, "checkpoint_score_attribute is empty; allowed is the name of a metric, or none",
                details: [("name", "checkpoint_score_attribute"), ("allowed", "the name of a metric, or none")])
        }
    }

    /// Refuses metrics whose score is no number with INVALID_ARGUMENT, to be called before a byte is stored. A missing
    /// key and `null` are no problem: they rank worst.
    public func validateScore(in metrics: JSONValue) throws(StorageError) {
        guard let scoreAttribute else { return }
        guard let problem = Retention.scoreProblem(metrics: metrics, attribute: scoreAttribute) else { return }
        throw StorageError(
            .invalidArgument, problem,
            details: [
                ("name", "metrics"), ("metric", .string(scoreAttribute)), ("allowed", "a number or a truth value"),
            ])
    }
}

/// A committed checkpoint as retention sees it.
struct RetentionCandidate: Sendable {
    /// Whatever the caller tells checkpoints apart by.
    var id: String
    var sequence: ReportSequence
    var metrics: JSONValue
}

/// What a policy makes of the committed checkpoints.
struct RetentionPlan: Sendable, Equatable {
    /// Those that stay, worst first: the order of `checkpoint_results` in Ray's snapshot.
    var ranked: [String]
    /// Those to un-commit, worst first.
    var evicted: [String]
    /// The best of those that stay, at most `numToKeep`, worst first. The latest may be missing here.
    var best: [String]
}

/// Ray Train's retention (2.60), as a pure function of what is committed:
/// - Ascending by score; of equal scores the later report ranks higher; without an attribute, by age.
/// - The last `numToKeep` stay, and so does the latest, which may make one more.
/// - NaN ranks below -Infinity for either order; truth values count as 0 and 1.
///
/// On purpose not Ray's: a missing key ranks below all, NaN too, for either order (Ray makes it the *best* for "min");
/// the list is ranked anew each time, so that changed settings apply to old checkpoints; order of age is that of
/// (epoch, index), so that a late commit of an early report evicts nothing newer by being late.
enum Retention {
    /// Plans for these candidates, in any order. `latest` is never evicted.
    static func plan(
        _ candidates: [RetentionCandidate], latest: String?, policy: RetentionPolicy
    ) -> RetentionPlan {
        let scored = candidates.map { (candidate: $0, score: score($0.metrics, policy)) }
        let sorted = scored.sorted { left, right in
            if left.score != right.score { return left.score < right.score }
            return left.candidate.sequence < right.candidate.sequence
        }
        let ranked = sorted.map(\.candidate.id)
        guard let numToKeep = policy.numToKeep, numToKeep > 0 else {
            return RetentionPlan(ranked: ranked, evicted: [], best: ranked)
        }
        // Ids are compared as bytes: they may be file names.
        let latest = latest.map { Array($0.utf8) }
        let isLatest = { (id: String) in latest.map { id.utf8.elementsEqual($0) } ?? false }
        let worst = ranked.dropLast(numToKeep)
        let best = ranked.suffix(numToKeep)
        return RetentionPlan(
            ranked: worst.filter(isLatest) + best, evicted: worst.filter { !isLatest($0) }, best: Array(best))
    }

    /// What is wrong with the score of these metrics, nil when nothing is.
    static func scoreProblem(metrics: JSONValue, attribute: String) -> String? {
        switch FlatMetrics.value(attribute, in: metrics) {
        case nil, .null?, .bool?, .integer?, .number?, .rawNumber?: return nil
        case let value?:
            let kind = value.stringValue != nil ? "the text" : "the list"
            let text = value.compact
            let shown = text.utf8.count > 100 ? String(text.unicodeScalars.prefix(100)) + "…" : text
            return "checkpoint_score_attribute \(quoted(attribute)) has \(kind) \(shown) as its value;"
                + " allowed is a number or a truth value"
        }
    }

    /// Ordered as declared: missing, NaN, then numbers, larger is better.
    enum Score: Comparable, Sendable {
        case missing
        case notANumber
        case number(Double)
    }

    static func score(_ metrics: JSONValue, _ policy: RetentionPolicy) -> Score {
        guard let attribute = policy.scoreAttribute else { return .missing }
        guard let value = FlatMetrics.value(attribute, in: metrics)?.doubleValue else { return .missing }
        if value.isNaN { return .notANumber }
        return .number(policy.order == .max ? value : -value)
    }
}
