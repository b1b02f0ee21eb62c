// A place where a guest says that it has crashed: the PCI face of pvpanic (QEMU, docs/specs/pvpanic.rst), which Linux and
// others have a driver for.

/// One register: reads tell which events it takes, writes are events.
public final class PanicDevice: BusDevice, PCIDevice {
  /// What a guest tells.
  public struct Event: OptionSet, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The kernel has panicked and is lost.
    public static let panicked = Event(rawValue: 1 << 0)
    /// It has panicked and starts another to save what it knows.
    public static let crashLoaded = Event(rawValue: 1 << 1)
    static let all: Event = [.panicked, .crashLoaded]
  }

  private static let size: UInt64 = 16
  public let function: PCIFunction
  private let onEvent: @Sendable (Event) -> Void

  /// - Parameter onEvent: called on a processor's thread.
  public init(onEvent: @escaping @Sendable (Event) -> Void) {
    self.onEvent = onEvent
    function = PCIFunction(
      PCIIdentity(vendor: 0x1B36, device: 0x0011, revision: 1, classCode: 0x088000))
    function.addBaseAddress(0, kind: .memory32, size: Self.size, device: self)
  }

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    offset == 0 ? UInt64(Event.all.rawValue) : 0
  }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    let event = Event(rawValue: UInt8(truncatingIfNeeded: value)).intersection(.all)
    if offset == 0 && !event.isEmpty { onEvent(event) }
  }
}
