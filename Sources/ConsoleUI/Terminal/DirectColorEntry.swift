/// Compiled terminal descriptions (term(5)) with direct colour added.
///
/// curses sends 24-bit colours only where the description says so, and most hosts lack the descriptions that do
/// (`xterm-direct`). So the entry of the user's terminal is taken and three things in it are changed: the number of
/// colours, and the strings that set foreground and background. curses takes it from the environment (terminfo(5),
/// TERMINFO beginning with `hex:`).
package enum DirectColorEntry {
  private static let legacyMagic = 0o432
  private static let wideMagic = 0o1036
  /// Places in the tables of term.h.
  private static let canChangeFlag = 27
  private static let maxColorsNumber = 13
  private static let maxPairsNumber = 14
  private static let setForegroundString = 359
  private static let setBackgroundString = 360

  /// Numbers below 256 are the palette; others are 0xRRGGBB.
  private static func setColor(_ plane: Int) -> [UInt8] {
    let text =
      "\u{1B}[\(plane)8;%?%p1%{256}%<%t5;%p1%d%e2;%p1%{65536}%/%d;"
      + "%p1%{256}%/%{255}%&%d;%p1%{255}%&%d%;m"
    return Array(text.utf8) + [0]
  }

  /// - Parameter entry: A compiled description in either of ncurses' formats.
  /// - Returns: The changed one, in the format with 32-bit numbers; nil when the entry makes no sense.
  package static func addingDirectColor(to entry: [UInt8]) -> [UInt8]? {
    var reader = Reader(bytes: entry[...])
    guard let magic = reader.short(), magic == legacyMagic || magic == wideMagic,
      let nameSize = reader.short(), let flagCount = reader.short(),
      let numberCount = reader.short(), let stringCount = reader.short(),
      let tableSize = reader.short(),
      [nameSize, flagCount, numberCount, stringCount, tableSize].allSatisfy({ $0 >= 0 }),
      stringCount > setBackgroundString, numberCount > maxPairsNumber,
      flagCount > canChangeFlag,
      let names = reader.take(nameSize), var flags = reader.take(flagCount)
    else { return nil }
    if (nameSize + flagCount) % 2 == 1 { _ = reader.take(1) }
    var numbers: [Int] = []
    for _ in 0..<numberCount {
      guard let value = magic == wideMagic ? reader.long() : reader.short() else { return nil }
      numbers.append(value)
    }
    var offsets: [Int] = []
    for _ in 0..<stringCount {
      guard let offset = reader.short() else { return nil }
      offsets.append(offset)
    }
    guard var table = reader.take(tableSize) else { return nil }
    flags[canChangeFlag] = 0
    numbers[maxColorsNumber] = 1 << 24
    numbers[maxPairsNumber] = 65536
    for (place, plane) in [(setForegroundString, 3), (setBackgroundString, 4)] {
      offsets[place] = table.count
      table += setColor(plane)
    }
    guard table.count < 32768 else { return nil }
    return assemble(names: names, flags: flags, numbers: numbers, offsets: offsets, table: table)
  }

  private static func assemble(
    names: [UInt8], flags: [UInt8], numbers: [Int], offsets: [Int], table: [UInt8]
  ) -> [UInt8] {
    var result: [UInt8] = []
    func short(_ value: Int) {
      let bits = UInt16(truncatingIfNeeded: value)
      result += [UInt8(bits & 0xFF), UInt8(bits >> 8)]
    }
    for value in [
      wideMagic, names.count, flags.count, numbers.count, offsets.count, table.count,
    ] {
      short(value)
    }
    result += names + flags
    if (names.count + flags.count) % 2 == 1 { result.append(0) }
    for value in numbers {
      short(value & 0xFFFF)
      short(value >> 16)
    }
    for offset in offsets { short(offset) }
    result += table
    if result.count % 2 == 1 { result.append(0) }
    // The extended part: one flag, RGB, which says that colour numbers are red, green and blue.
    for value in [1, 0, 0, 1, 4] { short(value) }
    result += [1, 0]
    short(0)
    result += Array("RGB\0".utf8)
    return result
  }

  private struct Reader {
    var bytes: ArraySlice<UInt8>

    mutating func take(_ count: Int) -> [UInt8]? {
      guard count >= 0, bytes.count >= count else { return nil }
      defer { bytes = bytes.dropFirst(count) }
      return Array(bytes.prefix(count))
    }

    /// 16 bits, little endian, signed.
    mutating func short() -> Int? {
      take(2).map { Int(Int16(bitPattern: UInt16($0[0]) | UInt16($0[1]) << 8)) }
    }

    mutating func long() -> Int? {
      take(4).map { word in
        let bits = word.enumerated().reduce(UInt32(0)) { $0 | UInt32($1.1) << (8 * $1.0) }
        return Int(Int32(bitPattern: bits))
      }
    }
  }
}
