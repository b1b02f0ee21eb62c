// What a boot loader tells Linux of the display (the kernel's zero-page.rst: screen_info, at the zero page's beginning).

/// The text mode that a display is in when the kernel starts.
struct DisplayDescription {
  private enum Field {
    static let mode = 0x06
    static let columns = 0x07
    static let adapter = 0x0A
    static let rows = 0x0E
    static let isVGA = 0x0F
    static let points = 0x10
  }

  var mode: UInt8
  var columns: UInt8
  var rows: UInt8
  /// Scan lines of a character.
  var points: UInt16

  /// Mode 3, in which our display starts.
  static let textMode = DisplayDescription(mode: 3, columns: 80, rows: 25, points: 16)

  /// As INT 10h, function 12h, BL=10h reports it: colour, 256 KiB.
  private static let colorWith256K: UInt16 = 3

  func store(in page: inout [UInt8]) {
    page[Field.mode] = mode
    page[Field.columns] = columns
    page.store(little: Self.colorWith256K, at: Field.adapter)
    page[Field.rows] = rows
    page[Field.isVGA] = 1
    page.store(little: points, at: Field.points)
  }
}
