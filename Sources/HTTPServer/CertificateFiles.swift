internal import Base
internal import Glibc
internal import NIOHTTP2
internal import NIOSSL

internal import struct SystemPackage.Errno

/// A certificate with its chain, and its key, from two files in PEM; read again when one of them is another file or was
/// changed.
///
/// What is read is used for connections from then on. A new file that cannot be used changes nothing: it is told once, and
/// the certificate stays. A process that gave up the rights by which it read the files may not see them any more: a file that cannot be
/// looked at counts as unchanged, and with a new certificate goes the key that was read, if it is that of the certificate.
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
        var key: NIOSSLPrivateKey
        var stamps: [Stamp?]
    }

    private typealias Read = (context: NIOSSLContext, key: NIOSSLPrivateKey)

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
        let stamps = [Self.stamp(certificatePath, nil), Self.stamp(keyPath, nil)]
        let (context, key) = try Self.read(certificatePath, keyPath, else: nil)
        state = Monitor(State(context: context, key: key, stamps: stamps))
    }

    /// For a connection that begins.
    var context: NIOSSLContext { state.withLock { $0.context } }

    /// Reads the files again where they changed; blocks.
    ///
    /// - Returns: whether it did.
    /// - Throws: what is wrong with the new ones, once for each change.
    @discardableResult
    public func reload() throws(ServerFailure) -> Bool {
        let (old, key) = state.withLock { ($0.stamps, $0.key) }
        let stamps = [Self.stamp(certificatePath, old[0]), Self.stamp(keyPath, old[1])]
        guard stamps != old else { return false }
        state.withLock { $0.stamps = stamps }
        let read = try Self.read(certificatePath, keyPath, else: key)
        state.withLock { ($0.context, $0.key) = read }
        return true
    }

    /// Which of the files this process cannot read any more, and what to do where they are renewed; nil where it can read both.
    /// Blocks.
    public func whatIsUnreadable() -> String? {
        let unreadable = [("certificate", certificatePath), ("key", keyPath)].filter { file in
            do throws(Errno) {
                _ = try Self.bytes(of: file.1)
                return false
            } catch {
                return Self.isRefused(error)
            }
        }
        guard !unreadable.isEmpty else { return nil }
        let files = unreadable.map { "\($0) \(oneLine($1, lengthMax: 200))" }
        return files.joined(separator: " and ")
            + " cannot be read again by the user that serves: start the server anew when it is renewed, or let that user read it"
    }

    /// - Parameter old: what counts where this process may not look at the file.
    private static func stamp(_ path: String, _ old: Stamp?) -> Stamp? {
        var found = stat()
        guard stat(path, &found) == 0 else {
            return isRefused(Errno(rawValue: errno)) ? old : nil
        }
        return Stamp(
            device: UInt64(found.st_dev), inode: UInt64(found.st_ino), size: Int64(found.st_size),
            seconds: found.st_mtim.tv_sec, nanoseconds: found.st_mtim.tv_nsec)
    }

    /// Whether the rights of the process do not suffice.
    private static func isRefused(_ error: Errno) -> Bool {
        error == .permissionDenied || error == .notPermitted
    }

    /// - Parameter known: the key that counts where its file cannot be read for lack of rights.
    private static func read(
        _ certificatePath: String, _ keyPath: String, else known: NIOSSLPrivateKey?
    ) throws(ServerFailure) -> Read {
        let certificateBytes: [UInt8]
        do throws(Errno) {
            certificateBytes = try bytes(of: certificatePath)
        } catch {
            throw ServerFailure("certificate \(certificatePath): \(error)\(advice(error))")
        }
        let chain: [NIOSSLCertificateSource]
        do {
            chain = try NIOSSLCertificate.fromPEMBytes(certificateBytes).map { .certificate($0) }
        } catch {
            throw ServerFailure("certificate \(certificatePath): no certificate in PEM")
        }
        guard !chain.isEmpty else {
            throw ServerFailure("certificate \(certificatePath): no certificate in PEM")
        }
        let (key, isKnown) = try key(keyPath, else: known)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = NIOHTTP2SupportedALPNProtocols
        do {
            return (try NIOSSLContext(configuration: configuration), key)
        } catch {
            guard !isKnown else {
                throw ServerFailure(
                    "certificate \(certificatePath) is not of the key that was read before, and key "
                        + "\(keyPath): \(Errno.permissionDenied)\(advice(.permissionDenied))")
            }
            throw ServerFailure(
                "key \(keyPath) is not that of certificate \(certificatePath), or cannot be used: "
                    + oneLine("\(error)", lengthMax: 200))
        }
    }

    private static func key(
        _ path: String, else known: NIOSSLPrivateKey?
    ) throws(ServerFailure) -> (NIOSSLPrivateKey, isKnown: Bool) {
        let found: [UInt8]
        do throws(Errno) {
            found = try bytes(of: path)
        } catch {
            if let known, isRefused(error) { return (known, true) }
            throw ServerFailure("key \(path): \(error)\(advice(error))")
        }
        do {
            return (try NIOSSLPrivateKey(bytes: found, format: .pem), false)
        } catch {
            throw ServerFailure("key \(path): no private key in PEM without a passphrase")
        }
    }

    private static func advice(_ error: Errno) -> String {
        isRefused(error) ? ": start the server anew, or let the user that serves read it" : ""
    }

    private static func bytes(of path: String) throws(Errno) -> [UInt8] {
        let file = try Sys.open(path, flags: O_RDONLY)
        var failure: Errno?
        let bytes = [UInt8](unsafeUninitializedCapacity: bytesMax + 1) { room, count in
            do throws(Errno) {
                count = try Sys.read(file.raw, at: 0, into: UnsafeMutableRawBufferPointer(room))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        guard bytes.count <= bytesMax else { throw .fileTooLarge }
        return bytes
    }
}
