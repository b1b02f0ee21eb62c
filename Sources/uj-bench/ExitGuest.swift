import Processor

/// What a guest does in a loop, the same instructions in the bare loop and in a whole machine.
enum ExitOperation: String, CaseIterable {
  case portWrite = "port write"
  case portRead = "port read"
  case memoryRead = "MMIO read"
  case memoryWrite = "MMIO write"
  case notify = "ioeventfd notify"

  /// Machine code; EDI is an address without memory, DX the port of a doorbell, AX zero.
  var code: [UInt8] {
    switch self {
    case .portWrite: [0xE6, 0x80]  // out 0x80, al
    case .portRead: [0xE4, 0x80]  // in al, 0x80
    case .memoryRead: [0x8B, 0x07]  // mov eax, [rdi]
    case .memoryWrite: [0x89, 0x07]  // mov [rdi], eax
    case .notify: [0x66, 0xEF]  // out dx, ax
    }
  }

  /// How much slower than bare it may be (issue 3).
  var goal: Double { self == .notify ? 1.05 : 1.10 }
}

/// 64-bit programs for the measurement, put together byte by byte.
struct ExitProgram {
  static let doorbellPort: UInt16 = 0xC010
  /// Where the guest puts the virtio block device's modern registers.
  static let registers: UInt32 = 0xFE00_0000
  private(set) var bytes: [UInt8] = []

  /// `count` times `operation`.
  mutating func loop(_ operation: ExitOperation, count: UInt32, address: UInt32) {
    bytes += [0xBA] + little(UInt32(Self.doorbellPort))  // mov edx, port
    bytes += [0x31, 0xC0]  // xor eax, eax
    bytes += [0xBF] + little(address)  // mov edi, address
    bytes += [0xBE] + little(count)  // mov esi, count
    bytes += operation.code
    bytes += [0xFF, 0xCE]  // dec esi
    bytes += [0x75, UInt8(bitPattern: Int8(-(operation.code.count + 4)))]  // jnz to the operation
  }

  mutating func output(_ value: UInt32, to port: UInt16, width: Int) {
    bytes += [0xBA] + little(UInt32(port))  // mov edx, port
    bytes += [0xB8] + little(value)  // mov eax, value
    switch width {
    case 1: bytes += [0xEE]  // out dx, al
    case 2: bytes += [0x66, 0xEF]  // out dx, ax
    default: bytes += [0xEF]  // out dx, eax
    }
  }

  mutating func jump(to place: Int) {
    bytes += [0xE9] + little(UInt32(bitPattern: Int32(place - bytes.count - 5)))
  }

  /// The port writes by which a legacy driver starts a virtio function on PCI bus 0 with an empty queue 0 (Virtual I/O
  /// Device 1.2, 4.1.4.10), the modern registers at `registers`.
  static func driverStart(
    slot: UInt8, ringPage: UInt32
  ) -> [(port: UInt16, value: UInt32, width: AccessWidth)] {
    let base = doorbellPort & 0xFF80
    var writes: [(port: UInt16, value: UInt32, width: AccessWidth)] = []
    for (register, value) in [(0x10, UInt32(base)), (0x20, registers), (0x24, 0), (0x04, 7)] {
      let address = 0x8000_0000 | UInt32(slot) << 11 | UInt32(register)
      writes += [(0xCF8, address, .doubleword), (0xCFC, value, .doubleword)]
    }
    writes += [
      (base + 0x12, 3, .byte), (base + 0x0E, 0, .word), (base + 0x08, ringPage, .doubleword),
      (base + 0x12, 7, .byte),
    ]
    return writes
  }

  private func little<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) }
  }

  /// An ELF executable for 64 bits with this program as its only segment (System V ABI, chapters 4 and 5).
  func executable(at address: UInt64) -> [UInt8] {
    let headers = 64 + 56
    var file: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    file += little(UInt16(2)) + little(UInt16(62)) + little(UInt32(1))
    file += little(address) + little(UInt64(64)) + little(UInt64(0)) + little(UInt32(0))
    for value: UInt16 in [64, 56, 1, 0, 0, 0] { file += little(value) }
    file += little(UInt32(1)) + little(UInt32(5)) + little(UInt64(headers))
    for value in [address, address, UInt64(bytes.count), UInt64(bytes.count), 4096] {
      file += little(value)
    }
    return file + bytes
  }
}
