// The firmware that a PC starts: an image that ends at 4 GiB, whose last 128 KiB are also seen below 1 MiB.
// SeaBIOS: Debian package `seabios`; src/fw/shadow.c says how it copies itself.
import CLinux
import GuestMemory
import Platform

/// A BIOS image, checked and ready to be put into a machine.
package struct SystemFirmware: Sendable {
  /// Where distributions put SeaBIOS; the first that exists is taken.
  package static let usualPaths = [
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/bios-256k.bin",
    "/usr/share/seabios/bios.bin",
    "/usr/share/qemu/bios.bin",
    "/usr/lib/ipxe/qemu/bios-256k.bin",
  ]

  private static let granularity = 64 << 10
  private static let sizeLimit = 16 << 20
  private static let shadowSize = 128 << 10

  package let path: String
  /// The whole image: map it read-only at `romAddress`, ending at 4 GiB.
  package let image: [UInt8]

  /// Where the image begins.
  package var romAddress: GuestAddress { GuestAddress((1 << 32) - UInt64(image.count)) }

  /// Reads the image.
  ///
  /// - Parameter path: nil looks in `usualPaths`.
  /// - Throws: when there is none, or it cannot be a PC's firmware.
  package init(path: String? = nil) throws(FirmwareError) {
    guard let found = path ?? Self.usualPaths.first(where: { access($0, R_OK) == 0 }) else {
      throw FirmwareError(
        "SeaBIOS",
        "no BIOS image found (looked for \(Self.usualPaths[0])): install the package seabios "
          + "(apt install seabios), name an image, or boot a kernel directly")
    }
    try self.init(BootFile(path: found))
  }

  package init(_ file: BootFile) throws(FirmwareError) {
    path = file.name
    guard file.count > 0 else { throw FirmwareError(path, "is empty: install seabios again") }
    guard file.count <= Self.sizeLimit else {
      throw FirmwareError(path, "\(file.count) bytes are no BIOS image: at most 16 MiB")
    }
    guard file.count % Self.granularity == 0 else {
      throw FirmwareError(
        path, "\(file.count) bytes are no BIOS image: not a multiple of 64 KiB, truncated?")
    }
    image = try file.bytes(at: 0, count: file.count)
    // The processor's first instruction is a far jump here (or a near one); erased flash and zeros are not.
    let vector = image[(image.count - 16)...].prefix(5)
    guard vector.contains(where: { $0 != 0x00 && $0 != 0xFF }) else {
      throw FirmwareError(path, "no BIOS image: nothing stands at the reset vector")
    }
  }

  /// What goes into RAM at power-on and again at every reset: the copy below 1 MiB.
  ///
  /// The image at `romAddress` is the board's part: it is no RAM.
  package func plan() throws(FirmwareError) -> LoadPlan {
    var plan = LoadPlan(path, summary: "BIOS image of \(image.count >> 10) KiB", entry: .reset)
    let shadow = image.suffix(Self.shadowSize)
    try plan.add(
      Array(shadow), at: PCMemory.highStart - UInt64(shadow.count), "the BIOS below 1 MiB")
    return plan
  }
}
