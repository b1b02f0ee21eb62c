import Platform

/// Why firmware or a kernel cannot be used: one line that names the file and what is wrong.
package struct FirmwareError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file or table.
  package var subject: String
  package var problem: String

  package init(_ subject: String, _ problem: String) {
    self.subject = subject
    self.problem = problem
  }

  init(_ error: PlatformError, _ subject: String) {
    self.init(subject, "\(error.reason) (\(error.operation))")
  }

  package var description: String { "\(subject): \(problem)" }
}
