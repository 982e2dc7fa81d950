import MerkleDAG
import Multiformats

/// A node that is accepted is written in a form that is read as the same node.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    let input = Array(UnsafeRawBufferPointer(start: start, count: count))
    if let node = try? DAGNode(decoding: input) {
        let encoded = node.encoded()
        guard let again = try? DAGNode(decoding: encoded) else {
            preconditionFailure("what is written can be read")
        }
        precondition(again.data == node.data)
        precondition(again.links.count == node.links.count)
        precondition(again.encoded() == encoded, "the canonical form is stable")
        checkMessage(node.data ?? [])
    }
    checkMessage(input)
    return 0
}

private func checkMessage(_ bytes: [UInt8]) {
    guard let message = try? UnixFSData(decoding: bytes) else { return }
    precondition((try? UnixFSData(decoding: message.encoded())) == message)
}
