import Devices
import GuestMemory
import Processor

/// Serves a processor's accesses to ports and to memory that is not RAM. Nothing here allocates or locks.
struct BusAccess: Sendable {
  let ports: PortBus
  let memory: MemoryBus
  /// Sees every access.
  let probe: ExitProbe

  @inline(__always)
  func readPort(
    _ port: UInt16, _ width: AccessWidth, _ count: Int, _ data: UnsafeMutableRawPointer
  ) {
    let start = probe.begin()
    var last: UInt64 = 0
    for index in 0..<count {
      last = ports.read(port: port, width: width)
      Self.store(last, width, at: data + index &* width.count)
    }
    probe.note(ExitProbe.Code.portRead, UInt64(port), size: width.count, last)
    probe.end(start, ExitProbe.Code.portRead, UInt64(port))
  }

  /// One access.
  @inline(__always)
  func readPort(_ port: UInt16, _ width: AccessWidth) -> UInt64 {
    let start = probe.begin()
    let value = ports.read(port: port, width: width)
    probe.note(ExitProbe.Code.portRead, UInt64(port), size: width.count, value)
    probe.end(start, ExitProbe.Code.portRead, UInt64(port))
    return value
  }

  /// One access.
  @inline(__always)
  func writePort(_ port: UInt16, _ width: AccessWidth, _ value: UInt64) {
    let start = probe.begin()
    probe.note(ExitProbe.Code.portWrite, UInt64(port), size: width.count, value)
    ports.write(port: port, width: width, value: value)
    probe.end(start, ExitProbe.Code.portWrite, UInt64(port))
  }

  @inline(__always)
  func writePort(_ port: UInt16, _ width: AccessWidth, _ count: Int, _ data: UnsafeRawPointer) {
    let start = probe.begin()
    for index in 0..<count {
      let value = Self.load(width, at: data + index &* width.count)
      // Before it is done: the last one may be the end.
      if index == 0 {
        probe.note(ExitProbe.Code.portWrite, UInt64(port), size: width.count, value)
      }
      ports.write(port: port, width: width, value: value)
    }
    probe.end(start, ExitProbe.Code.portWrite, UInt64(port))
  }

  @inline(__always)
  func readMemory(_ address: GuestAddress, _ count: Int, _ data: UnsafeMutableRawPointer) {
    let start = probe.begin()
    var done = 0
    var value: UInt64 = 0
    while done < count {
      let width = Self.width(remaining: count &- done)
      value = memory.read(at: address &+ UInt64(done), width: width)
      Self.store(value, width, at: data + done)
      done &+= width.count
    }
    probe.note(ExitProbe.Code.memoryRead, address.rawValue, size: count, value)
    probe.end(start, ExitProbe.Code.memoryRead, address.rawValue)
  }

  @inline(__always)
  func writeMemory(_ address: GuestAddress, _ count: Int, _ data: UnsafeRawPointer) {
    let start = probe.begin()
    var done = 0
    while done < count {
      let width = Self.width(remaining: count &- done)
      let value = Self.load(width, at: data + done)
      if done == 0 {
        probe.note(ExitProbe.Code.memoryWrite, address.rawValue, size: count, value)
      }
      memory.write(at: address &+ UInt64(done), width: width, value: value)
      done &+= width.count
    }
    probe.end(start, ExitProbe.Code.memoryWrite, address.rawValue)
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
