// swift-tools-version: 6.2
import PackageDescription

// The hot paths alone, without a kernel: swift package benchmark. A package of its own, for it
// depends on the product and on a benchmark harness, which neither of the two needs otherwise.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
    name: "registryfs-micro",
    dependencies: [
        .package(name: "registryfs", path: "../.."),
        // Without its traits: they count allocations, and need packages that are not needed here.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.0", traits: []),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    ],
    targets: [
        .executableTarget(
            name: "HotPaths",
            dependencies: [
                .product(name: "Benchmark", package: "benchmark"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "MerkleDAG", package: "registryfs"),
                .product(name: "Multiformats", package: "registryfs"),
                .product(name: "Volume", package: "registryfs"),
            ],
            path: "Benchmarks/HotPaths",
            swiftSettings: settings,
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
    ]
)
