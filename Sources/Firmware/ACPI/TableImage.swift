// Tables before they have an address: bytes, which of them are addresses, and which are checksums. Firmware finishes
// them with a script (fw_cfg's table loader); without firmware `placed` does the same.

/// Tables in one block, relocatable.
package struct TableImage: Sendable {
  /// An address inside the block: the bytes hold an offset into the block `target` until it is placed.
  struct Pointer: Sendable {
    var offset: Int
    var size: Int
    /// The file that the address is relative to.
    var target: String
  }

  /// A byte that makes the sum of `range` zero.
  struct Checksum: Sendable {
    var offset: Int
    var range: Range<Int>
  }

  /// The fw_cfg file that holds the block.
  let file: String
  let alignment: Int
  /// True: below 1 MiB, where it is searched for.
  let isSearched: Bool
  package internal(set) var bytes: [UInt8] = []
  var pointers: [Pointer] = []
  var checksums: [Checksum] = []

  /// Appends a table and returns where it stands.
  mutating func append(_ table: [UInt8], alignment: Int = 8) -> Int {
    bytes.align(to: alignment)
    let offset = bytes.count
    bytes.append(contentsOf: table)
    return offset
  }

  /// Appends a table with the common header, whose checksum is at byte 9.
  mutating func append(described table: [UInt8]) -> Int {
    let offset = append(table)
    checksums.append(Checksum(offset: offset + 9, range: offset..<(offset + table.count)))
    return offset
  }

  /// Notes an address of `size` bytes at `offset` that points to `place` in `target` (this block if nil).
  mutating func point(at offset: Int, size: Int, to place: Int, in target: String? = nil) {
    if size == 8 {
      bytes.store(little: UInt64(place), at: offset)
    } else {
      bytes.store(little: UInt32(place), at: offset)
    }
    pointers.append(Pointer(offset: offset, size: size, target: target ?? file))
  }

  /// The bytes for a block whose targets stand at the addresses given by file name.
  func placed(_ addresses: [String: UInt64]) -> [UInt8] {
    var result = bytes
    for pointer in pointers {
      let base = addresses[pointer.target] ?? 0
      if pointer.size == 8 {
        let offset = result.load(UInt64.self, at: pointer.offset) ?? 0
        result.store(little: base &+ offset, at: pointer.offset)
      } else {
        let offset = result.load(UInt32.self, at: pointer.offset) ?? 0
        result.store(little: UInt32(truncatingIfNeeded: base) &+ offset, at: pointer.offset)
      }
    }
    for sum in checksums {
      result[sum.offset] = 0
      result[sum.offset] = result.checksum(sum.range)
    }
    return result
  }
}

/// The header that all tables but RSDP and FACS begin with (ACPI 6.5, section 5.2.6).
enum TableHeader {
  static let size = 36
  static let manufacturer = "UNDRJK"
  static let product = "UNDERJCK"

  /// A table of header and content; the checksum is left 0.
  static func table(_ signature: String, revision: UInt8, _ content: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(text: signature, count: 4)
    bytes.append(little: UInt32(size + content.count))
    bytes.append(contentsOf: [revision, 0])
    bytes.append(text: manufacturer, count: 6)
    bytes.append(text: product, count: 8)
    bytes.append(little: UInt32(1))
    bytes.append(text: "UJCK", count: 4)
    bytes.append(little: UInt32(1))
    bytes.append(contentsOf: content)
    return bytes
  }
}
