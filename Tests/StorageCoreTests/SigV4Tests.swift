import Testing

@testable import StorageCore

/// Signatures against the vectors that AWS publishes, and against what botocore computes for keys that are harder.
@Suite struct SigV4Tests {
    private static let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    private static let token = "TOKEN/+="

    struct Vector: Sendable, CustomTestStringConvertible {
        var name: String
        var method = "GET"
        var path = "/"
        var query = ""
        var headers: [HTTPHeader] = []
        var token: String?
        var normalizes = true
        var body = ""
        var hasHash = false
        var canonicalHash: String
        var signature: String
        var testDescription: String { name }
    }

    private static let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    private static let longToken =
        "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwt"
        + "hAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVX"
        + "AkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

    /// 2015-08-30T12:36:00Z, us-east-1, service `service`, host example.amazonaws.com.
    static let vectors: [Vector] = [
        Vector(
            name: "vanilla", canonicalHash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        Vector(
            name: "duplicate header", headers: header("My-Header1", "value2", "value2", "value1"),
            canonicalHash: "dc7f04a3abfde8d472b0ab1a418b741b7c67174dad1551b4117b15527fbe966c",
            signature: "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        Vector(
            name: "folded header", headers: header("My-Header1", "value1\n  value2\n     value3"),
            canonicalHash: "e99419459a677bc11de234014be3c4e72c1ea5b454ceb58b613061f5d7a162e8",
            signature: "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd"),
        Vector(
            name: "order of values", headers: header("My-Header1", "value4", "value1", "value3", "value2"),
            canonicalHash: "31ce73cd3f3d9f66977ad3dd957dc47af14df92fcd8509f59b349e9137c58b86",
            signature: "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
        Vector(
            name: "white space", headers: header("My-Header1", " value1") + header("My-Header2", " \"a   b   c\""),
            canonicalHash: "a726db9b0df21c14f559d0a978e563112acb1b9e05476f0a6a1c7d68f28605c7",
            signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        Vector(
            name: "relative, normalized", path: "/example/..",
            canonicalHash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        Vector(
            name: "twice relative, normalized", path: "/example1/example2/../..",
            canonicalHash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        Vector(
            name: "twice relative", path: "/example1/example2/../..", normalizes: false,
            canonicalHash: "76115030c0f3ff06c20fdff5ceb6d5e0b835a1743e00b94fea7c7f381269437b",
            signature: "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b"),
        Vector(
            name: "relative", path: "/example/..", normalizes: false,
            canonicalHash: "0511f456aa502b456d135fcb9d749374a55228f9dbeedda1eacf659e05b0615b",
            signature: "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282"),
        Vector(
            name: "slash dot slash, normalized", path: "/./",
            canonicalHash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        Vector(
            name: "slash dot slash", path: "/./", normalizes: false,
            canonicalHash: "d67825e2268bd77a97c7688b8d72c31a3c1855b309808505ba0a9747d2465aa7",
            signature: "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"),
        Vector(
            name: "two slashes, normalized", path: "//",
            canonicalHash: "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        Vector(
            name: "pointless dot, normalized", path: "/./example",
            canonicalHash: "214d50c111a8edc4819da6a636336472c916b5240f51e9a51b5c3305180cf702",
            signature: "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        Vector(
            name: "pointless dot", path: "/./example", normalizes: false,
            canonicalHash: "73895e0e829507e28e39fd24669aedc2434a8e179e547e3c075b42921f952cdb",
            signature: "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff"),
        Vector(
            name: "two slashes", path: "//", normalizes: false,
            canonicalHash: "80cb39203d058af815de2b79250ff56e1b73eb9b4718c86556cdc6f150c5d209",
            signature: "c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e"),
        Vector(
            name: "slashes, normalized", path: "//example//",
            canonicalHash: "cb96b4ac96d501f7c5c15bc6d67b3035061cfced4af6585ad927f7e6c985c015",
            signature: "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        Vector(
            name: "slashes", path: "//example//", normalizes: false,
            canonicalHash: "528ec3105ee1f34ab014bb0a1a45da0ed2742a4fea3555149e5b4d5d201eb240",
            signature: "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"),
        Vector(
            name: "space", path: "/example%20space/", normalizes: false,
            canonicalHash: "63ee75631ed7234ae61b5f736dfc7754cdccfedbff4b5128a915706ee9390d86",
            signature: "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        Vector(
            name: "unreserved", path: "/" + unreserved,
            canonicalHash: "6a968768eefaa713e2a6b16b589a8ea192661f098f37349f4e2c0082757446f9",
            signature: "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        Vector(
            name: "UTF-8", path: "/%E1%88%B4", normalizes: false,
            canonicalHash: "2a0a97d02205e45ce2e994789806b19270cfbbb0921b278ccf58f5249ac42102",
            signature: "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        Vector(
            name: "query", query: "Param1=value1",
            canonicalHash: "1e24db194ed7d0eec2de28d7369675a243488e08526e8c1c73571282f7c517ab",
            signature: "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        Vector(
            name: "order of encoded query", query: "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            canonicalHash: "868294f5c38bd141c4972a373a76654f1418a8e4fc18b2e7903ae45e8ae0ec71",
            signature: "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
        Vector(
            name: "order of keys", query: "Param2=value2&Param1=value1",
            canonicalHash: "816cd5b414d056048ba4f7c5386d6e0533120fb1fcfa93762cf0fc39e2cf19e0",
            signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        Vector(
            name: "unreserved query", query: "\(unreserved)=\(unreserved)",
            canonicalHash: "c30d4703d9f799439be92736156d47ccfb2d879ddf56f5befa6d1d6aab979177",
            signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        Vector(
            name: "UTF-8 query", query: "ሴ=bar",
            canonicalHash: "eb30c5bed55734080471a834cc727ae56beb50e5f39d1bff6d0d38cb192a7073",
            signature: "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        Vector(
            name: "session token", token: "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
            canonicalHash: "067b36aa60031588cea4a4cde1f21215227a047690c72247f1d70b32fbbfad2b",
            signature: "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
        Vector(
            name: "POST", method: "POST",
            canonicalHash: "553f88c9e4d10fc9e109e2aeb65f030801b70c2f6468faca261d401ae622fc87",
            signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        Vector(
            name: "POST with a header", method: "POST", headers: header("My-Header1", "value1"),
            canonicalHash: "9368318c2967cf6de74404b30c65a91e8f6253e0a8659d6d5319f1a812f87d65",
            signature: "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        Vector(
            name: "case of a value", method: "POST", headers: header("My-Header1", "VALUE1"),
            canonicalHash: "d51ced243e649e3de6ef63afbbdcbca03131a21a7103a1583706a64618606a93",
            signature: "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
        Vector(
            name: "POST with a session token", method: "POST", token: longToken,
            canonicalHash: "c237e1b440d4c63c32ca95b5b99481081cb7b13c7e40434868e71567c1a882f6",
            signature: "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
        Vector(
            name: "POST with a query", method: "POST", query: "Param1=value1",
            canonicalHash: "9d659678c1756bb3113e2ce898845a0a79dbbc57b740555917687f1b3340fbbd",
            signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        Vector(
            name: "form with a charset", method: "POST",
            headers: header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
                + header("Content-Length", "13"), body: "Param1=value1", hasHash: true,
            canonicalHash: "a89f1a5b53e37702ee6363ce1da3ce8f54386f3c8f352ae652153c2982a0bc4d",
            signature: "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422"),
        Vector(
            name: "form", method: "POST",
            headers: header("Content-Type", "application/x-www-form-urlencoded") + header("Content-Length", "13"),
            body: "Param1=value1", hasHash: true,
            canonicalHash: "b1edd1d03544c25390e32085d55b57acc9a3961bb59415ff86c45c3d89d16cfb",
            signature: "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"),
    ]

    private static func header(_ name: String, _ values: String...) -> [HTTPHeader] {
        values.map { HTTPHeader(name, $0) }
    }

    @Test(arguments: vectors) func `signs as AWS's published vectors say`(vector: Vector) {
        var request = HTTPRequest(
            vector.method,
            HTTPURL(scheme: "https", host: "example.amazonaws.com", path: vector.path, query: vector.query),
            headers: vector.headers)
        let body = Array(vector.body.utf8)
        request.body = .bytes(body)
        var signer = SigV4Signer(region: "us-east-1", service: "service")
        signer.rules.normalizesPath = vector.normalizes
        signer.rules.encodesPathTwice = vector.normalizes
        signer.rules.sendsPayloadHash = vector.hasHash
        let signed = signer.sign(request, credentials: keys(vector.token), at: 1_440_938_160, payload: .of(body))
        #expect(signed.stringToSign.split(separator: "\n").last.map { String($0) } == vector.canonicalHash)
        #expect(authorization(signed).hasSuffix("Signature=\(vector.signature)"))
        #expect(authorization(signed).hasPrefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/"))
    }

    private func keys(_ token: String? = nil) -> AWSCredentials {
        AWSCredentials(accessKeyID: "AKIDEXAMPLE", secretAccessKey: Self.secret, sessionToken: token)
    }

    private func authorization(_ signed: SigV4Signer.Signed) -> String {
        signed.request.headers.last { $0.name == "Authorization" }?.value ?? ""
    }

    // MARK: - S3

    private let signer = SigV4Signer(region: "eu-central-1")
    /// 2026-11-25T16:05:45Z
    private let now = 1_795_622_745.0

    private func signature(_ method: String, _ path: String, _ query: String = "") -> String {
        let url = HTTPURL(scheme: "https", host: "bucket.s3.eu-central-1.amazonaws.com", path: path, query: query)
        let signed = signer.sign(HTTPRequest(method, url), credentials: keys(), at: now, payload: .unsigned)
        return String(authorization(signed).suffix(64))
    }

    @Test(arguments: [
        ("with space", "43827ec9758c2e722157777218f5cf23bbdc9ee09dd462e649e5661390efe47e"),
        ("plus+sign", "25ea392d316b7adfbb9aa780030d088f38dffb2bb0a46874f74eb53d70e535f1"),
        ("per%cent", "d802603887a0e86c6b98722faf71aef778d326c1009487227e50128119b785c0"),
        ("ünï/cödé", "297e09e2d4804da394d7e8d585b8b0b861d86eab16addf5b559d185bdfa5d2e4"),
        ("..", "3ced5a0766e30fec2d8dc02da201675f076a0dbbffb1596c6f1ec1a09b859509"),
        ("a/../b", "465e02d05668b587c7f36357488372dd40a33d56b7a78a07668fda9e63ba4f78"),
        ("a//b", "843b45c0124898e15c86660f6707bdc9c2fd9e6bf380868c4d5423461a822d2b"),
        ("/lead", "0239b032f95ff46b63e8d12f6f4f14edc30c589f1a540e7ed7395d4f9eef44de"),
        ("tilde~", "db4b4827cc13319b537f8d8692cd2e6a16a0401fb070e1982cbced70fcf6f222"),
        ("star*", "d7ce97bd72e84293ff0c68e053bc7abb5c23dab8eea60b5d0e01bec8d6ee6b86"),
        ("eq=ual", "9b8ad37aab89b93f5657fd3ffca285ea01a0554a33896bafa909ca33cd9e817a"),
        ("q?uery", "2c45e558c98b67d0832c1a473f788ad3e84a7d53d26fedb5dcc8f4e026f3717e"),
        ("hash#", "a6ea88697a8d3d924798d9f6dcc23c35bda3f4ede6d93f3e710fa9f9fa154224"),
        ("semi;colon", "1c1ae7a5869c71186aeb1554eecd98b40befff35a4464f668352def3ce140416"),
        ("at@amp&", "f86e7c337c581cb7e89152400f55b5f078e19a8352ca1ed44c35d7df32d0aa8c"),
        ("'quote'(x)!", "657bc61be1803a676f79a74aaca4366bf742b3a5f2bba30604187470f7cbe1ab"),
        ("$,:[]{}|^`\\\"<>", "22ad702c6372fe4222c3cfad27d0d407b589c85226393f489293459db6932664"),
        ("new\nline", "68ae3c98d42a0b7265e177d4089f3f172d43c8e67918e6f65089aabbec127109"),
        ("😀", "1a0abe94320f6f03ec5f6a538bb949e6bd466de930d1264b74fa75bdf6007d67"),
    ])
    func `signs odd keys as they go over the wire`(key: String, expected: String) {
        #expect(signature("PUT", "/" + PercentEncoding.encode(key, keeping: "/")) == expected)
    }

    @Test(arguments: [
        (
            "list-type=2&prefix=a%2Fb%20c&delimiter=%2F&start-after=",
            "5ae1a2d9c510e2f67e049d587da6c6382016d2cfa7ef5c3648b0601df554b4eb"
        ),
        ("uploads=", "9c3d170d42d08cc8e7921b7015cc7b31751a06992ad11a05c91e5b8c5e5527bc"),
        ("uploads", "9c3d170d42d08cc8e7921b7015cc7b31751a06992ad11a05c91e5b8c5e5527bc"),
        ("&uploads&&", "9c3d170d42d08cc8e7921b7015cc7b31751a06992ad11a05c91e5b8c5e5527bc"),
        ("a=2&a=1&a=10&A=0&b", "951622a550745f0376e0970d4d59e705912627c917efd074b38af0f96bc3402d"),
        (
            "prefix=%C3%BC%2B%26%3D~%2A&max-keys=5",
            "063da354089ba40d3043df62cb4ca17b8ce347961a416dbd125e712617a2f82e"
        ),
        ("max-keys=5&prefix=ü%2b%26=~*", "063da354089ba40d3043df62cb4ca17b8ce347961a416dbd125e712617a2f82e"),
        ("x=~%2F&y=%2F", "5d462efec30dbcc0581fb2298c9d484c48afcb6b78d513cbff48b6b85c58fea5"),
        ("y=/&x=%7e%2f", "5d462efec30dbcc0581fb2298c9d484c48afcb6b78d513cbff48b6b85c58fea5"),
        ("a-b=1&a=2&ab=3", "2e6516d98b2067b70f250bf32e96ac4f872cefd7898cb875a12718cf5bc6bf0c"),
    ])
    func `signs queries whatever their order and encoding`(query: String, expected: String) {
        #expect(signature("GET", "/", query) == expected)
    }

    @Test(arguments: ["%", "%4", "%zz=%", "a=%E", "=", "=&="]) func `takes a broken query as it is`(query: String) {
        #expect(signature("GET", "/", query).utf8.count == 64)
    }

    private var full: HTTPRequest {
        HTTPRequest(
            "PUT", HTTPURL(scheme: "http", host: "127.0.0.1", port: 9000, path: "/b/k"),
            headers: [
                HTTPHeader("X-Amz-Meta-B", "  two   spaces\tand tab  "), HTTPHeader("x-amz-meta-a", "ü"),
                HTTPHeader("Content-Type", "application/octet-stream"), HTTPHeader("User-Agent", "x"),
                HTTPHeader("x-amz-checksum-crc32c", "AAAAAA=="),
            ])
    }

    @Test func `signs headers, a session token and the hash of the payload`() {
        let signed = signer.sign(full, credentials: keys(Self.token), at: now, payload: .of())
        #expect(
            authorization(signed)
                == "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/eu-central-1/s3/aws4_request, SignedHeaders="
                + "content-type;host;x-amz-checksum-crc32c;x-amz-content-sha256;x-amz-date;x-amz-meta-a;x-amz-meta-b;"
                + "x-amz-security-token, Signature=e5a4808bd31e4827a0ab101a3066a6bb36d16bd8b888b7ce8e1e081afe2be468")
        // A second try of the signed request gets the same headers, not twice as many.
        let again = signer.sign(signed.request, credentials: keys(Self.token), at: now, payload: .of())
        #expect(again.request.headers == signed.request.headers)
    }

    @Test func `signs for S3 Express with the session's header`() {
        let signer = SigV4Signer(region: "us-east-1", service: "s3express")
        let url = HTTPURL(
            scheme: "https", host: "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", path: "/k")
        let request = HTTPRequest("GET", url)
        let signed = signer.sign(request, credentials: keys(Self.token), at: now, payload: .unsigned)
        #expect(
            authorization(signed).hasSuffix("45e594fec69d0707c5d870d1a9b099858cc0cdf33909f2c7f7d4f6e7353ab7c6"))
        #expect(!signed.request.headers.contains { $0.name == "x-amz-security-token" })
    }

    @Test(arguments: [("https", 443, true), ("http", 80, true), ("https", 80, false), ("http", 8333, false)])
    func `the host is signed as it is sent: without the scheme's own port`(scheme: String, port: Int, isBare: Bool) {
        let url = HTTPURL(scheme: scheme, host: "h", port: port, path: "/")
        let signed = signer.sign(HTTPRequest("GET", url), credentials: keys(), at: now, payload: .unsigned)
        #expect(signed.canonicalRequest.contains(isBare ? "\nhost:h\n" : "\nhost:h:\(port)\n"))
    }

    @Test func `what is shown of a request to sign holds no secret (P11)`() {
        var request = full
        let key = "x-amz-server-side-encryption-customer-key"
        request.headers.append(HTTPHeader(key, "c2VjcmV0IG9mIFNTRS1D"))
        request.headers.append(HTTPHeader("x-amz-copy-source-server-side-encryption-customer-key", "b3RoZXIgc2VjcmV0"))
        let credentials = keys(Self.token)
        let signed = signer.sign(request, credentials: credentials, at: now, payload: .unsigned)
        var dumped = ""
        dump(credentials, to: &dumped)
        let texts = [
            signed.canonicalRequest, signed.stringToSign, dumped, "\(credentials)", String(reflecting: credentials),
            "\([credentials])", "\(signed)", String(reflecting: signed),
        ]
        for text in texts {
            for secret in [Self.secret, Self.token, "c2VjcmV0IG9mIFNTRS1D", "b3RoZXIgc2VjcmV0"] {
                #expect(!text.contains(secret))
            }
        }
        #expect(signed.canonicalRequest.contains("\nx-amz-security-token:…\n"))
        #expect(signed.canonicalRequest.contains("\n\(key):…\n"))
    }

    @Test func `a signing key is used again for what it was made for, and for nothing else`() {
        let kept = SigningKeys()
        let request = HTTPRequest("GET", HTTPURL(scheme: "https", host: "h", path: "/k"))
        let day = 86_400.0
        for (region, service, secret, instant) in [
            ("us-east-1", "s3", Self.secret, now), ("us-east-1", "s3", Self.secret, now + 60),
            ("us-east-1", "s3", Self.secret, now + day), ("us-east-1", "s3", "other", now + day),
            ("us-east-1", "s3express", "other", now + day), ("eu-west-1", "s3express", "other", now + day),
            ("us-east-1", "s3", Self.secret, now),
        ] {
            let credentials = AWSCredentials(accessKeyID: "AKID", secretAccessKey: secret)
            func header(_ keys: SigningKeys?) -> String? {
                SigV4Signer(region: region, service: service, keys: keys)
                    .signed(request, credentials: credentials, at: instant, payload: .unsigned)
                    .headers.first { $0.name == "Authorization" }?.value
            }
            #expect(header(kept) == header(nil))
        }
        var dumped = ""
        dump(SigningKeys.Place(secret: Self.secret, date: "20150830", region: "r", service: "s3"), to: &dumped)
        #expect(!dumped.contains(Self.secret))
    }
}
