import StateFile

/// Alters one value of a state.
package enum StateForge {
  private static let numbers: [UInt64] = [
    0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 0x7F, 0x80, 0xFF, 0x100, 0xFFF, 0x1000, 0x7FFF, 0x8000,
    0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, .max,
  ]

  /// - Returns: where.
  package static func alter(_ value: inout StateValue, _ random: inout SeededGenerator) -> String {
    switch value {
    case .map(var members) where !members.isEmpty:
      let index = Int(random.next() % UInt64(members.count))
      let place = alter(&members[index].value, &random)
      value = .map(members)
      return ".\(members[index].key)\(place)"
    case .array(var values):
      let choice = random.next() % 8
      if values.isEmpty || choice == 0 {
        values.append(values.last ?? .unsigned(number(&random)))
        value = .array(values)
        return " one more"
      }
      if choice == 1 {
        values.removeLast()
        value = .array(values)
        return " one less"
      }
      let index = Int(random.next() % UInt64(values.count))
      let place = alter(&values[index], &random)
      value = .array(values)
      return "[\(index)]\(place)"
    case .unsigned(let old):
      let new = random.next() % 4 == 0 ? old ^ 1 << (random.next() % 64) : number(&random)
      value = random.next() % 32 == 0 ? .negative(new) : .unsigned(new)
      return " \(old) is \(new)"
    case .negative(let old):
      value = .unsigned(number(&random))
      return " -1 - \(old) is positive"
    case .bytes(var bytes):
      switch random.next() % 4 {
      case 0: bytes = Array(bytes.dropLast(Int(random.next() % 9) + 1))
      case 1: bytes += [UInt8](repeating: 0xFF, count: Int(random.next() % 5000) + 1)
      case 2: bytes = []
      default:
        guard !bytes.isEmpty else { break }
        bytes[Int(random.next() % UInt64(bytes.count))] ^= UInt8(truncatingIfNeeded: random.next())
      }
      value = .bytes(bytes)
      return " \(bytes.count) bytes"
    case .bool(let old):
      value = .bool(!old)
      return " \(!old)"
    case .null:
      value = .unsigned(number(&random))
      return " not null"
    case .text(let old):
      value = .text(random.next() % 2 == 0 ? "" : old + old)
      return " another text"
    case .double:
      value = .double(random.next() % 2 == 0 ? .nan : .infinity)
      return " no number"
    case .map: return " is empty"
    }
  }

  private static func number(_ random: inout SeededGenerator) -> UInt64 {
    random.next() % 3 == 0
      ? random.next() : numbers[Int(random.next() % UInt64(numbers.count))]
  }
}
