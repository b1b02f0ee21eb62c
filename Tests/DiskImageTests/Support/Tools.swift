// Temporary folders, outside programs and reproducible random numbers for the tests.
import CLinux
import DiskImage
import Glibc
import Testing

/// A folder that goes away with the value.
final class TemporaryFolder {
  let path: String

  init() {
    var template = Array("/tmp/uj-disk-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template))
  }

  deinit { _ = shell("rm -rf '\(path)'") }

  func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// Runs a command line; returns its exit status and what it printed.
@discardableResult
func shell(_ command: String) -> (status: Int32, output: String) {
  guard let pipe = popen("(\(command)) 2>&1", "r") else { return (-1, "") }
  var output: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = fread(&buffer, 1, buffer.count, pipe)
    if count == 0 { break }
    output += buffer[..<count]
  }
  let status = pclose(pipe)
  return ((status >> 8) & 0xff, String(decoding: output, as: UTF8.self))
}

/// What is missing on a machine without QEMU's tools.
enum Requirement {
  static let hasQemu =
    access("/usr/bin/qemu-img", X_OK) == 0 && access("/usr/bin/qemu-io", X_OK) == 0
  /// Long variants: set UNDERJACK_LONG_TESTS.
  static let isLong = getenv("UNDERJACK_LONG_TESTS") != nil
}

/// SplitMix64: the same numbers in each run.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

extension BlockDevice {
  func bytes(_ count: Int, at offset: UInt64) throws -> [UInt8] {
    var buffer = [UInt8](repeating: 0xee, count: count)
    try buffer.withUnsafeMutableBytes { try read(into: $0, at: offset) }
    return buffer
  }

  func put(_ bytes: [UInt8], at offset: UInt64) throws {
    try bytes.withUnsafeBytes { try write(from: $0, at: offset) }
  }

  func fill(_ value: UInt8, _ count: Int, at offset: UInt64) throws {
    try put([UInt8](repeating: value, count: count), at: offset)
  }
}

/// `qemu-img check` of a closed image: 0 clean, 3 leaks, 2 corrupt.
func expectClean(_ path: String, sourceLocation: SourceLocation = #_sourceLocation) {
  let result = shell("cd /tmp; cd \"$(dirname '\(path)')\"; qemu-img check '\(path)'")
  #expect(result.status == 0, "\(result.output)", sourceLocation: sourceLocation)
}

func qcow2(_ clusterBits: Int, _ change: (inout Qcow2.Options) -> Void = { _ in }) -> Qcow2.Options
{
  var options = Qcow2.Options()
  options.clusterBits = clusterBits
  change(&options)
  return options
}
