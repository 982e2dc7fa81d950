import KuboDouble

@main
enum Server {
    static func main() {
        print("kubo \(kuboDoubleVersion), a double for tests")
    }
}
