// The option ROM by which SeaBIOS boots from a virtio network adapter: iPXE, of Debian's package `ipxe-qemu`.
import CLinux

/// An expansion ROM with a PXE stack (PCI Firmware Specification 3.0, 5.1).
package struct NetworkBootROM: Sendable {
  /// Where distributions put it; the first that exists is taken.
  package static let usualPaths = [
    "/usr/lib/ipxe/qemu/pxe-virtio.rom",
    "/usr/share/qemu/pxe-virtio.rom",
    "/usr/share/ipxe/qemu/pxe-virtio.rom",
  ]

  package let path: String
  package let image: [UInt8]

  /// - Throws: when there is none, or it is no ROM.
  package init() throws(FirmwareError) {
    guard let found = Self.usualPaths.first(where: { access($0, R_OK) == 0 }) else {
      throw FirmwareError(
        "iPXE",
        "no network boot ROM found (looked for \(Self.usualPaths[0])): install the package "
          + "ipxe-qemu (apt install ipxe-qemu), or leave net out of the boot order")
    }
    path = found
    let file = try BootFile(path: found)
    guard file.count >= 512, file.count <= 1 << 20 else {
      throw FirmwareError(found, "\(file.count) bytes are no network boot ROM")
    }
    image = try file.bytes(at: 0, count: file.count)
    guard image[0] == 0x55, image[1] == 0xAA else {
      throw FirmwareError(found, "no network boot ROM: it does not begin with 55 AA")
    }
  }
}
