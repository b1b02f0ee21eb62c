import CLinux
import DiskImage
import Hosting
import Inventory
import Machine
import Platform

/// Something that a verb found wrong, in one line.
struct UsageFailure: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// Ends the program with a status and nothing more to say.
struct ExitStatus: Error {
  var status: Int32
}

enum Failure {
  /// Errors that are one line for a person, as opposed to the argument parser's.
  static func isOurs(_ error: any Error) -> Bool {
    error is InventoryError || error is HostingError || error is MachineError
      || error is PlatformError || error is UsageFailure || error is JSONError
      || error is DiskImageError || error is DemonstrationError
  }

  static func print(_ error: any Error) {
    write("uj: \(error)\n", to: 2)
  }

  /// Warnings and what is going on: on standard error, so that output stays fit for programs.
  static func note(_ text: String) {
    write("\(text)\n", to: 2)
  }
}

/// Writes all of a text, whatever the descriptor is.
func write(_ text: String, to descriptor: Int32 = 1) {
  var text = text
  text.withUTF8 { buffer in
    var rest = UnsafeRawBufferPointer(buffer)[...]
    while !rest.isEmpty {
      let part = UnsafeRawBufferPointer(rebasing: rest)
      let count = CLinux.write(descriptor, part.baseAddress, part.count)
      if count < 0 {
        if linux_error_number() == EINTR { continue }
        // The reader is gone, as in `uj log | head`.
        exit(linux_error_number() == EPIPE ? 141 : 1)
      }
      rest = rest.dropFirst(count)
    }
  }
}

func say(_ text: String) {
  write(text + "\n")
}
