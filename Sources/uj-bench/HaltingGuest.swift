/// A kernel that says so and halts for ever: flat multiboot (Multiboot Specification 0.6.96), which every loader takes.
enum HaltingGuest {
  /// What it prints on the first serial port.
  static let text = "HALTED"

  private static let loadAddress: UInt32 = 0x10_0000
  private static let magic: UInt32 = 0x1BAD_B002
  /// Bit 16: the addresses stand in the header.
  private static let flags: UInt32 = 1 << 16

  static var kernel: [UInt8] {
    var code: [UInt8] = [0x66, 0xBA, 0xF8, 0x03]  // mov dx, 0x3F8
    // mov al, character; out dx, al
    for character in (text + "\n").utf8 { code += [0xB0, character, 0xEE] }
    code += [0xFA, 0xF4, 0xEB, 0xFD]  // cli; hlt; jmp to hlt
    let headerSize: UInt32 = 32
    let end = loadAddress + headerSize + UInt32(code.count)
    let header: [UInt32] = [
      magic, flags, 0 &- magic &- flags, loadAddress, loadAddress, end, end,
      loadAddress + headerSize,
    ]
    return header.flatMap { value in withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) } }
      + code
  }
}
