import Testing

@testable import StorageCore

/// Reports one after the other, as a run does, and forgets what was evicted.
private func survivors(_ metrics: [String], _ policy: RetentionPolicy) throws -> (ranked: String, best: String) {
    var kept: [RetentionCandidate] = []
    var plan = RetentionPlan(ranked: [], evicted: [], best: [])
    for (index, text) in metrics.enumerated() {
        kept.append(
            RetentionCandidate(
                id: "\(index)", sequence: ReportSequence(epoch: 1, index: index), metrics: try JSONParser.parse(text)))
        plan = Retention.plan(kept, latest: "\(index)", policy: policy)
        kept.removeAll { plan.evicted.contains($0.id) }
        #expect(Set(plan.ranked) == Set(kept.map(\.id)))
    }
    return (plan.ranked.joined(), plan.best.joined())
}

private func scores(_ texts: String...) -> [String] { texts.map { "{\"s\":\($0)}" } }

@Suite struct RetentionTests {
    /// What ray 2.60.0's CheckpointManager gives for the same reports, unless marked.
    @Test(
        arguments: [
            // No attribute: report order.
            (scores("1", "2", "3"), nil, 2, "max", "12", "12"),
            (scores("1", "2", "3"), nil, nil, "max", "012", "012"),
            // The latest stays, and goes with the next one.
            (scores("3", "2", "1"), "s", 2, "max", "210", "10"),
            (scores("3", "2", "1", "0"), "s", 2, "max", "310", "10"),
            (scores("3", "2", "1", "9"), "s", 2, "max", "03", "03"),
            (scores("3", "2", "1"), "s", 1, "min", "2", "2"),
            (scores("1", "2", "3"), "s", 1, "min", "20", "0"),
            // Ties: the later one is better.
            (scores("1", "1", "1"), "s", 2, "max", "12", "12"),
            (scores("1", "1", "1", "0"), "s", 2, "min", "23", "23"),
            (scores("0.0", "-0.0", "false"), "s", 2, "min", "12", "12"),
            // NaN below -Infinity, for both orders.
            (scores("NaN", "-Infinity", "Infinity", "0"), "s", nil, "max", "0132", "0132"),
            (scores("Infinity", "NaN", "-Infinity", "0"), "s", nil, "min", "1032", "1032"),
            (scores("NaN", "NaN", "1"), "s", 2, "min", "12", "12"),
            // Truth values are numbers.
            (scores("0.5", "true", "false"), "s", nil, "max", "201", "201"),
            // Large integers are compared as floating point.
            (scores("9007199254740993", "9007199254740992"), "s", nil, "max", "01", "01"),
            // Flat keys.
            (["{\"a\":{\"b\":2}}", "{\"a/b\":1}", "{\"a\":{\"b\":3}}"], "a/b", 1, "max", "2", "2"),
            (["{\"a\":{\"b\":1},\"a/b\":9}", "{\"a/b\":5}"], "a/b", nil, "max", "01", "01"),
            (["{\"a\":{\"b/c\":2}}", "{\"a/b\":{\"c\":1}}"], "a/b/c", nil, "max", "10", "10"),
            // Not Ray's: missing is worst, for both orders and below NaN.
            (["{}", "{\"s\":NaN}", "{\"s\":1}"], "s", nil, "max", "012", "012"),
            (["{\"s\":NaN}", "{}", "{\"s\":1}", "{\"s\":-Infinity}"], "s", nil, "max", "1032", "1032"),
            (["{\"s\":1}", "{}", "{\"s\":null}", "{\"s\":{}}", "{\"s\":2}"], "s", nil, "min", "12340", "12340"),
            (["{\"s\":1}", "{}"], "s", 1, "min", "10", "0"),
        ] as [([String], String?, Int?, String, String, String)])
    func `keeps what Ray keeps`(
        metrics: [String], attribute: String?, keep: Int?, order: String, ranked: String, best: String
    ) throws {
        let policy = RetentionPolicy(
            numToKeep: keep, scoreAttribute: attribute, order: try #require(RetentionPolicy.Order(rawValue: order)))
        let result = try survivors(metrics, policy)
        #expect(result.ranked == ranked)
        #expect(result.best == best)
    }

    @Test func `a late commit of an early report counts as early`() {
        let candidates = [3, 1, 2].map {
            RetentionCandidate(id: "\($0)", sequence: ReportSequence(epoch: 1, index: $0), metrics: .object([]))
        }
        let plan = Retention.plan(candidates, latest: "3", policy: RetentionPolicy(numToKeep: 2))
        #expect(plan == RetentionPlan(ranked: ["2", "3"], evicted: ["1"], best: ["2", "3"]))
    }

    @Test(arguments: [#"{"s":"0.5"}"#, #"{"s":[1]}"#, #"{"s":""}"#])
    func `a score that is no number is a problem before anything is stored`(text: String) throws {
        let metrics = try JSONParser.parse(text)
        let error = #expect(throws: StorageError.self) {
            try RetentionPolicy(scoreAttribute: "s").validateScore(in: metrics)
        }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains(metrics["s"]?.compact ?? "?") == true)
        try RetentionPolicy(scoreAttribute: "t").validateScore(in: metrics)
        try RetentionPolicy().validateScore(in: metrics)
    }

    @Test(arguments: ["NaN", "true", "null", "1", "-Infinity", "123456789012345678901234567890"])
    func `a number, a truth value and null are scores`(text: String) throws {
        try RetentionPolicy(scoreAttribute: "s").validateScore(in: JSONParser.parse("{\"s\":\(text)}"))
    }

    @Test func `refuses to keep nothing`() throws {
        for count in [0, -1] {
            let error = #expect(throws: StorageError.self) { try RetentionPolicy(numToKeep: count).validate() }
            #expect(error?.code == .invalidArgument)
        }
        #expect(throws: StorageError.self) { try RetentionPolicy(scoreAttribute: "").validate() }
        try RetentionPolicy(numToKeep: 1, scoreAttribute: "s", order: .min).validate()
        try RetentionPolicy().validate()
    }

    /// What ray 2.60.0's flatten_dict gives.
    @Test(arguments: [
        (#"{"a":1,"b":{"c":2,"d":{"e":3}},"f":[{"g":1}]}"#, #"{"a":1,"f":[{"g":1}],"b/c":2,"b/d/e":3}"#),
        (#"{"a/b":1,"a":{"b":2},"z":0}"#, #"{"a/b":2,"z":0}"#),
        (#"{"a":{"b":2},"a/b":{"c":1}}"#, #"{"a/b/c":1}"#),
        (#"{"a":{},"b":{"c":{}}}"#, "{}"),
        (#"{"a":1,"b":2,"a":3}"#, #"{"a":3,"b":2}"#),
        (#"{"a":{"b":{"c":1}},"a/b":5}"#, #"{"a/b/c":1}"#),
        (#"[1]"#, "{}"),
    ])
    func `flattens as Ray does`(text: String, flat: String) throws {
        #expect(JSONValue.object(FlatMetrics.flatten(try JSONParser.parse(text))).compact == flat)
    }

    @Test func `keys are bytes, not characters`() throws {
        let metrics = try JSONParser.parse("{\"\u{E9}\":1,\"e\u{301}\":2}")
        #expect(FlatMetrics.flatten(metrics).count == 2)
        #expect(FlatMetrics.value("\u{E9}", in: metrics) == 1)
    }
}
