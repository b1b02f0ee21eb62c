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

/// `qemu-img check` of a closed image: 0 clean, 3 leaks, 2 corrupt.
func expectClean(_ path: String, sourceLocation: SourceLocation = #_sourceLocation) {
  let result = shell("cd /tmp; cd \"$(dirname '\(path)')\"; qemu-img check '\(path)'")
  #expect(result.status == 0, "\(result.output)", sourceLocation: sourceLocation)
}
