import ArgumentParser
import CLinux
import Glibc
import Platform

/// `uj-bench disk`: the same work on the same images by `uj disk` and by qemu-img, interleaved.
struct DiskBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "disk",
    abstract: "Disk images beside qemu-img: time and peak memory of every operation.",
    discussion: """
      Makes a raw image half full, and from it all others, in a folder of its own that it removes. Warm cache. Each \
      round runs ours and qemu-img's; the median counts. A ratio below 1 is ours ahead. Peak memory is that of a run \
      of its own under time(1).
      """)

  @Option(help: "Rounds; the median counts.") var rounds = 5
  @Option(help: "Size of the images, GiB.") var gigabytes = 2
  @Option(help: "Size of the image for snapshots and check, GiB.") var snapshotGigabytes = 8
  @Option(help: "Where the images are made.") var folder = "/var/tmp"
  @Option(help: "Requests per row of reads and writes.") var requests = 50_000
  @Option(help: "Only rows whose name contains this.") var only: String?
  @Flag(help: "Reads and writes past the host's page cache.") var direct = false
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  func run() throws {
    let qemuImage = "/usr/bin/qemu-img"
    guard access(qemuImage, X_OK) == 0 else {
      throw BenchmarkError("qemu-img is not installed (package qemu-utils)")
    }
    let place = "\(folder)/uj-bench-\(getpid())"
    try systemCall("mkdir") { mkdir(place, 0o700) }
    defer { try? Images.clear(place) }
    let images = Images(
      folder: place, uj: uj, qemuImage: qemuImage, size: gigabytes, snapshotSize: snapshotGigabytes)
    let rows = images.rows(requests: requests, direct: direct).filter {
      only.map($0.name.contains) ?? true
    }
    print(
      column("seconds, median of \(rounds)", 44, right: false) + column("uj", 9)
        + column("qemu-img", 9) + column("ratio", 7) + column("uj MiB", 8)
        + column("qemu MiB", 9))
    var ratios: [Double] = []
    for row in rows { ratios.append(try measure(row)) }
    let ahead = ratios.filter { $0 <= 1 }.count
    let far = ratios.filter { $0 < 0.7 }.count
    print("\(ahead) of \(ratios.count) rows at most 1.0, \(far) below 0.7")
  }

  private func measure(_ row: DiskRow) throws -> Double {
    var ours = Measurement(name: "uj")
    var theirs = Measurement(name: "qemu-img")
    try row.prepare()
    let ourMemory = try MeasuredChild.peakMemory(row.ours)
    try row.prepare()
    let theirMemory = try MeasuredChild.peakMemory(row.theirs)
    for _ in 0..<rounds {
      try row.prepare()
      ours.values.append(try MeasuredChild.run(row.ours).seconds)
      try row.prepare()
      theirs.values.append(try MeasuredChild.run(row.theirs).seconds)
    }
    let ratio = ours.median / theirs.median
    print(
      column(row.name, 44, right: false) + column(decimal(ours.median, 3), 9)
        + column(decimal(theirs.median, 3), 9) + column(decimal(ratio), 7)
        + column(decimal(ourMemory, 1), 8) + column(decimal(theirMemory, 1), 9))
    // A report that is cut off keeps its rows.
    fflush(nil)
    return ratio
  }
}

/// One operation, as both programs are asked for it.
struct DiskRow {
  var name: String
  /// Before each run, not counted: makes anew what the run changes.
  var prepare: () throws -> Void = {}
  var ours: [String]
  var theirs: [String]
}

/// A program run to its end, with what it took.
struct MeasuredChild {
  var seconds: Double
  var output: String

  static func run(_ arguments: [String]) throws -> MeasuredChild {
    let start = MonotonicClock.now
    let child = try ChildProcess.start(arguments)
    var text = ""
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = try buffer.withUnsafeMutableBytes { try child.output.descriptor.read(into: $0) }
      if count == 0 { break }
      text += String(decoding: buffer[..<count], as: UTF8.self)
    }
    var status: Int32 = 0
    while waitpid(child.identifier, &status, 0) == -1 {
      guard linux_error_number() == EINTR else { throw BenchmarkError("waitpid failed") }
    }
    guard status == 0 else {
      throw BenchmarkError("\(arguments.joined(separator: " ")): \(text.suffix(300))")
    }
    return MeasuredChild(seconds: Double(MonotonicClock.now - start) / 1e9, output: text)
  }

  /// Largest resident set of a program, MiB; not a number without time(1).
  ///
  /// A child of ours cannot be asked: until it executes its program it has our own memory, and that counts
  /// (getrusage(2)).
  static func peakMemory(_ arguments: [String]) throws -> Double {
    let program = "/usr/bin/time"
    guard access(program, X_OK) == 0 else { return .nan }
    let output = try run([program, "-q", "-f", "peak %M"] + arguments).output
    guard let last = output.split(separator: "\n").last, last.hasPrefix("peak "),
      let kibibytes = Double(last.dropFirst(5))
    else { throw BenchmarkError("time(1) said: \(output.suffix(300))") }
    return kibibytes / 1024
  }
}
