// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "raystorage",
    products: [
        .library(name: "raystorage", type: .dynamic, targets: ["StorageABI"])
    ],
    targets: [
        .target(
            name: "CStorage",
            cSettings: [
                .define("_GNU_SOURCE"), .unsafeFlags(["-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing"]),
            ],
            linkerSettings: ["isal", "curl", "ssl", "crypto", "expat"].map { .linkedLibrary($0) }
        ),
        .target(name: "StorageCore", dependencies: ["CStorage"], swiftSettings: strict),
        .target(name: "StorageABI", dependencies: ["StorageCore", "CStorage"], swiftSettings: strict),
        .testTarget(name: "StorageCoreTests", dependencies: ["StorageCore", "CStorage"], swiftSettings: strict),
    ]
)
