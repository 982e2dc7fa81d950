internal import FoundationEssentials
internal import Multiformats

extension Call {
    /// Reads a JSON reply.
    func decode<Value: Decodable>(
        _ type: Value.Type, from bytes: [UInt8]
    ) throws(KuboError) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw self.error(
                .protocolViolation, "the reply is not the JSON that belongs to the call")
        }
    }

    /// Reads a reply of one JSON value a line.
    func decodeLines<Value: Decodable>(
        _ type: Value.Type, from bytes: [UInt8]
    ) throws(KuboError) -> [Value] {
        var values: [Value] = []
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            values.append(try decode(type, from: Array(line)))
        }
        return values
    }

    /// Reads a CID out of a reply.
    func cid(_ text: String) throws(KuboError) -> CID {
        do throws(CIDError) {
            return try CID(parsing: text)
        } catch {
            throw self.error(.protocolViolation, "the reply has no CID where one belongs")
        }
    }
}

/// Splits a reply that comes piece by piece into its lines.
struct LineSplitter {
    /// The begin of a line whose end has not come.
    private var rest: [UInt8] = []

    /// The lines that a piece completes.
    ///
    /// - Throws: `protocolViolation` for a line that is longer than a reply may be.
    mutating func take(
        _ piece: UnsafeRawBufferPointer, of call: Call
    ) throws(KuboError) -> [[UInt8]] {
        rest += piece
        var lines = rest.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        rest = lines.popLast().map(Array.init) ?? []
        guard rest.count <= call.replyBytesMax else {
            throw call.error(.protocolViolation, "a line of the reply is longer than it may be")
        }
        return lines.filter { !$0.isEmpty }.map(Array.init)
    }
}

/// A CID as DAG-JSON writes it.
struct JSONLink: Decodable {
    var cid: String

    private enum CodingKeys: String, CodingKey {
        case cid = "/"
    }
}

/// Any JSON value.
enum JSONValue: Codable {
    case null
    case flag(Bool)
    case number(Double)
    case text(String)
    case list([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let flag = try? container.decode(Bool.self) {
            self = .flag(flag)
        } else if let number = try? container.decode(Double.self) {
            self = .number(number)
        } else if let text = try? container.decode(String.self) {
            self = .text(text)
        } else if let list = try? container.decode([JSONValue].self) {
            self = .list(list)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .flag(let flag): try container.encode(flag)
        case .number(let number): try container.encode(number)
        case .text(let text): try container.encode(text)
        case .list(let list): try container.encode(list)
        case .object(let object): try container.encode(object)
        }
    }
}
