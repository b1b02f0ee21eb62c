/// A guest with a memory full of something: writes into every page, says so, and then goes through its pages for ever,
/// with a dot on the first serial port after each 64 of them. Flat multiboot (Multiboot Specification 0.6.96).
enum StateGuest {
  /// What it prints when its memory is full.
  static let text = "READY"
  /// And then again and again.
  static let dot: UInt8 = 0x2E

  private static let loadAddress: UInt32 = 0x10_0000
  private static let magic: UInt32 = 0x1BAD_B002
  /// Bit 16: the addresses stand in the header.
  private static let flags: UInt32 = 1 << 16
  /// Pages are written from here.
  private static let start: UInt32 = 0x40_0000
  /// What a dirtying guest writes again and again.
  static let window: UInt32 = 64 << 20
  /// The board's memory below 4 GiB ends here at the latest.
  private static let lowLimit: UInt64 = 0xC000_0000

  /// Bytes that it fills.
  static func filled(memory: UInt64) -> UInt64 {
    min(memory, lowLimit) - (2 << 20) - UInt64(start)
  }

  /// - Parameter isDirtying: writes into a window of pages instead of only reading all.
  static func kernel(memory: UInt64, isDirtying: Bool) -> [UInt8] {
    let end = start + UInt32(filled(memory: memory))
    func little(_ value: UInt32) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) }
    }
    let next: [UInt8] = [0x81, 0xC7, 0, 0x10, 0, 0]  // add edi, 4096
    var code: [UInt8] = [0xFA, 0xBF] + little(start)  // cli; mov edi, start
    let fill: [UInt8] =
      [0x89, 0xBF, 0, 8, 0, 0]  // mov [edi + 2048], edi
      + next + [0x81, 0xFF] + little(end)  // cmp edi, end
    code += fill + [0x72, UInt8(truncatingIfNeeded: -(fill.count + 2))]  // jb to fill
    code += [0x66, 0xBA, 0xF8, 0x03]  // mov dx, 0x3F8
    for character in (text + "\n").utf8 { code += [0xB0, character, 0xEE] }
    code += [0xBF] + little(start)
    // inc dword [edi + 2048], or mov eax, [edi + 2048]
    let look: [UInt8] = isDirtying ? [0xFF, 0x87, 0, 8, 0, 0] : [0x8B, 0x87, 0, 8, 0, 0]
    let inner: [UInt8] =
      look + next + [0x81, 0xFF] + little(isDirtying ? start + window : end)
      + [0x72, 5, 0xBF] + little(start)  // jb over mov edi, start
      + [0x49]  // dec ecx
    var loop: [UInt8] = [0xB9, 64, 0, 0, 0]  // mov ecx, 64
    loop += inner + [0x75, UInt8(truncatingIfNeeded: -(inner.count + 2))]  // jnz to inner
    loop += [0xB9] + little(100_000) + [0x49, 0x75, 0xFD]  // a while
    loop += [0xB0, dot, 0xEE]  // mov al, dot; out dx, al
    code += loop + [0xEB, UInt8(truncatingIfNeeded: -(loop.count + 2))]  // jmp to loop
    let headerSize: UInt32 = 32
    let last = loadAddress + headerSize + UInt32(code.count)
    let header: [UInt32] = [
      magic, flags, 0 &- magic &- flags, loadAddress, loadAddress, last, last,
      loadAddress + headerSize,
    ]
    return header.flatMap(little) + code
  }
}
