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
  /// What it is, for lists of a person.
  var busName: String { get }
}

extension BusDevice {
  public var busName: String { Self.words("\(type(of: self))") }

  /// The name of a type in words: "VGA registers" for `VGARegisters`.
  package static func words(_ type: String) -> String {
    var words: [String] = []
    let letters = Array(type)
    for (index, letter) in letters.enumerated() {
      let next = index + 1 < letters.count ? letters[index + 1] : nil
      let begins = letter.isUppercase && (next?.isLowercase ?? false)
      if words.isEmpty || begins { words.append("") }
      words[words.count - 1].append(begins ? Character(letter.lowercased()) : letter)
    }
    return words.filter { !$0.isEmpty }.joined(separator: " ")
  }
}
