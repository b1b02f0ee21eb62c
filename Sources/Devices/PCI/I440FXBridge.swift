// The host bridge of the i440FX (82441FX data sheet, PMC registers): identity, programmable attributes of the
// 0xC0000 to 0xFFFFF area, system management RAM control.

import Synchronization

/// The programmable attribute map: whether reads and writes of the BIOS area go to RAM (PAM, 0x59 to 0x5F).
public struct PAMRegisters: Equatable, Sendable {
  /// PAM0 in the low byte to PAM6.
  public var rawValue: UInt64

  public enum Access: UInt8, Sendable {
    case neither = 0
    case readRAM = 1
    case writeRAM = 2
    case both = 3
  }

  /// Attributes of the 64 KiB at 0xF0000.
  public var biosArea: Access { Access(rawValue: UInt8(rawValue >> 4 & 3)) ?? .neither }

  /// Attributes of the n-th 16 KiB from 0xC0000, n from 0 to 11.
  public func area(_ number: Int) -> Access {
    guard number >= 0 && number < 12 else { return biosArea }
    return Access(rawValue: UInt8(rawValue >> UInt64(8 + 4 * number) & 3)) ?? .neither
  }
}

/// 00:00.0. Its subsystem identity is what SeaBIOS takes for QEMU.
public final class I440FXBridge: PCIDevice {
  static let pam = 0x59
  static let pamCount = 7
  static let smram = 0x72

  public let function: PCIFunction
  private let onChange: @Sendable (PAMRegisters) -> Void
  private let current = Mutex<UInt64>(0)

  /// - Parameter onChange: called with the host's lock held whenever an attribute changes, also by reset.
  public init(onChange: @escaping @Sendable (PAMRegisters) -> Void = { _ in }) {
    self.onChange = onChange
    function = PCIFunction(
      PCIIdentity(vendor: 0x8086, device: 0x1237, revision: 2, classCode: 0x060000))
    for offset in Self.pam..<Self.pam + Self.pamCount {
      function.define(at: offset, value: UInt8(0), writable: UInt8(0x33))
    }
    // PAM0's low nibble is reserved.
    function.define(at: Self.pam, value: UInt8(0), writable: UInt8(0x30))
    // D_OPEN, D_CLS, D_LCK, G_SMRAME; the base segment (low bits) is fixed at 0xA0000.
    function.define(at: Self.smram, value: UInt8(0x02), writable: UInt8(0x78))
  }

  public func configurationDidChange(_ range: Range<Int>, byGuest: Bool) {
    guard range.overlaps(Self.pam..<Self.pam + Self.pamCount) else { return }
    var value: UInt64 = 0
    for index in 0..<Self.pamCount {
      value |= function.space.read(at: Self.pam + index, width: .byte) << UInt64(8 * index)
    }
    let changed = current.withLock { current in
      defer { current = value }
      return current != value
    }
    if changed { onChange(PAMRegisters(rawValue: value)) }
  }
}
