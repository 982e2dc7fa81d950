import Base
import Serving

/// Requests of a server, over a small tree.
///
/// The input is a request, and behind bytes FF what the tree holds at some places: a page, a manifest, a `_redirects` file. In the
/// request a byte from 80 on stands for one of `Served.words`, so that a run finds CIDs and digests. What is beside the tree, and
/// uploads under way, must be in no answer, and what no repository links to in none of the registry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    let input = [UInt8](UnsafeRawBufferPointer(start: start, count: count))
    let parts = input.split(separator: 0xff, maxSplits: 3, omittingEmptySubsequences: false)
        .map { Array($0) }
    func part(_ index: Int) -> [UInt8] { index < parts.count ? parts[index] : [] }
    for part in parts { ServeTrial.read(part) }
    let held = Array(parts.dropFirst())
    guard
        let served = last.withLock({ last in last?.held == held ? last?.served : nil })
            ?? (try? Served(page: part(1), manifest: part(2), redirects: part(3))),
        let trial = try? ServeTrial(content: served, peer: Served.peer)
    else { preconditionFailure("the tree is one") }
    last.withLock { $0 = (held, served) }
    let request = served.spelled(part(0))
    // Whoever wrote the marks into the page gets them back.
    let (outside, unlinked) = (!input.holds(Mark.outside), !input.holds(Mark.unlinked))
    let target = request.drop { $0 != 0x20 }.dropFirst()
    for face in ServeTrial.Face.allCases {
        guard let (_, body) = trial.answer(request, by: face) else { continue }
        precondition(!outside || !body.holds(Mark.outside), "what is not of the tree was served")
        if unlinked, face != .site, target.starts(with: "/v2/".utf8) {
            precondition(!body.holds(Mark.unlinked), "what no repository has was served")
        }
    }
    return 0
}

/// The tree of the input before, which is often that of the next one.
private let last = Monitor<(held: [[UInt8]], served: Served)?>(nil)

/// How content begins that must not come out: no text, so that no message can have it.
enum Mark {
    static let outside: [UInt8] = [0xc1, 0xf5, 0xfe, 0xc0, 0xf8, 0x80, 0xfb, 0xc1]
    static let unlinked: [UInt8] = [0xf9, 0xc0, 0xf6, 0xfd, 0xc1, 0x90, 0xfa, 0xf9]
}

extension [UInt8] {
    fileprivate func holds(_ mark: [UInt8]) -> Bool {
        var rest = self[...]
        while let index = rest.firstIndex(of: mark[0]) {
            if rest[index...].starts(with: mark) { return true }
            rest = rest[(index + 1)...]
        }
        return false
    }
}
