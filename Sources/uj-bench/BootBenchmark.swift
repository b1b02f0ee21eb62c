import ArgumentParser
import CLinux
import Platform

/// `uj-bench boot`: from process start to SeaBIOS' 'No bootable device', beside QEMU with the same accelerator.
struct BootBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "boot",
    abstract: "SeaBIOS to 'No bootable device', beside QEMU with KVM, interleaved.")

  @Option(help: "Rounds; the median counts.") var rounds = 5
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  func run() throws {
    var ours = Measurement(name: "uj")
    var theirs = Measurement(name: "qemu")
    let qemu = "/usr/bin/qemu-system-x86_64"
    let hasQEMU = access(qemu, X_OK) == 0
    for _ in 0..<rounds {
      ours.values.append(
        try timeUntilText(
          "No bootable device",
          [uj, "run", "--accel", "kvm", "--memory", "256M", "--serial", "stdio"]))
      if hasQEMU {
        theirs.values.append(
          try timeUntilText(
            "No bootable device",
            [
              qemu, "-machine", "pc,accel=kvm,graphics=off", "-nodefaults", "-display", "none",
              "-m", "256", "-serial", "stdio",
            ]))
      }
    }
    print("boot to 'No bootable device', seconds, median (minimum) of \(rounds)")
    print("  uj    \(decimal(ours.median)) (\(decimal(ours.minimum)))")
    guard hasQEMU else {
      print("  qemu  not installed (qemu-system-x86)")
      return
    }
    print("  qemu  \(decimal(theirs.median)) (\(decimal(theirs.minimum)))")
    print("  ratio \(decimal(ours.median / theirs.median))")
  }
}

/// Starts a program, waits until it has printed `text`, kills it, and returns the seconds to the text.
func timeUntilText(_ text: String, _ arguments: [String], limit: Double = 120) throws -> Double {
  let start = MonotonicClock.now
  let child = try ChildProcess.start(arguments)
  defer {
    kill(child.identifier, SIGKILL)
    _ = ChildProcess.wait(for: child.identifier)
  }
  var seen = ""
  var buffer = [UInt8](repeating: 0, count: 4096)
  while !seen.contains(text) {
    let passed = Double(MonotonicClock.now - start) / 1e9
    var ready = pollfd(fd: child.output.rawValue, events: Int16(POLLIN), revents: 0)
    guard passed < limit, poll(&ready, 1, Int32((limit - passed) * 1000)) > 0 else {
      throw BenchmarkError(
        "\(arguments[0]) did not print '\(text)' within \(limit) s: \(seen.suffix(300))")
    }
    let count = try buffer.withUnsafeMutableBytes { try child.output.descriptor.read(into: $0) }
    guard count > 0 else {
      throw BenchmarkError("\(arguments.joined(separator: " ")) ended: \(seen.suffix(300))")
    }
    seen += String(decoding: buffer[..<count], as: UTF8.self)
  }
  return Double(MonotonicClock.now - start) / 1e9
}

/// A benchmark that could not be taken.
struct BenchmarkError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// The path of a program in the folder of this one.
func besideThisProgram(_ name: String) -> String {
  var buffer = [CChar](repeating: 0, count: 4096)
  let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
  let path = String(
    decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  return path[..<(path.lastIndex(of: "/") ?? path.startIndex)] + "/" + name
}
