// The watchdog timer of the 6300ESB as a PCI function (Intel 300641, 17.4).

/// The function, with its timer behind a base address.
public final class WatchdogFunction: PCIDevice {
  private static let configuration = 0x60
  private static let lock = 0x68
  private static let locked: UInt8 = 1 << 0

  public let function: PCIFunction
  public let timer: ChipDevice<WatchdogTimer>

  /// - Parameter timer: whose requests are for the owner.
  public init(_ timer: ChipDevice<WatchdogTimer>) {
    self.timer = timer
    function = PCIFunction(PCIIdentity(vendor: 0x8086, device: 0x25AB, classCode: 0x088000))
    function.define(at: Self.configuration, value: UInt16(0), writable: UInt16(0x0027))
    function.define(at: Self.lock, value: UInt8(0), writable: UInt8(0x07))
    function.addBaseAddress(0, kind: .memory32, size: WatchdogTimer.size, device: timer)
  }

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    guard range.overlaps(Self.configuration..<Self.lock + 1) else { return }
    let lock = UInt8(truncatingIfNeeded: function.space.read(at: Self.lock, width: .byte))
    let configuration = function.space.load16(Self.configuration)
    timer.withChip { chip, now in chip.configure(configuration: configuration, lock: lock, now: now)
    }
    // Locked, it stays as it is until the machine is reset.
    function.define(
      at: Self.lock, value: lock, writable: UInt8(lock & Self.locked != 0 ? 0 : 0x07))
  }
}
