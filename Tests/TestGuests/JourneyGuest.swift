import Platform

/// A program of our own that is sent through time (see Sources/journey.c), for each width of a processor.
package enum JourneyGuest: Int, CaseIterable, Sendable {
  case realMode = 16
  case protectedMode = 32
  case longMode = 64

  private static let sources =
    String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.endIndex)) + "/Sources"

  /// Builds it.
  ///
  /// - Returns: the path of a file for `--kernel`, in `folder`.
  package func build(in folder: String) throws -> String {
    let output = "\(folder)/journey\(rawValue)"
    let entry = "\(folder)/entry.o"
    let body = "\(folder)/body.o"
    let compile = [
      "/usr/bin/cc", "-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector",
      "-mgeneral-regs-only", "-fno-asynchronous-unwind-tables", "-O1", "-Wall", "-Werror", "-c",
      "\(Self.sources)/journey.c", "-o", body,
    ]
    switch self {
    case .realMode:
      try run(compile + ["-m16", "-march=i486", "-DSIXTEEN"])
      try assemble("entry16", entry, ["-m32"])
      let program = "\(folder)/program"
      try run([
        "/usr/bin/ld", "-m", "elf_i386", "-T", "\(Self.sources)/guest16.ld", "-o", program, entry,
        body,
      ])
      let start = "\(folder)/start.o"
      try assemble("start16", start, ["-m32", "-DPROGRAM=\"\(program)\""])
      try link("guest32", output, [start], ["-m", "elf_i386"])
    case .protectedMode:
      try run(compile + ["-m32", "-march=i486"])
      try assemble("start32", entry, ["-m32"])
      try link("guest32", output, [entry, body], ["-m", "elf_i386"])
    case .longMode:
      try run(compile + ["-mno-red-zone"])
      try assemble("start64", entry, [])
      try link("guest64", output, [entry, body], [])
    }
    return output
  }

  private func assemble(_ name: String, _ output: String, _ options: [String]) throws {
    try run(["/usr/bin/cc"] + options + ["-c", "\(Self.sources)/\(name).S", "-o", output])
  }

  private func link(
    _ script: String, _ output: String, _ objects: [String], _ options: [String]
  ) throws {
    try run(
      ["/usr/bin/ld", "--no-warn-rwx-segments"] + options
        + ["-T", "\(Self.sources)/\(script).ld", "-o", output] + objects)
  }

  private func run(_ arguments: [String]) throws {
    let result = try TestProcess.run(arguments)
    guard result.status == 0 else {
      throw TestGuestError("\(arguments.joined(separator: " ")): \(result.output)")
    }
  }
}
