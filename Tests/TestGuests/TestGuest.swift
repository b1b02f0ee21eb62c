import Glibc
import Platform

/// Programs of our own that run as guests in tests, built from `Sources` by the C compiler on first use.
package enum TestGuest: String, CaseIterable, Sendable {
  /// 32 bit, multiboot.
  case multiboot32
  /// 64 bit, in the form of a Linux bzImage.
  case bzImage64
  /// 16 bit, a firmware image with a reset vector.
  case firmware16
  /// 64 bit, for Solo5's hvt.
  case unikernel

  /// Whether the tools are there; nil means yes, else what is missing.
  package static let missingTool: String? = {
    for tool in ["/usr/bin/cc", "/usr/bin/ld"] where access(tool, X_OK) != 0 {
      return "\(tool) is missing: install gcc and binutils"
    }
    return nil
  }()

  private static let sources =
    String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.endIndex)) + "/Sources"
  private static let built = Monitor<[String: String]>([:])

  /// The path of the program, built now if it was not yet.
  package func path() throws -> String {
    try Self.built.update { built in
      if let path = built[rawValue] { return path }
      let path = try build()
      built[rawValue] = path
      return path
    }
  }

  private func build() throws -> String {
    let folder = try TestFolder.make("guest")
    let sources = Self.sources
    let compile = [
      "/usr/bin/cc", "-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector",
      "-mgeneral-regs-only", "-fno-asynchronous-unwind-tables", "-O1", "-c",
    ]
    let output = "\(folder)/guest"
    switch self {
    case .multiboot32:
      try run(compile + ["-m32", "-march=i486", "\(sources)/guest.c", "-o", "\(folder)/c.o"])
      try run(["/usr/bin/cc", "-m32", "-c", "\(sources)/start32.S", "-o", "\(folder)/s.o"])
      try run([
        "/usr/bin/ld", "-m", "elf_i386", "-T", "\(sources)/guest32.ld", "-o", output,
        "\(folder)/s.o", "\(folder)/c.o",
      ])
    case .bzImage64:
      try run(compile + ["-mno-red-zone", "\(sources)/guest.c", "-o", "\(folder)/c.o"])
      try run(["/usr/bin/cc", "-c", "\(sources)/start64.S", "-o", "\(folder)/s.o"])
      try run([
        "/usr/bin/ld", "-T", "\(sources)/guest64.ld", "-o", output, "\(folder)/s.o",
        "\(folder)/c.o",
      ])
    case .firmware16:
      try run(["/usr/bin/cc", "-m32", "-c", "\(sources)/real16.S", "-o", "\(folder)/s.o"])
      try run([
        "/usr/bin/ld", "-m", "elf_i386", "-Ttext", "0", "--oformat", "binary", "-o", output,
        "\(folder)/s.o",
      ])
    case .unikernel:
      try run([
        "/usr/bin/cc", "-ffreestanding", "-fno-pic", "-fno-pie", "-fno-stack-protector",
        "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-mno-red-zone", "-O1", "-Wall",
        "-Werror", "-static", "-nostdlib", "-no-pie", "-Wl,-Ttext-segment=0x100000",
        "-Wl,-z,max-page-size=4096", "-Wl,--build-id=none", "-o", output,
        "\(sources)/unikernel.c",
      ])
    }
    return output
  }

  private func run(_ arguments: [String]) throws {
    let result = try TestProcess.run(arguments)
    guard result.status == 0 else {
      throw TestGuestError("\(arguments.joined(separator: " ")): \(result.output)")
    }
  }
}

/// What a tool said when it could not build a guest.
package struct TestGuestError: Error, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}
