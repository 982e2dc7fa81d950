import Base
import FoundationEssentials
import Glibc
import HTTPServer
import Logging
import Naming
import Serving

import struct SystemPackage.Errno

/// What a person asked `serve` for.
struct ServeSettings: Sendable {
    /// What is served.
    enum Subject: Sendable {
        /// A volume, by its daemon.
        case volume(stateDirectory: String)
        /// A tree that others have.
        case origin(SourceSettings, node: KuboSettings?)
    }

    var subject: Subject
    var listen: [String] = []
    var scope = BlockScope.tree
    var isDeserialized = false
    /// Where others find this server: base URLs.
    var externalURLs: [String] = []
    var registryDirectory: String?
    var certificateFile: String?
    var keyFile: String?
    var tokenFile: String?
    var allowed: [String] = []
    var accessLogFile: String?
    var accessLogFormat = AccessLog.Format.common
    var user: String?
    var connectionsMax: Int?
    /// Who is asked for names; nil where none are looked up but those that the volume has published.
    var names: NameSettings?
    /// Whether all names are looked up, and not only those of the sites.
    var resolvesAllNames = false
    /// Domains that are sites.
    var sites: Set<DNSName> = []
    /// The mode of unix sockets, as somebody wrote it.
    var socketMode: String?
    /// Their group, by its name or number; nil for that of the process.
    var socketGroup: String?
    /// The daemon that started this process, and whose end is this process's end.
    var supervisor: pid_t?
    var logLevel = Logger.Level.info

    static let listenDefault = "127.0.0.1:8080"
    /// Who may connect to a unix socket: its owner and its group.
    static let socketModeDefault = "0660"

    /// The addresses, of which there is one at least.
    func addresses() throws(Failure) -> [ListenAddress] {
        try (listen.isEmpty ? [Self.listenDefault] : listen).map { (text) throws(Failure) in
            try Self.telling { () throws(ServerFailure) in try ListenAddress(text) }
        }
    }

    /// Who may connect to unix sockets.
    func socketAccess() throws(Failure) -> SocketAccess {
        let text = socketMode ?? Self.socketModeDefault
        guard (3...4).contains(text.utf8.count), let mode = UInt32(text, radix: 8), mode <= 0o777
        else {
            throw Failure(
                "--socket-mode \(RawText.shown(text)): octal digits, as in 0660", exitCode: 64)
        }
        return SocketAccess(mode: mode, group: try socketGroup.map(Self.group))
    }

    private static func group(_ text: String) throws(Failure) -> UInt32 {
        if let found = getgrnam(text) { return found.pointee.gr_gid }
        // The last number is chown(2)'s word for no change.
        guard let number = UInt32(text), number != .max else {
            throw Failure(
                "there is no group '\(RawText.shown(text))': give another by --socket-group")
        }
        return number
    }

    /// What the server does beside its answers.
    ///
    /// - Parameter accessLog: where its lines go.
    func configuration(accessLog: AccessLog?) throws(Failure) -> ServerConfiguration {
        var configuration = ServerConfiguration()
        if let connectionsMax { configuration.connectionsMax = connectionsMax }
        configuration.accessLog = accessLog
        do {
            configuration.access.allowed = try allowed.map { try AddressRange($0) }
            if let tokenFile { configuration.access.tokens = try tokens(in: tokenFile) }
            if let certificateFile, let keyFile {
                configuration.certificate = try CertificateFiles(
                    certificatePath: certificateFile, keyPath: keyFile)
            }
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure("\(error)", exitCode: 64)
        }
        return configuration
    }

    private func tokens(in path: String) throws(Failure) -> [String] {
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try SystemFiles.read(path, byteCountMax: 1 << 20)
        } catch {
            throw Failure("the token file \(RawText.shown(path)) cannot be read: \(error.reason)")
        }
        do throws(AccessRules.Malformed) {
            return try AccessRules.tokens(inFile: bytes)
        } catch {
            throw Failure("the token file \(RawText.shown(path)): \(error)")
        }
    }

    static func telling<Result>(
        _ body: () throws(ServerFailure) -> Result
    ) throws(Failure) -> Result {
        do throws(ServerFailure) {
            return try body()
        } catch {
            throw Failure("\(error)")
        }
    }
}
