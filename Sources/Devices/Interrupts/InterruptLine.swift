/// Where interrupts go: the kernel's chips, ours, or a test's recorder.
public protocol InterruptSink: AnyObject, Sendable {
  /// Sets the level of an input (a global system interrupt: ISA IRQ or I/O APIC pin).
  func setLine(_ number: UInt32, asserted: Bool)
  /// Delivers a message-signalled interrupt.
  func deliver(_ message: MessageInterrupt)
}

/// One input of the interrupt chips, as a device sees it.
public struct InterruptLine: Sendable {
  public let number: UInt32
  private let sink: any InterruptSink

  public init(_ number: UInt32, of sink: any InterruptSink) {
    self.number = number
    self.sink = sink
  }

  public func set(_ asserted: Bool) { sink.setLine(number, asserted: asserted) }
  public func raise() { set(true) }
  public func lower() { set(false) }
}

/// The address and data of a message-signalled interrupt (PCI Local Bus 3.0, 6.8; Intel SDM 3A, 11.11).
public struct MessageInterrupt: Hashable, Sendable, Codable {
  public var address: UInt64
  public var data: UInt32
  public init(address: UInt64, data: UInt32) {
    self.address = address
    self.data = data
  }
}
