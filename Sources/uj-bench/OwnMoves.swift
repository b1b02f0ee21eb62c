import CLinux
import Glibc
import Platform

/// A machine of ours that goes from one inventory to another and back while it runs.
struct OwnMoves {
  private let uj: String
  private let environments: [[String: String]]
  private let kernel: String
  private let accel: String
  private let mebibytes: UInt64
  private static let name = "moved"

  init(_ uj: String, folder: String, kernel: String, accel: String, mebibytes: UInt64) {
    self.uj = uj
    environments = ["here", "there"].map { place in
      [
        "UNDERJACK_HOME": "\(folder)/\(place)/home", "UNDERJACK_RUNTIME": "\(folder)/\(place)/run",
      ]
    }
    self.kernel = kernel
    self.accel = accel
    self.mebibytes = mebibytes
  }

  private func command(_ arguments: [String], at place: Int) throws -> String {
    let result = try ChildProcess.run(
      [uj] + arguments, environment: environments[place], seconds: 600)
    guard result.status == 0 else {
      throw BenchmarkError("uj \(arguments.joined(separator: " ")): \(result.output)")
    }
    return result.output
  }

  private func log(_ place: Int) -> String {
    "\(environments[place]["UNDERJACK_HOME"] ?? "")/machines/\(Self.name)/log/serial0.log"
  }

  /// - Parameter bound: milliseconds that are asked for.
  /// - Returns: milliseconds for which the guest stood still, and of each whole move.
  func measure(_ count: Int, bound: Int) throws -> (pause: Measurement, total: Measurement) {
    _ = try command(
      [
        "new", Self.name, "--kernel", kernel, "--memory", "\(mebibytes)M", "--disk", "16M",
        "--accel", accel,
      ], at: 0)
    _ = try command(["start", Self.name], at: 0)
    let first = log(0)
    try waitUntil(seconds: 300, "\(Self.name): a full memory") { fileSize(first) > 16 }
    var figures = (pause: Measurement(name: "stand-still"), total: Measurement(name: "move"))
    for number in 0..<count {
      let (from, to) = (number % 2, 1 - number % 2)
      let receiver =
        ["/usr/bin/env"] + environments[to].map { "\($0.key)=\($0.value)" } + [uj, "receive"]
      let start = MonotonicClock.now
      let text = try command(
        ["send", Self.name, "--downtime", "\(bound)", "--"] + receiver, at: from)
      figures.total.values.append(Double(MonotonicClock.now - start) / 1e6)
      // "it stood still for 1.2 ms"
      let words = text.split { $0 == " " || $0 == "\n" }
      guard let still = words.firstIndex(of: "still"), words.count > still + 2,
        let time = Double(words[still + 2])
      else { throw BenchmarkError("uj send: \(text)") }
      figures.pause.values.append(time)
      // It goes on where it is.
      let (path, before) = (log(to), fileSize(log(to)))
      try waitUntil(seconds: 60, "\(Self.name): a sign of life") { fileSize(path) > before }
    }
    _ = try command(["stop", "-f", Self.name], at: count % 2)
    return figures
  }
}
