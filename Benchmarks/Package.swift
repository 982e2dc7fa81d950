// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that what only the benchmarks need stays out of the product. The settings
// are the product's.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
    name: "registryfs-benchmarks",
    dependencies: [
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0")
    ],
    targets: [
        .executableTarget(
            name: "registryfs-bench",
            dependencies: [.product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: settings)
    ]
)
