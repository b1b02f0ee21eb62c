import CLinux
import KVM
import Platform
import TestGuests
import Testing

/// Files that are missing, cut off, or made to harm: one line that names the file, status 1, nothing written.
@Suite(
  .enabled(if: access(Underjack.program, X_OK) == 0, "uj is not built"),
  .enabled(if: (try? KVMSystem()) != nil, "there is no usable KVM"))
struct BadFileTests {
  private func make(_ path: String, _ bytes: [UInt8]) throws {
    let file = try FileDescriptor.open(path, O_CREAT | O_TRUNC | O_WRONLY, mode: 0o600)
    _ = try bytes.withUnsafeBytes { try file.write($0) }
  }

  /// Names, sizes, times of change and content of all files.
  private func content(of folder: String) throws -> String {
    try TestProcess.run(
      ["/bin/sh", "-c", "ls -lA --time-style=full-iso . files; cksum files/*"], folder: folder
    ).output
  }

  @Test func oneLineAndNothingWritten() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let files = "\(uj.folder)/files"
    mkdir(files, 0o700)
    let random = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 8) }
    try make("\(files)/empty", [])
    try make("\(files)/random", random)
    // An ELF header whose program headers lie beyond the end.
    var elf = [UInt8](repeating: 0xFF, count: 64)
    elf.replaceSubrange(
      0..<20, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0])
    try make("\(files)/elf", elf)
    // A multiboot header that wants to be loaded over everything.
    var multiboot = [UInt8](repeating: 0xFF, count: 8192)
    multiboot.replaceSubrange(
      0..<12, with: [2, 0xB0, 0xAD, 0x1B, 0, 0, 1, 0, 0xFE, 0x4F, 0x51, 0xE4])
    try make("\(files)/multiboot", multiboot)
    // A qcow2 header that is cut, one with absurd fields, and one that names another file.
    let magic: [UInt8] = [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3]
    try make("\(files)/cut.qcow2", magic)
    try make("\(files)/absurd.qcow2", magic + [UInt8](repeating: 0xFF, count: 504))
    try make("\(files)/good.img", [UInt8](repeating: 0, count: 65536))
    try make("\(files)/short.iso", [UInt8](repeating: 0, count: 1000))
    let before = try content(of: uj.folder)

    func refused(_ arguments: String..., naming file: String) throws {
      let result = try TestProcess.run(
        [Underjack.program, "run"] + arguments + [
          "-m", "32M", "--disk", "\(files)/good.img", "--serial", "file:\(files)/serial",
          "--debugcon", "\(files)/debug",
        ], environment: uj.environment)
      #expect(result.status == 1, "\(arguments): \(result.output)")
      #expect(result.output.hasPrefix("uj: "), "\(arguments): \(result.output)")
      #expect(result.output.contains(file), "\(arguments): \(result.output)")
      #expect(result.output.split(separator: "\n").count == 1, "\(arguments): \(result.output)")
    }
    for name in ["missing", "empty", "random", "elf", "multiboot"] {
      try refused("--kernel", "\(files)/\(name)", naming: "\(files)/\(name)")
    }
    for name in ["missing", "empty", "random"] {
      try refused("--firmware", "\(files)/\(name)", naming: "\(files)/\(name)")
    }
    for name in ["missing.qcow2", "empty,format=qcow2", "cut.qcow2", "absurd.qcow2", "missing"] {
      let path = name.split(separator: ",")[0]
      try refused("--disk", "\(files)/\(name)", naming: "\(files)/\(path)")
    }
    for name in ["missing", "empty", "short.iso"] {
      try refused("--cdrom", "\(files)/\(name)", naming: "\(files)/\(name)")
    }
    try refused("--disk", files, naming: files)
    try refused("--cdrom", files, naming: files)
    try refused("--kernel", files, naming: files)
    let kernel = try TestGuest.multiboot32.path()
    try refused("--kernel", kernel, "--initrd", "\(files)/missing", naming: "\(files)/missing")
    #expect(try content(of: uj.folder) == before)
  }
}
