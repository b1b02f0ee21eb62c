// Booting a kernel without firmware: which kind of file it is, and what to do with it.

/// What is to be booted.
package struct KernelRequest: Sendable {
  package struct Module: Sendable {
    package var file: BootFile
    /// Handed on with the module where the protocol has a place for it.
    package var commandLine: String

    package init(_ file: BootFile, commandLine: String = "") {
      self.file = file
      self.commandLine = commandLine
    }
  }

  package var kernel: BootFile
  package var commandLine: String
  /// Linux takes one: the initial RAM disk.
  package var modules: [Module]
  /// Unpacks a bzImage here and enters its executable. Off, or where it cannot be unpacked, the guest does that itself.
  package var unpacksKernel = true

  package init(kernel: BootFile, commandLine: String = "", modules: [Module] = []) {
    self.kernel = kernel
    self.commandLine = commandLine
    self.modules = modules
  }

  /// Opens the files.
  package init(kernel: String, initrd: String?, commandLine: String) throws(FirmwareError) {
    self.init(kernel: try BootFile(path: kernel), commandLine: commandLine)
    if let initrd { modules = [Module(try BootFile(path: initrd))] }
  }
}

/// Recognizes kernels and plans their start on one board.
package struct KernelLoader: Sendable {
  private static let commandLineLimit = 64 << 10

  private let board: BoardDescription
  /// The same for every kernel on this board.
  private let tables: LoadPlan

  /// - Throws: `FirmwareError` when the description is no machine.
  package init(_ board: BoardDescription) throws(FirmwareError) {
    try FirmwareContent.check(board)
    self.board = board
    tables = try BootArea.tables(board)
  }

  /// As the method, for a board that boots one kernel.
  package static func plan(
    _ request: KernelRequest, _ board: BoardDescription
  ) throws(FirmwareError) -> LoadPlan {
    try KernelLoader(board).plan(request)
  }

  /// Looks at the kernel and plans its start: the kernel, its modules, ACPI and SMBIOS tables, and how it is entered.
  ///
  /// Nothing is written: `LoadPlan.apply` does that, at power-on and at each reset.
  /// - Throws: one line that names the file and what is wrong.
  package func plan(_ request: KernelRequest) throws(FirmwareError) -> LoadPlan {
    let kernel = request.kernel
    guard request.commandLine.utf8.count <= Self.commandLineLimit,
      !request.commandLine.utf8.contains(0)
    else { throw FirmwareError(kernel.name, "a command line that is too long or has NULs") }
    guard kernel.count > 0 else { throw FirmwareError(kernel.name, "is empty") }
    var area = try BootArea(kernel.name, board, tables: tables)
    if let linux = try LinuxImage(kernel) {
      try linux.plan(request, &area)
    } else if let header = try MultibootHeader(kernel),
      header.addresses != nil || Self.is32BitELF(kernel)
    {
      try header.plan(request, &area)
    } else if ELFFile.isELF(kernel) {
      try Self.planELF(request, &area)
    } else {
      throw FirmwareError(
        kernel.name, "no kernel that can be started: neither Linux bzImage, nor multiboot, nor ELF")
    }
    try area.check()
    return area.plan
  }

  private static func is32BitELF(_ file: BootFile) -> Bool {
    guard ELFFile.isELF(file), let identity = try? file.bytes(at: 4, count: 1) else { return false }
    return identity[0] == 1
  }

  private static func planELF(
    _ request: KernelRequest, _ area: inout BootArea
  ) throws(FirmwareError) {
    let executable = try ELFFile(request.kernel)
    if let manifest = try UnikernelManifest(executable, request.kernel) {
      return try UnikernelStart.plan(executable, manifest, request, &area)
    }
    try executable.load(into: &area.plan)
    if let entry = try PVHStart.entry(of: executable, request.kernel) {
      try PVHStart.plan(request, entry: entry, &area)
    } else {
      try LinuxImage.planExecutable(executable, request, &area)
    }
  }
}
