// The BIOS of the standard VGA, in the function's ROM (Debian package `seabios`; PCI Firmware 3.0, 5.1: option ROMs).
import CLinux

/// A video BIOS, checked.
package struct DisplayFirmware: Sendable {
  /// Where distributions put it; the first that exists is taken.
  package static let usualPaths = [
    "/usr/share/seabios/vgabios-stdvga.bin",
    "/usr/share/qemu/vgabios-stdvga.bin",
    "/usr/share/vgabios/vgabios-stdvga.bin",
  ]

  /// An option ROM's first bytes.
  private static let signature: [UInt8] = [0x55, 0xAA]
  private static let sizeLimit = 128 << 10

  package let path: String
  package let image: [UInt8]

  /// - Throws: when there is none, or it is no option ROM.
  package init(path: String? = nil) throws(FirmwareError) {
    guard let found = path ?? Self.usualPaths.first(where: { access($0, R_OK) == 0 }) else {
      throw FirmwareError(
        "display",
        "no video BIOS found (looked for \(Self.usualPaths[0])): install the package seabios "
          + "(apt install seabios), or choose display none")
    }
    self.path = found
    let file = try BootFile(path: found)
    guard file.count >= 512, file.count <= Self.sizeLimit else {
      throw FirmwareError(found, "\(file.count) bytes are no video BIOS: install seabios again")
    }
    image = try file.bytes(at: 0, count: file.count)
    guard Array(image.prefix(2)) == Self.signature else {
      throw FirmwareError(found, "no option ROM: does not begin with 55 aa")
    }
  }
}
