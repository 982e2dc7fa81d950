import Glibc

/// Push and pull through the stock registry: one large image, and one of many small layers, each with
/// skopeo and with the lean client. All filesystems get the same bytes, and each round other ones.
struct Registry {
    private struct Shape {
        let name: String
        let layerCount, layerBytes: Int
        let memory: Memory

        init(_ name: String, layerCount: Int, layerBytes: Int) {
            self.name = name
            self.layerCount = layerCount
            self.layerBytes = layerBytes
            memory = Memory(
                count: Image.memoryCount(layerCount: layerCount, layerBytes: layerBytes))
            memory.fillWithNoise(seed: 17)
        }

        func image(seed: UInt64) -> Image {
            Image(layerCount: layerCount, layerBytes: layerBytes, seed: seed, memory: memory)
        }
    }

    private let runner: Runner
    private let shapes: [Shape]
    private let targets: [Target]
    private let scratch: String

    init(_ runner: Runner) {
        self.runner = runner
        targets = runner.targets.filter { $0.registryPort != nil }
        scratch = runner.options.scratch
        shapes =
            runner.options.isQuick
            ? [
                Shape("120 MB", layerCount: 6, layerBytes: 20_000_000),
                Shape("40 layers", layerCount: 40, layerBytes: 10_000),
            ]
            : [
                Shape("500 MB", layerCount: 6, layerBytes: 83_333_334),
                Shape("200 layers", layerCount: 200, layerBytes: 10_000),
            ]
    }

    func run() throws(Failure) {
        guard !targets.isEmpty else { return say("no --registry NAME=PORT: nothing to push to") }
        // Two runs on one machine must not push the same bytes either.
        let nonce = UInt64(now() * 1e6) << 8
        try runner.eachRound(.registry) { () throws(Failure) in
            for (index, shape) in shapes.enumerated() {
                let seed = nonce &+ UInt64(runner.round * 8 + index * 2)
                try lean(shape, shape.image(seed: seed))
                // Peers only with the lean client: skopeo hides the filesystem, and takes its time.
                try skopeo(shape, shape.image(seed: seed &+ 1), targets.filter(isOfInterest))
            }
        }
    }

    private func isOfInterest(_ target: Target) -> Bool {
        target.name == runner.disk.name || target.name == runner.mount.name
    }

    private func lean(_ shape: Shape, _ image: Image) throws(Failure) {
        let name = "bench/lean-\(shape.layerCount)-layers-\(runner.round)"
        try runner.measure(
            Work(.registry, "push \(shape.name)", .time), on: targets, settles: true
        ) { target throws(Failure) in
            try seconds { () throws(Failure) in try client(target).push(image, name) }
        }
        let names = ["cold", "warm"].map { "pull \(shape.name), \($0)" }
        try pulls(names, targets) { target throws(Failure) in
            try client(target).pull(image, name)
        }
    }

    private func client(_ target: Target) throws(Failure) -> LeanClient {
        guard let port = target.registryPort else { throw Failure("\(target.name): no registry") }
        return LeanClient(port: port)
    }

    private func skopeo(_ shape: Shape, _ image: Image, _ targets: [Target]) throws(Failure) {
        let name = "bench/skopeo-\(shape.layerCount)-layers-\(runner.round)"
        let source = scratch + "/image"
        let pulled = scratch + "/pulled"
        try image.write(to: source)
        func copy(_ from: String, _ to: String) throws(Failure) {
            try runCommand([
                "skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests",
                "--src-tls-verify=false", "--dest-tls-verify=false", from, to,
            ])
        }
        func place(_ target: Target) -> String {
            "docker://127.0.0.1:\(target.registryPort ?? 0)/\(name):latest"
        }
        try runner.measure(
            Work(.registry, "skopeo push \(shape.name)", .time), on: targets, settles: true
        ) { target throws(Failure) in
            try seconds { () throws(Failure) in try copy("dir:" + source, place(target)) }
        }
        try pulls(["skopeo pull \(shape.name), cold"], targets) { target throws(Failure) in
            // Below /dev/shm where there is one; skopeo empties it itself.
            try copy(place(target), "dir:" + pulled)
        }
        try runCommand(["rm", "-rf", source])
    }

    /// Cold, and once more where that is asked for.
    private func pulls(
        _ names: [String], _ targets: [Target], _ pull: (Target) throws(Failure) -> Void
    ) throws(Failure) {
        try runner.measure(
            names.map { Work(.registry, $0, .time) }, on: targets,
            prepare: { _ throws(Failure) in
                try dropCaches()
                // The program itself is not what is measured.
                try runCommand(["skopeo", "--version"])
            },
            { target throws(Failure) in
                var times: [Double] = []
                for _ in names {
                    times.append(try seconds { () throws(Failure) in try pull(target) })
                }
                return times
            })
    }
}
