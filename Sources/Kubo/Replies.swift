internal import FoundationEssentials
internal import Multiformats

extension KuboClient {
    /// Reads a JSON reply.
    func decode<Value: Decodable>(
        _ type: Value.Type, from bytes: [UInt8], of call: Call
    ) throws(KuboError) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw call.error(
                .protocolViolation, "the reply is not the JSON that belongs to the call")
        }
    }

    /// Reads a reply of one JSON value a line.
    func decodeLines<Value: Decodable>(
        _ type: Value.Type, from bytes: [UInt8], of call: Call
    ) throws(KuboError) -> [Value] {
        var values: [Value] = []
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            values.append(try decode(type, from: Array(line), of: call))
        }
        return values
    }

    /// Reads a CID out of a reply.
    func cid(_ text: String, of call: Call) throws(KuboError) -> CID {
        do throws(CIDError) {
            return try CID(parsing: text)
        } catch {
            throw call.error(.protocolViolation, "the reply has no CID where one belongs")
        }
    }
}

/// A CID as DAG-JSON writes it.
struct JSONLink: Decodable {
    var cid: String

    private enum CodingKeys: String, CodingKey {
        case cid = "/"
    }
}
