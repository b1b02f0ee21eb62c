import Firmware

/// Kernels made for tests: well-formed, tiny, and easy to damage.
enum KernelImages {
  /// A bzImage of protocol 2.12 with `payload` bytes behind the setup part.
  static func linux(payload: Int = 4096, has64BitEntry: Bool = true) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 1024 + payload)
    for index in 1024..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: index) }
    bytes[0x1F1] = 1
    bytes.put(UInt16(0xAA55), at: 0x1FE)
    bytes[0x201] = 0x66
    bytes.put(UInt32(0x5372_6448), at: 0x202)
    bytes.put(UInt16(0x20C), at: 0x206)
    bytes.put(UInt16(0x80), at: 0x20E)
    bytes[0x211] = 1
    bytes.put(UInt32(0x7FFF_FFFF), at: 0x22C)
    bytes[0x234] = 1
    bytes.put(UInt16(has64BitEntry ? 1 : 0), at: 0x236)
    bytes.put(UInt32(2047), at: 0x238)
    bytes.put(UInt64(0x100_0000), at: 0x258)
    bytes.put(UInt32(0x20_0000), at: 0x260)
    bytes.replaceSubrange(0x280..<0x28B, with: Array("6.1.0-test \0".utf8.prefix(11)))
    return bytes
  }

  /// A bzImage of protocol 2.15 with a payload, 512 bytes behind the start of its protected part.
  static func linux(packed: [UInt8]) -> [UInt8] {
    var bytes = linux(payload: 0x200) + packed
    bytes.put(UInt16(0x20F), at: 0x206)
    bytes.put(UInt32(0x200), at: 0x248)
    bytes.put(UInt32(packed.count), at: 0x24C)
    return bytes
  }

  struct Segment {
    var address: UInt64
    var virtualAddress: UInt64?
    var bytes: [UInt8]
    var memorySize: Int?
  }

  static func elf64(_ segments: [Segment], entry: UInt64, pvhEntry: UInt32? = nil) -> [UInt8] {
    elf(is64Bit: true, segments, entry: entry, pvhEntry: pvhEntry)
  }

  static func elf32(_ segments: [Segment], entry: UInt64, pvhEntry: UInt32? = nil) -> [UInt8] {
    elf(is64Bit: false, segments, entry: entry, pvhEntry: pvhEntry)
  }

  private static func elf(
    is64Bit: Bool, _ segments: [Segment], entry: UInt64, pvhEntry: UInt32?
  ) -> [UInt8] {
    let headerSize = is64Bit ? 64 : 52
    let entrySize = is64Bit ? 56 : 32
    let count = segments.count + (pvhEntry == nil ? 0 : 1)
    var bytes = [UInt8](repeating: 0, count: headerSize + entrySize * count)
    bytes.replaceSubrange(0..<7, with: [0x7F, 0x45, 0x4C, 0x46, is64Bit ? 2 : 1, 1, 1])
    bytes.put(UInt16(2), at: 16)
    bytes.put(UInt16(is64Bit ? 62 : 3), at: 18)
    bytes.put(UInt32(1), at: 20)
    if is64Bit {
      bytes.put(entry, at: 24)
      bytes.put(UInt64(headerSize), at: 32)
      bytes.put(UInt16(entrySize), at: 54)
      bytes.put(UInt16(count), at: 56)
    } else {
      bytes.put(UInt32(truncatingIfNeeded: entry), at: 24)
      bytes.put(UInt32(headerSize), at: 28)
      bytes.put(UInt16(entrySize), at: 42)
      bytes.put(UInt16(count), at: 44)
    }
    func header(_ index: Int, _ kind: UInt32, _ values: [UInt64]) {
      let place = headerSize + index * entrySize
      bytes.put(kind, at: place)
      for (number, value) in values.enumerated() {
        if is64Bit {
          bytes.put(value, at: place + 8 + 8 * number)
        } else {
          bytes.put(UInt32(truncatingIfNeeded: value), at: place + 4 + 4 * number)
        }
      }
    }
    for (index, segment) in segments.enumerated() {
      while bytes.count % 16 != 0 { bytes.append(0) }
      header(
        index, 1,
        [
          UInt64(bytes.count), segment.virtualAddress ?? segment.address, segment.address,
          UInt64(segment.bytes.count), UInt64(segment.memorySize ?? segment.bytes.count),
        ])
      bytes += segment.bytes
    }
    if let pvhEntry {
      while bytes.count % 4 != 0 { bytes.append(0) }
      // A note of somebody else's first.
      var notes: [UInt8] =
        [4, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0] + Array("GNU\0".utf8) + [1, 2, 3, 0]
      notes += [4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0] + Array("Xen\0".utf8) + [0, 0, 0, 0]
      notes.put(pvhEntry, at: notes.count - 4)
      header(segments.count, 4, [UInt64(bytes.count), 0, 0, UInt64(notes.count), 0])
      bytes += notes
    }
    return bytes
  }

  /// A multiboot header; `addresses` are header, load, load end, zero end, entry.
  static func multibootHeader(_ flags: UInt32 = 3, addresses: [UInt32] = []) -> [UInt8] {
    let flags = flags | (addresses.isEmpty ? 0 : 1 << 16)
    var bytes = [UInt8](repeating: 0, count: 12 + 4 * addresses.count)
    bytes.put(UInt32(0x1BAD_B002), at: 0)
    bytes.put(flags, at: 4)
    bytes.put(0 &- UInt32(0x1BAD_B002) &- flags, at: 8)
    for (index, value) in addresses.enumerated() { bytes.put(value, at: 12 + 4 * index) }
    return bytes
  }

  /// A flat kernel: 64 bytes, the header, then code up to `count`.
  static func flatMultiboot(count: Int = 4096) -> [UInt8] {
    let start: UInt32 = 0x10_0000
    let header = multibootHeader(
      addresses: [
        start + 64, start, start + UInt32(count), start + UInt32(count) + 8192, start + 0x100,
      ])
    var bytes = [UInt8](repeating: 0xCC, count: count)
    bytes.replaceSubrange(64..<(64 + header.count), with: header)
    return bytes
  }

  static func request(
    _ bytes: [UInt8], _ commandLine: String = "console=ttyS0",
    modules: [KernelRequest.Module] = []
  ) -> KernelRequest {
    KernelRequest(
      kernel: BootFile(name: "kernel", bytes: bytes), commandLine: commandLine, modules: modules)
  }
}
