import ArgumentParser
import CLinux
import Hosting
import Inventory

struct CreateVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create",
    abstract: "Create a disk image; 'uj new' makes machines.",
    discussion: """
      The format is the extension's (.qcow2, else raw) or that of a prefix: qcow2:FILE, raw:FILE. An existing file is \
      never overwritten.

      EXAMPLES
        uj create disk.qcow2 -s 10g
        uj create overlay.qcow2 -b base.qcow2
        uj create disk.qcow2 -i download.img
      """)

  @Argument(help: "The file to make.")
  var disk: String
  @Option(name: [.customShort("s"), .long], help: "Size, such as 10g.")
  var size: SizeArgument?
  @Option(name: [.customShort("b"), .long], help: "Grow from this image (qcow2 only).")
  var base: String?
  @Option(
    name: [.customShort("i"), .customLong("input")], help: "Copy or convert this image.")
  var input: String?

  func validate() throws {
    let given = [size != nil, base != nil, input != nil].filter { $0 }.count
    guard given == 1 else {
      throw ValidationError("Give one of -s SIZE, -b BASE and -i IMAGE.")
    }
  }

  func run() throws {
    let (path, format) = DiskArgument.pathAndFormat(disk)
    guard !FileReading.exists(path) else {
      throw UsageFailure("\(path): exists already; remove it or choose another name")
    }
    let images = DiskImageStore()
    if let base {
      let (file, baseFormat) = DiskArgument.pathAndFormat(base)
      guard format == .qcow2 else { throw UsageFailure("\(path): only qcow2 grows from a base") }
      guard FileReading.exists(file) else { throw UsageFailure("\(file): no such file") }
      try images.createOverlay(path, backing: InventoryLocation.absolute(file), format: baseFormat)
    } else if let input {
      let (file, inputFormat) = DiskArgument.pathAndFormat(input)
      guard FileReading.exists(file) else { throw UsageFailure("\(file): no such file") }
      if format == .qcow2 {
        try images.copy(file, format: inputFormat, to: path)
      } else {
        try images.copyToRaw(file, format: inputFormat, to: path)
      }
    } else if let size {
      if format == .qcow2 {
        try images.create(path, size: size.bytes)
      } else {
        try images.createRaw(path, size: size.bytes)
      }
    }
  }
}
