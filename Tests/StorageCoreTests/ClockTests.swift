import Glibc
import Testing

@testable import StorageCore

@Suite struct ClockTests {
    @Test(arguments: [
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
    ])
    func `reads the three forms of a Date header`(text: String) {
        #expect(UTCTime.parse(httpDate: text) == 784_111_777)
    }

    @Test(arguments: [
        "", "Sun", "Sun, ", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 PST", "Sun, 06 Nov 1994 08:49:37 GMT x",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT", "784111777",
        String(repeating: "S", count: 10_000),
    ])
    func `refuses what is no Date header`(text: String) {
        #expect(UTCTime.parse(httpDate: text) == nil)
    }

    @Test(arguments: [
        ("2021-09-21T18:41:26Z", 1_632_249_686.0), ("2021-09-21T18:41:26UTC", 1_632_249_686),
        ("2021-09-21T18:41:26", 1_632_249_686), ("2021-09-21T18:41:26+00:00", 1_632_249_686),
        ("2021-09-21T20:41:26+0200", 1_632_249_686), ("2021-09-21 13:11:26-05:30", 1_632_249_686),
        ("2021-09-21T18:41:26.500Z", 1_632_249_686.5), ("1969-12-31T23:59:59Z", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800),
        ("2016-12-31T23:59:60Z", 1_483_228_799),
    ])
    func `reads the times that AWS and its tools write`(text: String, expected: Double) {
        #expect(UTCTime.parse(iso8601: text) == expected)
    }

    @Test(arguments: [
        "", "2021", "2021-09-21", "2021-02-29T00:00:00Z", "2021-13-01T00:00:00Z", "2021-09-21T18:41:26X",
        "2021-09-21T18:41:26.Z", "2021-09-21T18:41:26+", "2021-09-21T18:41:26+99:00", "2021-09-21T18:41:26+05:",
        "2021-09-21T18:41:26ZZ", "٢٠٢١-09-21T18:41:26Z", String(repeating: "2", count: 10_000),
    ])
    func `refuses what is no such time`(text: String) {
        #expect(UTCTime.parse(iso8601: text) == nil)
    }

    @Test func `agrees with the C library about every kind of day`() {
        var random = SeededRandom(5)
        for _ in 0..<5000 {
            var seconds = time_t(random.below(300_000_000_000)) - 60_000_000_000
            var fields = tm()
            gmtime_r(&seconds, &fields)
            let time = UTCTime(secondsSince1970: Double(seconds))
            #expect(time.year == Int(fields.tm_year) + 1900)
            #expect(time.month == Int(fields.tm_mon) + 1)
            #expect(time.day == Int(fields.tm_mday))
            #expect(time.hour == Int(fields.tm_hour) && time.minute == Int(fields.tm_min))
            #expect(time.second == Int(fields.tm_sec))
            #expect(time.secondsSince1970 == Double(seconds))
            #expect(UTCTime.parse(iso8601: time.extended) == Double(seconds))
        }
    }

    @Test(arguments: [Double.nan, .infinity, -.infinity, 1e300, -1e300]) func `no clock is too broken`(seconds: Double)
    {
        #expect(UTCTime(secondsSince1970: seconds).basic.utf8.count == 16)
    }

    // MARK: - Skew

    private let served = "Sun, 06 Nov 1994 08:49:37 GMT"
    private let server = 784_111_777.0

    @Test func `small differences are no skew`() {
        let skew = ClockSkew()
        for difference in [-239.0, -1, 0, 0.5, 239] {
            #expect(!skew.learn(date: served, errorCode: nil, localTime: server + difference))
            #expect(skew.offset == 0)
        }
    }

    @Test(arguments: [-86_400.0, -241, 241, 3600]) func `a large difference is learnt once`(difference: Double) {
        let skew = ClockSkew()
        #expect(skew.learn(date: served, errorCode: nil, localTime: server + difference))
        #expect(skew.offset == -difference)
        #expect(!skew.learn(date: served, errorCode: nil, localTime: server + difference + 10))
        // The clock was set meanwhile: the offset goes again.
        #expect(skew.learn(date: served, errorCode: nil, localTime: server))
        #expect(skew.offset == 0)
    }

    @Test(arguments: ["RequestTimeTooSkewed", "RequestExpired"])
    func `a refusal counts however small the difference`(code: String) {
        let skew = ClockSkew()
        #expect(skew.learn(date: served, errorCode: code, localTime: server + 100))
        #expect(skew.offset == -100)
        // Refused again at the same offset: another try would not help.
        #expect(!skew.learn(date: served, errorCode: code, localTime: server + 100.5))
        #expect(!skew.learn(date: served, errorCode: "AccessDenied", localTime: server + 200))
        #expect(skew.learn(storeTime: server, localTime: server + 50))
        #expect(skew.offset == -50)
    }

    @Test func `without a date nothing is learnt`() {
        let skew = ClockSkew()
        #expect(!skew.learn(date: nil, errorCode: "RequestTimeTooSkewed", localTime: 0))
        #expect(!skew.learn(date: "yesterday", errorCode: "RequestTimeTooSkewed", localTime: 0))
        #expect(!skew.learn(date: served, errorCode: "RequestTimeTooSkewed", localTime: .nan))
        #expect(skew.offset == 0)
    }
}
