import Crypto
import Glibc

/// A container image in memory: incompressible layers, a configuration, a manifest (image manifest
/// version 2, schema 2, as the registry's documentation of distribution has it).
///
/// The layers begin as gzip does, so that a client which looks does not compress them again.
struct Image: Sendable {
    struct Blob: Sendable {
        /// 64 hexadecimal digits.
        let digest: String
        let offset, count: Int
    }

    static let manifestType = "application/vnd.docker.distribution.manifest.v2+json"

    /// The bytes of all blobs, the layers first and the configuration last.
    private let memory: Memory
    let blobs: [Blob]
    let manifest: [UInt8]

    /// - Parameter seed: another one gives an image that has no blob in common with this one.
    init(layerCount: Int, layerBytes: Int, seed: UInt64, memory: Memory) {
        memory.stamp(seed)
        let magic: [UInt8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]
        var blobs: [Blob] = []
        for index in 0..<layerCount {
            let start = index * layerBytes
            memory.bytes[start..<start + magic.count].copyBytes(from: magic)
            // The stamp may have spared the first bytes of a small layer.
            let name = withUnsafeBytes(of: (seed, UInt64(index))) { Array($0) }
            memory.bytes[start + 16..<start + 32].copyBytes(from: name)
            blobs.append(Blob(memory, start, layerBytes))
        }
        let differences = blobs.map { "\"sha256:\($0.digest)\"" }.joined(separator: ",")
        let configuration = Array(
            """
            {"architecture":"amd64","os":"linux","config":{},\
            "rootfs":{"type":"layers","diff_ids":[\(differences)]}}
            """.utf8)
        let start = layerCount * layerBytes
        memory.bytes[start..<start + configuration.count].copyBytes(from: configuration)
        blobs.append(Blob(memory, start, configuration.count))
        self.memory = memory
        self.blobs = blobs

        func descriptor(_ type: String, _ blob: Blob) -> String {
            """
            {"mediaType":"application/vnd.docker.\(type)","size":\(blob.count),\
            "digest":"sha256:\(blob.digest)"}
            """
        }
        let layers = blobs.dropLast().map { descriptor("image.rootfs.diff.tar.gzip", $0) }
        manifest = Array(
            """
            {"schemaVersion":2,"mediaType":"\(Self.manifestType)",\
            "config":\(descriptor("container.image.v1+json", blobs[layerCount])),\
            "layers":[\(layers.joined(separator: ","))]}
            """.utf8)
    }

    /// The room that the memory of such an image needs.
    static func memoryCount(layerCount: Int, layerBytes: Int) -> Int {
        layerCount * layerBytes + layerCount * 128 + 4096 & ~4095
    }

    func bytes(_ blob: Blob) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory.bytes[blob.offset..<blob.offset + blob.count])
    }

    /// Writes the image as skopeo's `dir:` transport has it.
    func write(to directory: String) throws(Failure) {
        try makeDirectories(directory)
        try makeFile(directory + "/version", "Directory Transport Version: 1.1\n")
        try makeFile(directory + "/manifest.json", String(decoding: manifest, as: UTF8.self))
        for blob in blobs {
            try withFile(directory + "/" + blob.digest, O_WRONLY | O_CREAT | O_TRUNC) {
                file throws(Failure) in try writeAll(file, bytes(blob))
            }
        }
    }
}

extension Image.Blob {
    fileprivate init(_ memory: Memory, _ offset: Int, _ count: Int) {
        var hasher = SHA256()
        hasher.update(
            bufferPointer: UnsafeRawBufferPointer(rebasing: memory.bytes[offset..<offset + count]))
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in hasher.finalize() {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        self.init(digest: String(decoding: text, as: UTF8.self), offset: offset, count: count)
    }
}
