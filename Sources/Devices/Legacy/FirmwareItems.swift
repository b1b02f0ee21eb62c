/// Bytes that are copied out of somewhere when firmware asks for them, such as an open file.
package protocol FirmwareItemSource: Sendable {
  /// How many bytes there are. Does not change.
  var count: Int { get }
  /// Fills the whole buffer with the bytes from `offset`; the caller stays inside `count`. Bytes that cannot be had
  /// are zero.
  func copy(from offset: Int, into buffer: UnsafeMutableRawBufferPointer)
}

/// What fw_cfg holds for firmware: numbered items and named files (QEMU docs/specs/fw_cfg).
///
/// A plain value: the board fills it, then hands it to `FirmwareConfiguration`.
package struct FirmwareItems: Sendable {
  package enum Content: Sendable {
    case bytes([UInt8])
    case source(any FirmwareItemSource)

    package var count: Int {
      switch self {
      case .bytes(let bytes): bytes.count
      case .source(let source): source.count
      }
    }
  }

  /// The numbers of items that are no files.
  package enum Key {
    package static let signature: UInt16 = 0x00
    package static let interfaceVersion: UInt16 = 0x01
    package static let uuid: UInt16 = 0x02
    /// Bytes of RAM, 64 bits.
    package static let memorySize: UInt16 = 0x03
    /// 16 bits: 1 means that there is no display.
    package static let noGraphics: UInt16 = 0x04
    /// Processors at power-on, 16 bits.
    package static let processorCount: UInt16 = 0x05
    package static let kernelAddress: UInt16 = 0x07
    package static let kernelSize: UInt16 = 0x08
    package static let kernelCommandLine: UInt16 = 0x09
    package static let initrdAddress: UInt16 = 0x0A
    package static let initrdSize: UInt16 = 0x0B
    package static let numaNodes: UInt16 = 0x0D
    package static let bootMenu: UInt16 = 0x0E
    /// The largest number of processors there can be, 16 bits.
    package static let maximumProcessorCount: UInt16 = 0x0F
    package static let kernelEntry: UInt16 = 0x10
    package static let kernelData: UInt16 = 0x11
    package static let initrdData: UInt16 = 0x12
    package static let commandLineAddress: UInt16 = 0x13
    package static let commandLineSize: UInt16 = 0x14
    package static let commandLineData: UInt16 = 0x15
    package static let setupAddress: UInt16 = 0x16
    package static let setupSize: UInt16 = 0x17
    package static let setupData: UInt16 = 0x18
    package static let directory: UInt16 = 0x19
    package static let firstFile: UInt16 = 0x20
    /// 8 bits: 1 means that ISA IRQ 0 arrives at pin 2 of the I/O APIC.
    package static let timerOverride: UInt16 = 0x8002
  }

  struct Item: Sendable {
    var content: Content
    var isWritable: Bool
  }

  /// Longest file name in bytes: 56 in the directory, one of them the terminator.
  package static let nameLimit = 55
  /// As many files as a directory may name; real ones have about twenty.
  package static let fileLimit = 512

  private var numbered: [UInt16: Content] = [:]
  private var files: [String: Item] = [:]

  package init() {}

  /// Sets a numbered item. The signature, the version and the directory are the device's own.
  package mutating func set(_ key: UInt16, _ bytes: [UInt8]) { numbered[key] = .bytes(bytes) }

  /// Sets a numbered item to an integer, little-endian in its own width.
  package mutating func set<Value: FixedWidthInteger>(_ key: UInt16, integer value: Value) {
    set(key, withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) })
  }

  /// Sets a numbered item that is read when asked for.
  package mutating func set(_ key: UInt16, source: any FirmwareItemSource) {
    numbered[key] = .source(source)
  }

  /// Sets a file; one of the same name is replaced.
  ///
  /// - Parameter isWritable: firmware may change the bytes, but not their number.
  /// - Throws: when the name has no place in the directory, or the directory is full.
  package mutating func setFile(
    _ name: String, _ content: Content, isWritable: Bool = false
  ) throws(FirmwareItemError) {
    guard !name.isEmpty, name.utf8.count <= Self.nameLimit, name.utf8.allSatisfy({ $0 > 0x20 })
    else { throw .invalidName(name) }
    guard files[name] != nil || files.count < Self.fileLimit else { throw .directoryFull(name) }
    guard content.count <= Int(UInt32.max) else { throw .tooLarge(name, content.count) }
    files[name] = Item(content: content, isWritable: isWritable)
  }

  /// What a file holds, or nil without such a file or where it is read from a source.
  package func fileBytes(_ name: String) -> [UInt8]? {
    guard case .bytes(let bytes) = files[name]?.content else { return nil }
    return bytes
  }

  /// What a numbered item holds.
  package func bytes(_ key: UInt16) -> [UInt8]? {
    guard case .bytes(let bytes) = numbered[key] else { return nil }
    return bytes
  }

  package var fileNames: [String] { files.keys.sorted(by: Self.precedes) }

  /// Byte order of the names: what QEMU does, so that keys do not depend on the locale or the order of insertion.
  private static func precedes(_ left: String, _ right: String) -> Bool {
    left.utf8.lexicographicallyPrecedes(right.utf8)
  }

  /// Everything by key, with the files numbered and the directory made.
  func table(version: UInt32) -> [UInt16: Item] {
    var items = numbered.mapValues { Item(content: $0, isWritable: false) }
    var directory: [UInt8] = []
    let names = fileNames
    directory.append(bigEndian: UInt32(names.count))
    for (index, name) in names.enumerated() {
      guard let item = files[name] else { continue }
      let key = Key.firstFile + UInt16(index)
      items[key] = item
      directory.append(bigEndian: UInt32(item.content.count))
      directory.append(bigEndian: key)
      directory.append(bigEndian: UInt16(0))
      directory.append(contentsOf: name.utf8)
      directory.append(contentsOf: repeatElement(0, count: 56 - name.utf8.count))
    }
    items[Key.directory] = Item(content: .bytes(directory), isWritable: false)
    items[Key.signature] = Item(content: .bytes(Array("QEMU".utf8)), isWritable: false)
    let versionBytes = withUnsafeBytes(of: version.littleEndian) { [UInt8]($0) }
    items[Key.interfaceVersion] = Item(content: .bytes(versionBytes), isWritable: false)
    return items
  }
}

/// Why an item cannot be offered to firmware.
package enum FirmwareItemError: Error, Equatable, CustomStringConvertible {
  case invalidName(String)
  case directoryFull(String)
  case tooLarge(String, Int)

  package var description: String {
    switch self {
    case .invalidName(let name):
      "firmware file \"\(name)\": a name has 1 to \(FirmwareItems.nameLimit) bytes and no blanks"
    case .directoryFull(let name):
      "firmware file \"\(name)\": there are \(FirmwareItems.fileLimit) files already"
    case .tooLarge(let name, let count):
      "firmware file \"\(name)\": \(count) bytes are more than 4 GiB"
    }
  }
}

extension [UInt8] {
  fileprivate mutating func append<Value: FixedWidthInteger>(bigEndian value: Value) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}
