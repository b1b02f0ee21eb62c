// The option ROM by which SeaBIOS boots from a network adapter: iPXE, of Debian's package `ipxe-qemu`.
import CLinux
import Devices

/// An expansion ROM with a PXE stack (PCI Firmware Specification 3.0, 5.1).
package struct NetworkBootROM: Sendable {
  /// Where distributions put it; the first that exists is taken.
  package static func usualPaths(for model: NetworkModel) -> [String] {
    ["/usr/lib/ipxe/qemu", "/usr/share/qemu", "/usr/share/ipxe/qemu"]
      .map { "\($0)/pxe-\(model.rawValue).rom" }
  }

  package let path: String
  package let image: [UInt8]

  /// A virtio adapter is transitional: the image's identity must be the function's, or firmware passes it over, and the
  /// images of iPXE name the modern one.
  ///
  /// - Throws: when there is none, or it is no ROM.
  package init(for model: NetworkModel) throws(FirmwareError) {
    let paths = Self.usualPaths(for: model)
    guard let found = paths.first(where: { access($0, R_OK) == 0 }) else {
      throw FirmwareError(
        "iPXE",
        "no network boot ROM found (looked for \(paths[0])): install the package "
          + "ipxe-qemu (apt install ipxe-qemu), or leave net out of the boot order")
    }
    path = found
    let file = try BootFile(path: found)
    guard file.count >= 512, file.count <= 1 << 20 else {
      throw FirmwareError(found, "\(file.count) bytes are no network boot ROM")
    }
    var image = try file.bytes(at: 0, count: file.count)
    guard image[0] == 0x55, image[1] == 0xAA else {
      throw FirmwareError(found, "no network boot ROM: it does not begin with 55 AA")
    }
    if model == .virtio { Self.setDevice(Self.transitionalDevice, in: &image) }
    self.image = image
  }

  private static let transitionalDevice: UInt16 = 0x1000

  /// Changes the device in the PCI data structure (PCI 3.0, 6.3.1.2) and makes the bytes sum to zero again.
  static func setDevice(_ device: UInt16, in image: inout [UInt8]) {
    let structure = Int(image[0x18]) | Int(image[0x19]) << 8
    let place = structure + 6
    let count = Int(image[2]) * 512
    guard place + 2 <= image.count, count <= image.count, structure >= 0x1A,
      Array(image[structure..<structure + 4]) == Array("PCIR".utf8)
    else { return }
    let before = image[place] &+ image[place + 1]
    image[place] = UInt8(truncatingIfNeeded: device)
    image[place + 1] = UInt8(device >> 8)
    // The byte behind the entry point's jump is free for this.
    image[6] = image[6] &+ before &- image[place] &- image[place + 1]
  }
}
