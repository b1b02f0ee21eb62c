import Platform

/// Programs of our own that run inside Linux guests, built from `Sources` by the C compiler.
package enum GuestProgram: String, Sendable {
  /// Between a vsock and standard input and output.
  case vsock

  /// Builds it, without libraries of its own.
  ///
  /// - Returns: its path in `folder`.
  /// - Throws: what the compiler said.
  package func build(in folder: String) throws -> String {
    let file = #filePath
    let sources = file.prefix(upTo: file.lastIndex(of: "/") ?? file.endIndex) + "/Sources"
    let path = "\(folder)/\(rawValue)"
    let result = try TestProcess.run([
      "/usr/bin/cc", "-static", "-O1", "-Wall", "-Werror", "-o", path,
      "\(sources)/\(rawValue).c",
    ])
    guard result.status == 0 else { throw TestGuestError("cc \(rawValue).c: \(result.output)") }
    return path
  }
}
