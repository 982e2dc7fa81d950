import KuboDouble
import Testing

/// What was recorded from a real node, played to the double.
struct ReplayTests {
    @Test func doubleSaysTheReleaseOfTheRecording() {
        #expect(kuboDoubleVersion == "0.43.0-rc1")
    }
}
