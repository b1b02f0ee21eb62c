// One SMBIOS structure: a formatted part, then its strings (DMTF DSP0134 2.8, section 6.1).

/// Builds a structure: header, fields, strings ended by two NULs.
struct SMBIOSStructure {
  /// Strings longer than this are cut: DSP0134 allows 64 in old readers.
  private static let stringLimit = 64

  private var formatted: [UInt8]
  private var strings: [[UInt8]] = []

  init(type: UInt8, handle: UInt16) {
    formatted = [type, 0]
    formatted.append(little: handle)
  }

  mutating func add<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    formatted.append(little: value)
  }

  mutating func add(bytes: [UInt8]) { formatted.append(contentsOf: bytes) }

  /// Adds a string and its number; an empty string is number 0.
  mutating func add(_ text: String) {
    // What is not printable ASCII would confuse readers.
    let bytes = text.utf8.filter { (0x20...0x7E).contains($0) }.prefix(Self.stringLimit)
    guard !bytes.isEmpty else { return formatted.append(0) }
    if let known = strings.firstIndex(of: Array(bytes)) {
      return formatted.append(UInt8(known + 1))
    }
    strings.append(Array(bytes))
    formatted.append(UInt8(strings.count))
  }

  var bytes: [UInt8] {
    var result = formatted
    result[1] = UInt8(formatted.count)
    for string in strings { result += string + [0] }
    if strings.isEmpty { result.append(0) }
    result.append(0)
    return result
  }
}
