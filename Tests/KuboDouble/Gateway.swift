/// The node's gateway.
enum Gateway {
    static func answer(_ exchange: Exchange, _ node: DoubleNode) {
        exchange.cut()
    }
}
