import Glibc

extension Report {
    /// An SVG picture of the speeds relative to the disk below, on a logarithmic scale.
    ///
    /// Times are turned over, so that to the right is better for every line. The bar of the mount
    /// goes from the lowest to the highest ratio, and its dot is the median; peers are small marks.
    func plot() -> String {
        let left = 230.0
        let width = 860.0
        let right = width - 24
        let step = 19.0
        let low = 0.03
        let high = 4.0
        func place(_ ratio: Double) -> Double {
            let clamped = min(max(ratio, low), high)
            return left + (right - left) * log(clamped / low) / log(high / low)
        }
        func speed(_ work: Work, _ target: Target) -> Spread? {
            let ratios = results.ratios(work, target.name, to: disk.name)
            return work.unit.higherIsBetter ? ratios : ratios?.reciprocal
        }

        var body = ""
        var y = 64.0
        for group in Group.allCases {
            let works = results.works.filter { $0.group == group && !$0.isAlone }
            guard !works.isEmpty else { continue }
            body += text(12, y + 4, group.rawValue, "class=\"group\"")
            y += step
            for work in works {
                body += text(left - 12, y + 4, work.name, "text-anchor=\"end\"")
                body += line(left, y, right, y, "row")
                for (index, peer) in peers.enumerated() {
                    guard let spread = speed(work, peer) else { continue }
                    body += mark(index, place(spread.median), y)
                }
                if let spread = speed(work, mount) {
                    body += line(place(spread.low), y, place(spread.high), y, "spread")
                    body += "<circle class=\"mount\" cx=\"\(fixed(place(spread.median), 1))\" "
                    body += "cy=\"\(fixed(y, 1))\" r=\"5\"/>\n"
                }
                y += step
            }
            y += 6
        }
        var axis = ""
        for tick in [0.03, 0.1, 0.3, 1, 3] {
            let x = place(tick)
            axis += line(x, 46, x, y - step / 2, tick == 1 ? "one" : "tick")
            let number = fixed(tick, tick < 0.1 ? 2 : tick < 1 ? 1 : 0)
            let label = tick == 1 ? "\(disk.name) = 1" : number
            axis += text(x, 40, label, "text-anchor=\"middle\"")
        }
        var x = left
        var legend = "<circle class=\"mount\" cx=\"\(fixed(x, 1))\" "
        legend += "cy=\"\(fixed(y + 8, 1))\" r=\"5\"/>\n"
        legend += text(x + 10, y + 12, mount.name, "")
        x += 40 + Double(mount.name.count) * 7
        for (index, peer) in peers.enumerated() {
            legend += mark(index, x, y + 8)
            legend += text(x + 10, y + 12, peer.name, "")
            x += 40 + Double(peer.name.count) * 7
        }
        let height = fixed(y + 28, 0)
        return """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(fixed(width, 0))" height="\(height)" \
            viewBox="0 0 \(fixed(width, 0)) \(height)" role="img" \
            aria-label="Speed of \(mount.name) relative to \(disk.name)">
            <style>
            text { font: 12px system-ui, sans-serif; fill: #1f2328; }
            .title { font-weight: 600; font-size: 14px; }
            .group { font-weight: 600; }
            .back { fill: #ffffff; }
            .row, .tick { stroke: #d0d7de; stroke-width: 1; }
            .row { stroke-dasharray: 1 4; }
            .one { stroke: #1f2328; stroke-width: 1.5; }
            .spread { stroke: #0969da; stroke-width: 3; stroke-linecap: round; opacity: .5; }
            .mount { fill: #0969da; }
            .peer { fill: none; stroke: #8c6d1f; stroke-width: 1.5; }
            @media (prefers-color-scheme: dark) {
              text { fill: #e6edf3; }
              .back { fill: #0d1117; }
              .row, .tick { stroke: #3d444d; }
              .one { stroke: #e6edf3; }
              .spread { stroke: #58a6ff; }
              .mount { fill: #58a6ff; }
              .peer { stroke: #d9b55a; }
            }
            </style>
            <rect class="back" width="100%" height="100%"/>
            \(text(12, 20, "Speed relative to \(disk.name) below (times turned over: right is faster)",
                "class=\"title\""))\
            \(axis)\(body)\(legend)</svg>

            """
    }

    private func text(_ x: Double, _ y: Double, _ content: String, _ attributes: String) -> String {
        "<text x=\"\(fixed(x, 1))\" y=\"\(fixed(y, 1))\" \(attributes)>\(escaped(content))</text>\n"
    }

    private func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ name: String
    ) -> String {
        "<line class=\"\(name)\" x1=\"\(fixed(x1, 1))\" y1=\"\(fixed(y1, 1))\" "
            + "x2=\"\(fixed(x2, 1))\" y2=\"\(fixed(y2, 1))\"/>\n"
    }

    /// A mark of another shape for each peer.
    private func mark(_ index: Int, _ x: Double, _ y: Double) -> String {
        let shapes = [
            "M-4 -4 L4 4 M-4 4 L4 -4", "M0 -5 L5 4 L-5 4 Z", "M-4 -4 H4 V4 H-4 Z",
            "M0 -5 V5 M-5 0 H5",
        ]
        return "<path class=\"peer\" d=\"\(shapes[index % shapes.count])\" "
            + "transform=\"translate(\(fixed(x, 1)) \(fixed(y, 1)))\"/>\n"
    }

    private func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "&": result += "&amp;"
            default: result.append(character)
            }
        }
        return result
    }
}
