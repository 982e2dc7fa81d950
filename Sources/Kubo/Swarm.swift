public import Base

// The peers of the node.
extension KuboClient {
    /// Has the node connect to another one. Tried again.
    ///
    /// - Parameters:
    ///   - address: a multiaddr with the id of the other node.
    ///   - deadlineMilliseconds: the limit for all of it.
    /// - Throws: `failed` where nobody is reached there.
    public func connect(
        to address: String, deadlineMilliseconds: Int, cancellation: Cancellation? = nil
    ) throws(KuboError) {
        var call = Call("swarm/connect", .harmless, subject: address)
        call.add(argument: address)
        call.limit(toMilliseconds: deadlineMilliseconds)
        call.asksPeers = true
        call.isLongWork = true
        call.cancellation = cancellation
        _ = try perform(call)
    }
}
