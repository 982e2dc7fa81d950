internal import Base
internal import Glibc
internal import NIOHTTP2
internal import NIOSSL

internal import struct SystemPackage.Errno

/// A certificate with its chain, and its key, from two files in PEM; read again when one of them is another file or was
/// changed.
///
/// What is read is used for connections from then on. A new file that cannot be used changes nothing: it is told once, and
/// the certificate stays.
public final class CertificateFiles: Sendable {
    /// By what a change of a file is seen.
    private struct Stamp: Hashable, Sendable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var seconds: Int
        var nanoseconds: Int
    }

    private struct State {
        var context: NIOSSLContext
        var stamps: [Stamp?]
    }

    /// The longest file, in bytes.
    public static let bytesMax = 1 << 20

    private let certificatePath: String
    private let keyPath: String
    private let state: Monitor<State>

    /// Reads both files; blocks.
    ///
    /// - Throws: what is wrong with which of them, in one line.
    public init(certificatePath: String, keyPath: String) throws(ServerFailure) {
        self.certificatePath = certificatePath
        self.keyPath = keyPath
        // Looked at before they are read, so that a change in between is seen as one later on.
        let stamps = [Self.stamp(certificatePath), Self.stamp(keyPath)]
        let context = try Self.read(certificatePath, keyPath)
        state = Monitor(State(context: context, stamps: stamps))
    }

    /// For a connection that begins.
    var context: NIOSSLContext { state.withLock { $0.context } }

    /// Reads the files again where they changed; blocks.
    ///
    /// - Returns: whether it did.
    /// - Throws: what is wrong with the new ones, once for each change.
    @discardableResult
    public func reload() throws(ServerFailure) -> Bool {
        let stamps = [Self.stamp(certificatePath), Self.stamp(keyPath)]
        let isOld = state.withLock { state in
            defer { state.stamps = stamps }
            return state.stamps == stamps
        }
        if isOld { return false }
        let context = try Self.read(certificatePath, keyPath)
        state.withLock { $0.context = context }
        return true
    }

    private static func stamp(_ path: String) -> Stamp? {
        var found = stat()
        guard stat(path, &found) == 0 else { return nil }
        return Stamp(
            device: UInt64(found.st_dev), inode: UInt64(found.st_ino), size: Int64(found.st_size),
            seconds: found.st_mtim.tv_sec, nanoseconds: found.st_mtim.tv_nsec)
    }

    private static func read(
        _ certificatePath: String, _ keyPath: String
    ) throws(ServerFailure) -> NIOSSLContext {
        let certificateBytes = try bytes(of: certificatePath, "certificate")
        let keyBytes = try bytes(of: keyPath, "key")
        let chain: [NIOSSLCertificateSource]
        do {
            chain = try NIOSSLCertificate.fromPEMBytes(certificateBytes).map { .certificate($0) }
        } catch {
            throw ServerFailure("certificate \(certificatePath): no certificate in PEM")
        }
        guard !chain.isEmpty else {
            throw ServerFailure("certificate \(certificatePath): no certificate in PEM")
        }
        let key: NIOSSLPrivateKey
        do {
            key = try NIOSSLPrivateKey(bytes: keyBytes, format: .pem)
        } catch {
            throw ServerFailure("key \(keyPath): no private key in PEM without a passphrase")
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = NIOHTTP2SupportedALPNProtocols
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw ServerFailure(
                "key \(keyPath) is not that of certificate \(certificatePath), or cannot be used: "
                    + oneLine("\(error)", lengthMax: 200))
        }
    }

    private static func bytes(
        of path: String, _ what: String
    ) throws(ServerFailure) -> [UInt8] {
        do throws(Errno) {
            let file = try Sys.open(path, flags: O_RDONLY)
            var failure: Errno?
            let bytes = [UInt8](unsafeUninitializedCapacity: bytesMax + 1) { room, count in
                do throws(Errno) {
                    count = try Sys.read(
                        file.raw, at: 0, into: UnsafeMutableRawBufferPointer(room))
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            guard bytes.count <= bytesMax else { throw .fileTooLarge }
            return bytes
        } catch {
            throw ServerFailure("\(what) \(path): \(error)")
        }
    }
}
