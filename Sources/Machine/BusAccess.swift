import Devices
import GuestMemory
import Processor

/// Serves a processor's accesses to ports and to memory that is not RAM. Nothing here allocates or locks.
struct BusAccess: Sendable {
  let ports: PortBus
  let memory: MemoryBus

  @inline(__always)
  func readPort(
    _ port: UInt16, _ width: AccessWidth, _ count: Int, _ data: UnsafeMutableRawPointer
  ) {
    for index in 0..<count {
      Self.store(ports.read(port: port, width: width), width, at: data + index &* width.count)
    }
  }

  @inline(__always)
  func writePort(_ port: UInt16, _ width: AccessWidth, _ count: Int, _ data: UnsafeRawPointer) {
    for index in 0..<count {
      ports.write(
        port: port, width: width, value: Self.load(width, at: data + index &* width.count))
    }
  }

  @inline(__always)
  func readMemory(_ address: GuestAddress, _ count: Int, _ data: UnsafeMutableRawPointer) {
    var done = 0
    while done < count {
      let width = Self.width(remaining: count &- done)
      let value = memory.read(at: address &+ UInt64(done), width: width)
      Self.store(value, width, at: data + done)
      done &+= width.count
    }
  }

  @inline(__always)
  func writeMemory(_ address: GuestAddress, _ count: Int, _ data: UnsafeRawPointer) {
    var done = 0
    while done < count {
      let width = Self.width(remaining: count &- done)
      memory.write(
        at: address &+ UInt64(done), width: width, value: Self.load(width, at: data + done))
      done &+= width.count
    }
  }

  /// The widest access that fits: devices see 1, 2, 4 or 8 bytes only.
  private static func width(remaining: Int) -> AccessWidth {
    switch remaining {
    case 8...: .quadword
    case 4...: .doubleword
    case 2...: .word
    default: .byte
    }
  }

  private static func load(_ width: AccessWidth, at data: UnsafeRawPointer) -> UInt64 {
    switch width {
    case .byte: UInt64(data.load(as: UInt8.self))
    case .word: UInt64(data.loadUnaligned(as: UInt16.self))
    case .doubleword: UInt64(data.loadUnaligned(as: UInt32.self))
    case .quadword: data.loadUnaligned(as: UInt64.self)
    }
  }

  private static func store(
    _ value: UInt64, _ width: AccessWidth, at data: UnsafeMutableRawPointer
  ) {
    switch width {
    case .byte: data.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
    case .word: data.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
    case .doubleword: data.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
    case .quadword: data.storeBytes(of: value, as: UInt64.self)
    }
  }
}
