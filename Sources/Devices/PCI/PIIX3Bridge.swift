// The ISA bridge of the PIIX3 (82371SB data sheet, function 0): routes PCI interrupts; its other registers only hold
// what is written.

/// 00:01.0.
public final class PIIX3Bridge: PCIDevice {
  static let route = 0x60

  public let function: PCIFunction
  private let router: PCIInterruptRouter

  public init(router: PCIInterruptRouter) {
    self.router = router
    function = PCIFunction(PCIIdentity(vendor: 0x8086, device: 0x7000, classCode: 0x060100))
    // Bus master and memory and port decoding are always on; fast devices by medium timing.
    function.define(at: PCIRegister.command, value: UInt16(0x0007), writable: UInt16(0x0108))
    function.set(UInt16(0x0200), at: PCIRegister.status)
    // IORT, XBCS: recovery times and the ISA devices that are decoded.
    function.define(at: 0x4C, value: UInt8(0x4D), writable: UInt8(0xFF))
    function.define(at: 0x4E, value: UInt16(0x0003), writable: UInt16(0xFFFF))
    for index in 0..<4 {
      function.define(at: Self.route + index, value: UInt8(0x80), writable: UInt8(0x8F))
    }
    // Top of memory, miscellaneous status, motherboard interrupt and DMA, chip selects.
    function.define(at: 0x69, value: UInt8(0x02), writable: UInt8(0xFE))
    function.define(at: 0x70, value: UInt8(0x80), writable: UInt8(0xEF))
    function.define(at: 0x76, value: UInt16(0x0C0C), writable: UInt16(0x8787))
    function.define(at: 0x78, value: UInt16(0x0002), writable: UInt16(0xFFFF))
    // APIC base, deterministic latency, SMI control.
    function.define(at: 0x80, value: UInt8(0), writable: UInt8(0x7F))
    function.define(at: 0x82, value: UInt8(0), writable: UInt8(0x0F))
    function.define(at: 0xA0, value: UInt8(0x08), writable: UInt8(0x1F))
    function.define(at: 0xA2, value: UInt64(0), writable: UInt64(0xFFFF_FFFF_FFFF))
    function.define(at: 0xA8, value: UInt8(0x0F), writable: UInt8(0xFF))
  }

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    guard range.overlaps(Self.route..<Self.route + 4) else { return }
    router.setRoutes(function.space.load32(Self.route))
  }
}
