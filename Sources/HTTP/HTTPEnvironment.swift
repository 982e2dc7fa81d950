// What a process's environment says of the way to servers and of whom TLS trusts.
//
// Proxies:   http_proxy for http; https_proxy or HTTPS_PROXY for https; all_proxy or ALL_PROXY for
//            what these leave open. HTTP_PROXY is not read: a CGI program has it from its client.
//            no_proxy or NO_PROXY: hosts, domains and networks that are reached without, or *.
// CAs:       CURL_CA_BUNDLE, a file; else SSL_CERT_FILE, a file, and SSL_CERT_DIR, a directory.
// Validity:  an empty variable is none.
// Source:    "ENVIRONMENT" of curl(1), and detect_proxy in libcurl's url.c.

internal import Glibc

/// Which proxies and certificate authorities are used.
///
/// A proxy's address may hold a password, so it shows in no description.
public struct HTTPEnvironment: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
    /// A file or directory of certificates, and the variable that names it.
    struct Authorities: Sendable, Hashable {
        var path: String
        var variable: String
    }

    private let plainProxy: String?
    private let encryptedProxy: String?
    /// The hosts that are reached without a proxy, as libcurl reads them; empty for none.
    let unproxiedHosts: String
    let authorityFile: Authorities?
    let authorityDirectory: Authorities?

    private static let names = [
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy",
        "NO_PROXY", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]

    /// Reads variables; none of them for no proxy, and the certificate authorities of the system.
    public init(_ variables: [String: String]) {
        func first(_ names: String...) -> Authorities? {
            for name in names {
                guard let value = variables[name], !value.isEmpty else { continue }
                return Authorities(path: value, variable: name)
            }
            return nil
        }
        let other = first("all_proxy", "ALL_PROXY")?.path
        plainProxy = first("http_proxy")?.path ?? other
        encryptedProxy = first("https_proxy", "HTTPS_PROXY")?.path ?? other
        unproxiedHosts = first("no_proxy", "NO_PROXY")?.path ?? ""
        let bundle = first("CURL_CA_BUNDLE")
        authorityFile = bundle ?? first("SSL_CERT_FILE")
        authorityDirectory = bundle == nil ? first("SSL_CERT_DIR") : nil
    }

    /// What the environment of this process says now.
    public static var current: HTTPEnvironment {
        var variables: [String: String] = [:]
        for name in names {
            if let value = getenv(name) { variables[name] = String(cString: value) }
        }
        return HTTPEnvironment(variables)
    }

    /// The proxy for a URL by its scheme; empty for none.
    func proxy(isEncrypted: Bool) -> String {
        (isEncrypted ? encryptedProxy : plainProxy) ?? ""
    }

    /// A text of libcurl's without the user and password of a proxy in it.
    func redacted(_ text: String) -> String {
        var text = text
        for proxy in [plainProxy, encryptedProxy] {
            guard let proxy, proxy.contains("@") else { continue }
            while let place = text.firstRange(of: proxy) {
                text.replaceSubrange(place, with: "the proxy of the environment")
            }
        }
        return text
    }

    /// Whether there are proxies, without them, and the authorities.
    public var description: String {
        let authorities = [authorityFile, authorityDirectory].compactMap { $0?.path }
        return "proxies \(plainProxy == nil ? "-" : "***")/\(encryptedProxy == nil ? "-" : "***"), "
            + "authorities " + (authorities.isEmpty ? "-" : authorities.joined(separator: ":"))
    }

    public var customMirror: Mirror { Mirror(self, children: []) }
}
