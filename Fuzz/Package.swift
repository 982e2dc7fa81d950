// swift-tools-version: 6.2
import PackageDescription

// libFuzzer targets for everything that decodes bytes of others. Run them with `.ci/fuzz`. A package
// of its own, because all of it is built with --sanitize fuzzer, which brings the main function.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
    // libFuzzer has the main function.
    .unsafeFlags(["-parse-as-library"]),
]

// FuzzControl has a planted fault, which proves that a run finds faults.
let names = [
    "FuzzCID", "FuzzMultibase", "FuzzNode", "FuzzCAR", "FuzzTree", "FuzzExpansion", "FuzzRedo",
    "FuzzPortable", "FuzzReadSocket", "FuzzRequest", "FuzzControl",
]

// What is above the decoders.
let products = [
    "FuzzExpansion": ["Volume"], "FuzzRedo": ["Checking"], "FuzzPortable": ["PortableManifest"],
    "FuzzReadSocket": ["ReadSocket"], "FuzzRequest": ["Serving"],
]

let package = Package(
    name: "registryfs-fuzz",
    dependencies: [
        .package(name: "registryfs", path: "..")
    ],
    targets: names.map { name in
        .executableTarget(
            name: name,
            dependencies: (["MerkleDAG", "Multiformats"] + (products[name] ?? [])).map {
                .product(name: $0, package: "registryfs")
            },
            swiftSettings: settings)
    }
)
