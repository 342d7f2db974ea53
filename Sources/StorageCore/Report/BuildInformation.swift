internal import CStorage

/// What this library was built from.
public enum BuildInformation {
    /// The document of `raystorage_build_info`.
    public static func document(abi: Int) -> JSONValue {
        #if DEBUG
            let configuration = "debug"
        #else
            let configuration = "release"
        #endif
        return .make([
            "version": .string(String(cString: cs_version())), "abi_version": JSONValue(abi),
            "configuration": .string(configuration), "c_compiler": .string(String(cString: cs_compiler())),
            "crc32c": "ISA-L", "http": .string(String(cString: cs_http_version())),
            "crypto": .string(String(cString: cs_crypto_version())),
            "xml": .string(String(cString: cs_xml_version())), "backends": .array(["file", "s3"]),
        ])
    }
}
