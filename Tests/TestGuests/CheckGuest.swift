import Platform

/// The check guest: one program of our own that goes through everything a PC has, each check a line on COM1. The same
/// image is entered in five ways. Built from `Sources/checks` by the C compiler on first use.
package enum CheckGuest: String, CaseIterable, Sendable {
  /// 32 bit, then 64 bit.
  case multiboot, pvh, linux32
  /// 64 bit only.
  case linux64
  /// From the reset vector: 16, 32, then 64 bit.
  case firmware

  /// The path of the image, built now if it was not yet.
  package func path() throws -> String {
    let folder = try Self.built.get()
    return "\(folder)/\(rawValue)"
  }

  private static let built = Result { try build() }
  private static let sources =
    String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.endIndex))
    + "/Sources/checks"
  private static let programs = [
    "main", "console", "traps", "processor", "user", "chips", "serial", "clocks", "apic", "pci",
    "virtio", "ahci", "tables", "smp",
  ]
  /// What the flat image may take, and entry16.S must know: the firmware's last 64 KiB follow.
  private static let flatSize = 0x5_0000

  private static func build() throws -> String {
    let folder = try TestFolder.make("checks")
    let files = programs.map { "\(sources)/\($0).c" }
    let compile =
      [
        "/usr/bin/cc", "-ffreestanding", "-nostdlib", "-fno-pic", "-fno-pie", "-no-pie",
        "-fno-stack-protector", "-mgeneral-regs-only", "-fno-asynchronous-unwind-tables",
        "-fno-tree-loop-distribute-patterns", "-O1", "-Wall", "-Wextra", "-Werror", "-r",
      ] + files
    func assemble(_ name: String, _ output: String, _ options: [String] = []) throws {
      try run(["/usr/bin/cc"] + options + ["-c", "\(sources)/\(name).S", "-o", output])
    }
    // The 64-bit part is a flat file inside the 32-bit one.
    try run(compile + ["-m64", "-mno-red-zone", "-o", "\(folder)/c64.o"])
    try assemble("entry64", "\(folder)/entry64.o")
    try run([
      "/usr/bin/ld", "-T", "\(sources)/image64.ld", "-o", "\(folder)/image64",
      "\(folder)/entry64.o", "\(folder)/c64.o",
    ])
    try run(compile + ["-m32", "-march=i686", "-o", "\(folder)/c32.o"])
    for (image, macro) in [("multiboot", "MULTIBOOT"), ("pvh", "PVH")] {
      let object = "\(folder)/entry32-\(image).o"
      try assemble(
        "entry32", object, ["-m32", "-D\(macro)", "-DIMAGE64=\"\(folder)/image64\""])
      try run([
        "/usr/bin/ld", "--no-warn-rwx-segments", "-m", "elf_i386", "-T", "\(sources)/image32.ld",
        "-o", "\(folder)/\(image)", object, "\(folder)/c32.o",
      ])
    }
    // A bzImage is two sectors and the flat image; a firmware image the flat image and its own end.
    try run([
      "/usr/bin/objcopy", "-O", "binary", "-j", ".text", "-j", ".rodata", "-j", ".data", "-j",
      ".image64", "\(folder)/pvh", "\(folder)/flat",
    ])
    for (image, flags) in [("linux32", 0), ("linux64", 1)] {
      let object = "\(folder)/setup-\(image).o"
      try assemble(
        "setup", object,
        ["-m32", "-DLOAD_FLAGS=\(flags)", "-DFLAT=\"\(folder)/flat\""])
      try run(["/usr/bin/objcopy", "-O", "binary", "-j", ".text", object, "\(folder)/\(image)"])
    }
    try assemble(
      "entry16", "\(folder)/entry16.o",
      ["-m32", "-DFLAT=\"\(folder)/flat\"", "-DFLAT_SIZE=\(flatSize)"])
    try run([
      "/usr/bin/objcopy", "-O", "binary", "-j", ".firmware", "\(folder)/entry16.o",
      "\(folder)/firmware",
    ])
    return folder
  }

  private static func run(_ arguments: [String]) throws {
    let result = try TestProcess.run(arguments)
    guard result.status == 0 else {
      throw TestGuestError("\(arguments.joined(separator: " ")): \(result.output)")
    }
  }
}
