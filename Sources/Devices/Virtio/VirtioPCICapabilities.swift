// The vendor capabilities that tell a driver where the modern structures stand (Virtual I/O Device 1.2, 4.1.4).

extension VirtioPCITransport {
  private enum Kind: UInt8 {
    case common = 1
    case notify = 2
    case interruptStatus = 3
    case device = 4
    case window = 5
  }

  private static let vendorCapability: UInt8 = 0x09

  /// Adds all five; returns the offset of the window's.
  static func addCapabilities(to function: PCIFunction) -> Int {
    let size = VirtioModernLayout.structureSize
    add(.common, at: VirtioModernLayout.common, size: size, to: function)
    add(.interruptStatus, at: VirtioModernLayout.interruptStatus, size: size, to: function)
    add(.device, at: VirtioModernLayout.configuration, size: size, to: function)
    add(
      .notify, at: VirtioModernLayout.notify, size: size,
      tail: UInt32(VirtioModernLayout.notifyMultiplier), to: function)
    // BAR number, offset, length and data are the driver's.
    let all = [UInt8](repeating: 0xFF, count: 12)
    return add(
      .window, at: 0, size: 0, bar: 0, tail: 0, writable: [0, 0, 0xFF, 0, 0, 0] + all,
      to: function)
  }

  @discardableResult
  private static func add(
    _ kind: Kind, at offset: UInt64, size: UInt64, bar: Int = modernBaseAddress,
    tail: UInt32? = nil, writable: [UInt8] = [], to function: PCIFunction
  ) -> Int {
    var body: [UInt8] = [tail == nil ? 16 : 20, kind.rawValue, UInt8(bar), 0, 0, 0]
    body.append(littleEndian: UInt32(truncatingIfNeeded: offset))
    body.append(littleEndian: UInt32(truncatingIfNeeded: size))
    if let tail { body.append(littleEndian: tail) }
    return function.addCapability(vendorCapability, body: body, writable: writable)
  }
}

/// The window from configuration space into a BAR (4.1.4.9), as the driver has set it.
struct VirtioPCIWindow {
  let bar: Int
  let offset: UInt64
  /// nil: a length that is not 1, 2 or 4, or an offset that is not a multiple of it.
  let width: AccessWidth?
  let value: UInt64

  init(in space: PCIConfigurationSpace, at capability: Int) {
    bar = Int(space.read(at: capability + 4, width: .byte))
    offset = UInt64(space.load32(capability + 8))
    value = UInt64(space.load32(capability + 16))
    let length = space.load32(capability + 12)
    let isLegal = (length == 1 || length == 2 || length == 4) && offset % UInt64(length) == 0
    width = isLegal ? AccessWidth(rawValue: UInt8(length)) : nil
  }

  static func data(at capability: Int) -> Range<Int> { capability + 16..<capability + 20 }
}
