/// What a run found: as a table for people, as JSON for programs, as a plot for the README.
struct Report {
    let options: Options
    let results: Results
    let disk: Target
    let mount: Target
    let peers: [Target]

    init(_ runner: Runner) {
        options = runner.options
        results = runner.results
        disk = runner.disk
        mount = runner.mount
        peers = Array(runner.targets.dropFirst(2))
    }

    /// What is compared with the bound of a work item, where there is one.
    func compared(_ bound: Bound) -> Double? {
        guard let work = results.work(named: bound.work) else { return nil }
        return switch bound.measure {
        case .ratioToDisk: results.ratios(work, mount.name, to: disk.name)?.median
        case .ratioTo(let peer): results.ratios(work, mount.name, to: peer)?.median
        case .figure: results.spread(work, mount.name)?.median
        }
    }

    /// The work items whose bound was measured and does not hold.
    var misses: [String] {
        Bound.all.filter { bound in compared(bound).map { !bound.holds($0) } ?? false }.map(\.work)
    }

    private func verdict(_ work: Work) -> String {
        guard let bound = Bound.all.first(where: { $0.work == work.name }) else { return "" }
        let limit = "\(bound.isAtLeast ? ">=" : "<=") \(fixed(bound.limit, 2))"
        guard let value = compared(bound) else { return "\(limit) ?" }
        let mark = bound.holds(value) ? "pass" : "MISS"
        guard case .ratioTo(let peer) = bound.measure else { return "\(limit) \(mark)" }
        return "\(limit) of \(peer): \(fixed(value, 2)) \(mark)"
    }

    /// Ratios as median (lowest-highest), and what must hold for them.
    func table() -> String {
        var rows = [
            ["work", "unit", disk.name, "\(mount.name) / \(disk.name)"] + peers.map(\.name)
                + ["must hold"]
        ]
        var group: Group?
        for work in results.works {
            if work.group != group {
                group = work.group
                rows.append([])
            }
            let arrow = work.unit.higherIsBetter ? "+" : "-"
            var row = [work.name, work.unit.rawValue + " " + arrow]
            if work.isAlone {
                row += ["", results.spread(work, mount.name).map(figures) ?? "failed"]
                row += peers.map { _ in "" }
            } else {
                row.append(results.spread(work, disk.name).map { figure($0.median) } ?? "failed")
                row.append(
                    results.ratios(work, mount.name, to: disk.name).map(ratio) ?? "failed")
                row += peers.map { peer in
                    results.ratios(work, peer.name, to: disk.name).map { fixed($0.median, 2) } ?? ""
                }
            }
            rows.append(row + [verdict(work)])
        }
        let counts = rows.reduce(into: [Int](repeating: 0, count: rows[0].count)) { widths, row in
            for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.count) }
        }
        let told = ["commit", "passthrough", "kernel", "cpus", "disk", "load"]
        let facts = options.facts.filter { told.contains($0.key) }
        var text = facts.map { "\($0.key): \($0.value)" }.joined(separator: "; ") + "\n\n"
        for row in rows {
            var line = ""
            for (index, cell) in row.enumerated() {
                let pad = String(repeating: " ", count: counts[index] - cell.count)
                let isText = index < 2 || index == row.count - 1
                line += (index == 0 ? "" : "  ") + (isText ? cell + pad : pad + cell)
            }
            while line.hasSuffix(" ") { line.removeLast() }
            text += line + "\n"
        }
        let bounded = Bound.all.filter { compared($0) != nil }.count
        text += "\n+ higher is better, - lower is better; ratios are medians (lowest-highest) of "
        text += "\(options.rounds) pairs.\n"
        text += "\(bounded - misses.count) of \(bounded) bounds hold.\n"
        return text
    }

    private func ratio(_ spread: Spread) -> String {
        "\(fixed(spread.median, 2)) (\(fixed(spread.low, 2))-\(fixed(spread.high, 2)))"
    }

    private func figures(_ spread: Spread) -> String {
        "\(figure(spread.median)) (\(figure(spread.low))-\(figure(spread.high)))"
    }

    private func figure(_ value: Double) -> String {
        fixed(value, value >= 1000 ? 0 : value >= 10 ? 1 : 3)
    }

    func json() -> String {
        var facts = options.facts.map { "\(quoted($0.key)): \(quoted($0.value))" }
        facts.append("\"rounds\": \"\(options.rounds)\"")
        facts.append("\"quick\": \"\(options.isQuick)\"")
        let works = results.works.map { work -> String in
            var fields = [
                "\"name\": \(quoted(work.name))", "\"group\": \(quoted(work.group.rawValue))",
                "\"unit\": \(quoted(work.unit.rawValue))",
                "\"higherIsBetter\": \(work.unit.higherIsBetter)",
            ]
            if let bound = Bound.all.first(where: { $0.work == work.name }) {
                var parts = [
                    "\"\(bound.isAtLeast ? "atLeast" : "atMost")\": \(bound.limit)",
                    "\"of\": \(quoted(reference(bound)))",
                ]
                if let value = compared(bound) {
                    parts += ["\"value\": \(value)", "\"holds\": \(bound.holds(value))"]
                }
                fields.append("\"bound\": {\(parts.joined(separator: ", "))}")
            }
            let samples = ([disk, mount] + peers).compactMap { target -> String? in
                let values = results.values(work, target.name)
                guard !values.isEmpty else { return nil }
                let list = values.map { "\($0.value)" }.joined(separator: ", ")
                return "\(quoted(target.name)): [\(list)]"
            }
            fields.append("\"samples\": {\(samples.joined(separator: ", "))}")
            if !work.isAlone, let spread = results.ratios(work, mount.name, to: disk.name) {
                fields.append(
                    "\"ratio\": {\"median\": \(spread.median), \"low\": \(spread.low), "
                        + "\"high\": \(spread.high)}")
            }
            return "    {" + fields.joined(separator: ", ") + "}"
        }
        return """
            {
              "machine": {\(facts.joined(separator: ", "))},
              "disk": \(quoted(disk.name)), "mount": \(quoted(mount.name)),
              "failures": [\(results.failures.map(quoted).joined(separator: ", "))],
              "works": [
            \(works.joined(separator: ",\n"))
              ]
            }

            """
    }

    private func reference(_ bound: Bound) -> String {
        switch bound.measure {
        case .ratioToDisk: disk.name
        case .ratioTo(let peer): peer
        case .figure: "figure"
        }
    }
}

/// A number with so many digits after the point.
func fixed(_ value: Double, _ digits: Int) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (value * scale).rounded()
    guard digits > 0, scaled.magnitude < 1e15 else {
        return scaled.magnitude < 1e15 ? String(Int(scaled / scale)) : "\(value)"
    }
    let whole = Int(scaled.magnitude)
    let part = String(whole % Int(scale))
    let zeros = String(repeating: "0", count: digits - part.count)
    return "\(scaled < 0 ? "-" : "")\(whole / Int(scale)).\(zeros)\(part)"
}

/// A JSON string (RFC 8259, section 7).
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"", "\\": result += "\\\(scalar)"
        case _ where scalar.value < 0x20:
            let hex = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
