public import Base
public import HTTPTypes

/// A request, as it came: nothing of it is decoded but the path and the query.
public struct ServeRequest: Sendable {
    public var method: HTTPRequest.Method
    /// The target's path as it came, with its percent signs.
    public var rawPath: String
    /// The names of the path, each decoded once; an empty last name (a slash at the end) is `hasTrailingSlash`. A name
    /// may have any byte, a slash too, where the path said `%2F`: nothing has such a name.
    public var names: [[UInt8]]
    public var hasTrailingSlash: Bool
    /// The pairs of the query in their order, decoded; bounded by the bound of a target.
    public var query: [(name: String, value: String)]
    /// What stands behind the question mark, as it came; nil without one.
    public var rawQuery: String?
    public var fields: HTTPFields
    /// Ends what works for this request, when its client is gone.
    public var cancellation: Cancellation?

    /// Nil for a target that is malformed: percent signs without two digits, or no slash at its beginning.
    public init?(method: HTTPRequest.Method, target: String, fields: HTTPFields = [:]) {
        let bytes = Array(target.utf8)
        let mark = bytes.firstIndex(of: UInt8(ascii: "?"))
        let path = bytes[..<(mark ?? bytes.endIndex)]
        guard path.first == UInt8(ascii: "/") else { return nil }
        var names: [[UInt8]] = []
        for part in path.dropFirst().split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        {
            guard let name = Self.decoded(part) else { return nil }
            names.append(name)
        }
        hasTrailingSlash = names.last?.isEmpty ?? true
        if hasTrailingSlash { names.removeLast() }
        self.method = method
        rawPath = String(decoding: path, as: UTF8.self)
        self.names = names
        self.fields = fields
        query = []
        guard let mark else { return }
        rawQuery = String(decoding: bytes[(mark + 1)...], as: UTF8.self)
        for pair in bytes[(mark + 1)...].split(separator: UInt8(ascii: "&")) {
            let sides = pair.split(
                separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = Self.decoded(sides[0]),
                let value = sides.count > 1 ? Self.decoded(sides[1]) : []
            else { return nil }
            query.append(
                (String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
        }
    }

    /// The first value of a name in the query.
    public func value(_ name: String) -> String? { query.first { $0.name == name }?.value }

    private static func decoded(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var rest = text
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                result.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(URLText.digit),
                let low = rest.popFirst().flatMap(URLText.digit)
            else { return nil }
            result.append(high << 4 | low)
        }
        return result
    }
}
