// Which providers, and which of their addresses, a client wants to know of.
//
// Text:     ?filter-addrs=NAME,!NAME,… by the protocols of addresses, ?filter-protocols=NAME,… by those of transfer;
//           `unknown` stands for a provider that says none.
// Source:   https://specs.ipfs.tech/ipips/ipip-0484/

/// The filters of a request.
struct ProviderFilter {
    /// The most names of a filter that are looked at.
    static let nameCountMax = 64

    private let wanted: [String]
    private let unwanted: [String]
    private let transfers: [String]

    init(_ request: ServeRequest) {
        let addresses = Self.names(request.value("filter-addrs"))
        wanted = addresses.filter { !$0.hasPrefix("!") }
        unwanted = addresses.filter { $0.hasPrefix("!") }.map { String($0.dropFirst()) }
        transfers = Self.names(request.value("filter-protocols"))
    }

    private static func names(_ text: String?) -> [String] {
        (text ?? "").split(separator: ",").prefix(nameCountMax)
            .map { $0.filter { $0 != " " }.lowercased() }.filter { !$0.isEmpty }
    }

    /// The addresses that are left of a provider's; nil where it is left out.
    ///
    /// - Parameter transfer: the one protocol of transfer that the provider has.
    func addresses(
        of addresses: [ProviderAddress], transfer: String
    ) -> [ProviderAddress]? {
        guard transfers.isEmpty || transfers.contains(transfer) else { return nil }
        let left = addresses.filter { address in
            !address.protocols.contains(where: unwanted.contains)
                && (wanted.isEmpty || address.protocols.contains(where: wanted.contains))
        }
        return left.isEmpty ? nil : left
    }
}
