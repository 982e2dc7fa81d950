// swift-tools-version: 6.2
import PackageDescription

// One place for the settings of every target: Swift 6 mode, all warnings are errors, and imports
// that say what they are for (the downward arrow of the layers is checked in CI with
// `--explicit-target-dependency-import-check error`).
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
    name: "registryfs",
    products: [
        .executable(name: "registryfs", targets: ["registryfs"]),
        // For the fuzz targets and the micro-benchmarks, which are packages of their own (Fuzz/,
        // Benchmarks/Micro).
        .library(name: "Volume", targets: ["Base", "Volume"]),
        .library(name: "MerkleDAG", targets: ["MerkleDAG"]),
        .library(name: "Multiformats", targets: ["Multiformats"]),
        .library(name: "PortableManifest", targets: ["PortableManifest"]),
        .library(name: "Checking", targets: ["Checking"]),
        .library(name: "ReadSocket", targets: ["ReadSocket"]),
        .library(name: "Serving", targets: ["Base", "Serving"]),
        // For the mount tests: a Kubo node's double, as a program of its own.
        .executable(name: "kubo-double", targets: ["KuboDoubleServer"]),
        .executable(name: "gateway-double", targets: ["GatewayDoubleServer"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(
            url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // Layers, lowest first. A target imports only what stands above it in this list.
        .target(name: "CShims", path: "Sources/CShims"),
        .target(
            name: "Base",
            dependencies: [
                "CShims",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .target(name: "CSHA256", path: "Sources/CSHA256"),
        .target(
            name: "Multiformats",
            dependencies: ["CSHA256", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: settings),
        // What repositories, tags and digests are called.
        .target(name: "RegistryNames", dependencies: ["Multiformats"], swiftSettings: settings),
        .target(name: "MerkleDAG", dependencies: ["Multiformats"], swiftSettings: settings),
        // What UnixFS cannot say of a tree, as a DAG of its own.
        .target(
            name: "PortableManifest", dependencies: ["Base", "Multiformats", "MerkleDAG"],
            swiftSettings: settings),
        // What is elsewhere, by protocol: to get a block, and to keep blocks; and several of them as one.
        .target(
            name: "Remotes", dependencies: ["Base", "Multiformats"], swiftSettings: settings),
        .target(
            name: "InodeManifest",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .target(
            name: "ObjectStore",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .target(
            name: "Volume",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG", "PortableManifest", "InodeManifest",
                "ObjectStore",
                "Remotes", "RegistryNames",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        // What `registryfs check` does; beside Volume, of which it needs nothing.
        .target(
            name: "Checking",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG", "InodeManifest", "ObjectStore",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .systemLibrary(
            name: "CCurl", path: "Sources/CCurl", pkgConfig: "libcurl",
            providers: [.apt(["libcurl4-openssl-dev"])]),
        .target(name: "HTTP", dependencies: ["Base", "CCurl"], swiftSettings: settings),
        .target(
            name: "Kubo",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG", "Remotes", "HTTP",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .target(
            name: "CResolv", path: "Sources/CResolv", linkerSettings: [.linkedLibrary("resolv")]),
        // From a name to a CID: IPNS records, DNSLink, keys.
        .target(
            name: "Naming",
            dependencies: [
                "Base", "CResolv", "Multiformats", "MerkleDAG", "HTTP",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "CryptoExtras", package: "swift-crypto"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // A trustless HTTP gateway as a remote.
        .target(
            name: "Gateway",
            dependencies: ["Base", "Multiformats", "MerkleDAG", "Remotes", "HTTP"],
            swiftSettings: settings),
        // A CAR file as a remote.
        .target(
            name: "CARSource",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG", "Remotes",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // What others may read of a volume, and how they ask: gateways, routing, a registry. Knows no sockets.
        .target(
            name: "Serving",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG", "Naming", "RegistryNames",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // What the stock registry has written, and trees made of it by names alone: of a domain, and of a registry that is only files.
        .target(
            name: "RegistryLayout",
            dependencies: [
                "Base", "Multiformats", "RegistryNames", "Serving",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // Between the daemon of a volume and who serves it: blocks, names, and files as descriptors.
        .target(
            name: "ReadSocket",
            dependencies: [
                "Base", "Multiformats", "Serving",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        // HTTP/1.1 and 2 for the handlers of Serving.
        .target(
            name: "HTTPServer",
            dependencies: [
                "Base", "Serving",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTP2", package: "swift-nio-http2"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .systemLibrary(
            name: "CFuse", path: "Sources/CFuse", pkgConfig: "fuse3",
            providers: [.apt(["libfuse3-dev"])]),
        .target(
            name: "CURing", path: "Sources/CURing", linkerSettings: [.linkedLibrary("uring")]),
        .target(
            name: "FuseSession",
            dependencies: [
                "Base", "CFuse", "CURing", "Volume",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "registryfs",
            dependencies: [
                "Base", "Multiformats", "MerkleDAG", "Remotes", "HTTP", "Kubo", "Gateway",
                "CARSource", "Naming", "Volume", "Checking",
                "FuseSession", "Serving", "RegistryLayout", "ReadSocket", "HTTPServer",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),

        .testTarget(name: "BaseTests", dependencies: ["Base"], swiftSettings: settings),
        .testTarget(
            name: "MultiformatsTests", dependencies: ["Multiformats"], swiftSettings: settings),
        .testTarget(
            name: "MerkleDAGTests",
            dependencies: [
                "MerkleDAG", "Multiformats", .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "PortableManifestTests",
            dependencies: ["PortableManifest", "Base", "MerkleDAG", "Multiformats"],
            exclude: ["golden.py"], swiftSettings: settings),
        .testTarget(
            name: "VolumeTests",
            dependencies: [
                "Base", "Volume", "Checking", "Remotes", "Gateway", "HTTP", "HTTPScript",
                "KuboStand", "KuboDouble", "InodeManifest", "ObjectStore", "MerkleDAG",
                "Multiformats",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "FuseSessionTests",
            dependencies: [
                "Base", "FuseSession", "Volume", "Remotes", "KuboStand", "KuboDouble",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        // A Kubo node's RPC, for tests: the double, and which node the tests run against.
        .target(
            name: "KuboDouble",
            dependencies: [
                "Multiformats", "MerkleDAG",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            path: "Tests/KuboDouble", swiftSettings: settings),
        // The one place by which the tests of what stands above the remotes know Kubo.
        .target(
            name: "KuboStand",
            dependencies: [
                "Kubo", "KuboDouble", "Remotes", "Multiformats",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/KuboStand", swiftSettings: settings),
        .executableTarget(
            name: "KuboDoubleServer", dependencies: ["KuboDouble"],
            path: "Tests/KuboDoubleServer", swiftSettings: settings),
        // The gateway of that double alone.
        .executableTarget(
            name: "GatewayDoubleServer", dependencies: ["KuboDouble"],
            path: "Tests/GatewayDoubleServer", swiftSettings: settings),
        // A server that answers as a test's script says.
        .target(
            name: "HTTPScript", dependencies: ["Base"], path: "Tests/HTTPScript",
            swiftSettings: settings),
        .testTarget(
            name: "HTTPTests", dependencies: ["HTTP", "HTTPScript", "Base"],
            swiftSettings: settings),
        .testTarget(
            name: "KuboTests",
            dependencies: [
                "Remotes", "Kubo", "KuboDouble", "HTTP", "HTTPScript", "Base", "Multiformats",
                "MerkleDAG",
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Transcripts"], swiftSettings: settings),
        .testTarget(
            name: "NamingTests",
            dependencies: [
                "Naming", "HTTP", "HTTPScript", "Base", "Multiformats", "MerkleDAG",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "Remotes", "Gateway", "KuboDouble", "HTTP", "HTTPScript", "Base", "Multiformats",
                "MerkleDAG",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "CARSourceTests",
            dependencies: ["Remotes", "CARSource", "Base", "Multiformats", "MerkleDAG"],
            swiftSettings: settings),
        .testTarget(
            name: "ServingTests",
            dependencies: [
                "Serving", "Naming", "Base", "Multiformats", "MerkleDAG",
                .product(name: "HTTPTypes", package: "swift-http-types"),
            ],
            exclude: ["Fixtures"], swiftSettings: settings),
        .testTarget(
            name: "RegistryLayoutTests",
            dependencies: [
                "RegistryLayout", "RegistryNames", "Serving", "Base", "Multiformats",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "ReadSocketTests",
            dependencies: [
                "ReadSocket", "Serving", "Base", "Multiformats",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "HTTPServerTests",
            dependencies: [
                "HTTPServer", "Serving", "HTTP", "Base", "Multiformats", "MerkleDAG",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        // What every remote has to be, over all that there are.
        .testTarget(
            name: "RemotesTests",
            dependencies: [
                "Remotes", "Gateway", "CARSource", "Kubo", "KuboDouble", "Base", "Multiformats",
                "MerkleDAG",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "registryfs", "Base", "Volume", "ObjectStore", "MerkleDAG", "Multiformats",
                "Remotes", "Serving",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings),
    ]
)
