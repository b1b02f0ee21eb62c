import ArgumentParser
import CLinux
import DiskImage
import Glibc
import Platform

/// `uj-bench clone`: from the command line to the first instruction of a machine made from a 20 GiB template.
///
/// The guest's first instructions print a word on its serial port, so the word in the port's log is the sign. The
/// template's disk has all tables of a full disk; its data are holes.
struct CloneBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clone",
    abstract:
      "'uj start -t' of a 20 GiB template: time to the guest's first instruction, and space."
  )

  @Option(help: "Rounds; the median counts.") var rounds = 9
  @Option(help: "Size of the template's disk in GiB.") var gibibytes = 20
  @Option(help: "Who runs the guest: kvm or soft.") var accel = "soft"
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  func run() throws {
    let folder = try temporaryFolder("clone")
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let environment = ["UNDERJACK_HOME": "\(folder)/home", "UNDERJACK_RUNTIME": "\(folder)/run"]
    func command(_ arguments: [String]) throws {
      let result = try ChildProcess.run([uj] + arguments, environment: environment)
      guard result.status == 0 else { throw BenchmarkError(result.output) }
    }
    let kernel = "\(folder)/kernel"
    try writeBytes(HaltingGuest.kernel, to: kernel)
    let disk = "\(folder)/template.qcow2"
    var options = Qcow2.Options()
    options.preallocation = .metadata
    try Qcow2.create(disk, size: UInt64(gibibytes) << 30, options: options)
    try command([
      "new", "big", "--template", "--kernel", kernel, "--memory", "64M", "--disk", disk, "--accel",
      accel,
    ])
    var times = Measurement(name: "first instruction")
    var whole = Measurement(name: "uj start")
    var space = Measurement(name: "KiB")
    for round in 0..<rounds {
      let name = "clone\(round)"
      let log = "\(folder)/home/machines/\(name)/log/serial0.log"
      let start = MonotonicClock.now
      let child = try ChildProcess.start(
        [uj, "start", "-t", "big", name], environment: environment)
      let limit = start + 60_000_000_000
      while !contains(log, HaltingGuest.text) {
        guard MonotonicClock.now < limit else {
          throw BenchmarkError("\(name): the guest did not print '\(HaltingGuest.text)'")
        }
        usleep(200)
      }
      times.values.append(Double(MonotonicClock.now - start) / 1e6)
      guard ChildProcess.wait(for: child.identifier) == 0 else {
        throw BenchmarkError("uj start -t big \(name) failed")
      }
      whole.values.append(Double(MonotonicClock.now - start) / 1e6)
      space.values.append(Double(allocated("\(folder)/home/machines/\(name)")) / 1024)
      try command(["stop", "-f", name])
    }
    print("clone of a \(gibibytes) GiB template and start, \(accel), median (minimum) of \(rounds)")
    print("  first instruction  \(row(times)) ms")
    print("  'uj start' is done \(row(whole)) ms")
    print("  space on disk      \(row(space)) KiB")
  }

  private func row(_ measurement: Measurement) -> String {
    "\(column(decimal(measurement.median, 1), 8)) (\(decimal(measurement.minimum, 1)))"
  }

  /// Bytes that a folder takes on the disk, with all in it.
  private func allocated(_ path: String) -> UInt64 {
    var information = stat()
    guard lstat(path, &information) == 0 else { return 0 }
    var sum = UInt64(clamping: information.st_blocks) * 512
    guard information.st_mode & Glibc.S_IFMT == Glibc.S_IFDIR, let folder = opendir(path) else {
      return sum
    }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { sum += allocated("\(path)/\(name)") }
    }
    return sum
  }

  private func contains(_ path: String, _ text: String) -> Bool {
    guard let file = try? FileDescriptor.open(path, O_RDONLY) else { return false }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = (try? bytes.withUnsafeMutableBytes { try file.read(into: $0) }) ?? 0
    return String(decoding: bytes[..<count], as: UTF8.self).contains(text)
  }
}

/// A new folder in /tmp.
func temporaryFolder(_ name: String) throws -> String {
  var template = Array("/tmp/uj-bench-\(name)-XXXXXX".utf8CString)
  return try template.withUnsafeMutableBufferPointer { buffer in
    guard let start = buffer.baseAddress, mkdtemp(start) != nil else {
      throw BenchmarkError("/tmp: no folder can be made there")
    }
    return String(cString: start)
  }
}

func writeBytes(_ bytes: [UInt8], to path: String) throws {
  let file = try FileDescriptor.open(path, O_CREAT | O_TRUNC | O_WRONLY, mode: 0o644)
  var done = 0
  while done < bytes.count {
    done += try bytes[done...].withUnsafeBytes { try file.write($0) }
  }
}
