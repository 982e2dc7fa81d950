import Serving
import Testing

/// Reading Accept fields.
@Suite struct AcceptedTests {
    private func types(_ field: String) -> [String] {
        AcceptedType.parse(field).map { "\($0.type) \($0.weight)" }
    }

    @Test func theGreaterWeightComesFirst() {
        #expect(
            types("a/b;q=0.5, C/D , e/*;q=1.000, */*;q=0.001, f/g;q=0")
                == ["c/d 1000", "e/* 1000", "a/b 500", "*/* 1", "f/g 0"])
    }

    @Test func parametersMayBeQuoted() {
        let types = AcceptedType.parse("a/b; One=\"x,y;\\\"z\" ;two=2;q=\"0.5\", c/d")
        #expect(types.count == 2)
        #expect(types.first?.type == "c/d")
        #expect(types.last?.parameters == ["one": "x,y;\"z", "two": "2"])
        #expect(types.last?.weight == 500)
    }

    @Test(arguments: ["q=2", "q=1.5", "q=-1", "q=", "q=0.1234", "q=abc"])
    func aWeightThatIsNoneIsOne(_ parameter: String) {
        #expect(AcceptedType.parse("a/b;\(parameter)").first?.weight == 1000)
    }

    @Test func nothingIsMadeOfNothing() {
        #expect(AcceptedType.parse(nil).isEmpty)
        #expect(AcceptedType.parse("").isEmpty)
        #expect(AcceptedType.parse(",;,q=1, \"").isEmpty)
    }

    @Test func theCountIsBounded() {
        let many = Array(repeating: "a/b", count: 10_000).joined(separator: ",")
        #expect(AcceptedType.parse(many).count == AcceptedType.countMax)
    }
}
