@_exported import Processor

/// Something that answers accesses to ports or to memory.
///
/// It sees offsets into itself and never absolute addresses: the bus adds the offset given at registration. Widths are
/// 1, 2, 4 or 8 bytes (ports: up to 4); the bus splits anything else. Called from any virtual processor's thread.
public protocol BusDevice: AnyObject, Sendable {
  /// What the guest reads; bits above `width` are ignored. A register that does not exist reads as all ones.
  func read(at offset: UInt64, width: AccessWidth) -> UInt64
  /// Bits of `value` above `width` are zero.
  func write(at offset: UInt64, width: AccessWidth, value: UInt64)
}
