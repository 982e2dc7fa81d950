/// Memory that one reply after the other is received into.
///
/// Memory that is new for each block costs more than to receive it: to have its pages zeroed, one
/// fault for each, and to give them back was a third of what reading by CID cost the daemon.
///
/// Confined to one thread.
public final class ReplyMemory {
    private var bytes: [UInt8] = []

    public init() {}

    /// Gives the memory up, empty, to whoever receives a reply.
    public func take() -> [UInt8] {
        let taken = bytes
        bytes = []
        return taken
    }

    /// Takes the memory of a reply that nobody needs any more.
    public func keep(_ reply: consuming [UInt8]) {
        // Else the parameter would hold it as well, and the memory would be made anew.
        bytes = consume reply
        bytes.removeAll(keepingCapacity: true)
    }
}
