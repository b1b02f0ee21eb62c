// All ACPI tables of a machine, for both ways of delivery: as fw_cfg files with a script for SeaBIOS, or placed in
// memory where a kernel without firmware looks (ACPI 6.5, section 5.2.5).
import Devices

/// The tables of one machine.
package struct ACPITables: Sendable {
  package enum File {
    package static let tables = "etc/acpi/tables"
    package static let root = "etc/acpi/rsdp"
    package static let loader = "etc/table-loader"
  }

  package let tables: TableImage
  package let root: TableImage
  /// Each table's place in `tables`, by signature.
  package let offsets: [String: Int]

  package init(_ board: BoardDescription) {
    var image = TableImage(file: File.tables, alignment: 64, isSearched: false)
    var offsets: [String: Int] = [:]
    let control = image.append(FixedDescription.control, alignment: 64)
    let devices = image.append(described: DeviceDescription.table(board))
    let fixed = image.append(described: FixedDescription.table(board))
    image.point(at: fixed + FixedDescription.Offset.control, size: 4, to: control)
    image.point(at: fixed + FixedDescription.Offset.description, size: 4, to: devices)
    image.point(at: fixed + FixedDescription.Offset.longDescription, size: 8, to: devices)
    offsets["FACS"] = control
    offsets["DSDT"] = devices
    offsets["FACP"] = fixed
    offsets["APIC"] = image.append(described: InterruptDescription.table(board))
    if board.hasEventTimer {
      offsets["HPET"] = image.append(described: EventTimerDescription.table())
    }
    let listed = ["FACP", "APIC", "HPET"].compactMap { offsets[$0] }
    let short = Self.appendList("RSDT", entrySize: 4, listed, to: &image)
    let long = Self.appendList("XSDT", entrySize: 8, listed, to: &image)
    offsets["RSDT"] = short
    offsets["XSDT"] = long
    tables = image
    self.offsets = offsets
    root = Self.rootPointer(short: short, long: long)
  }

  private static func appendList(
    _ signature: String, entrySize: Int, _ listed: [Int], to image: inout TableImage
  ) -> Int {
    let content = [UInt8](repeating: 0, count: entrySize * listed.count)
    let offset = image.append(described: TableHeader.table(signature, revision: 1, content))
    for (index, target) in listed.enumerated() {
      image.point(
        at: offset + TableHeader.size + index * entrySize, size: entrySize, to: target)
    }
    return offset
  }

  /// RSDP, revision 2: 36 bytes, the first 20 with a checksum of their own.
  private static func rootPointer(short: Int, long: Int) -> TableImage {
    var image = TableImage(file: File.root, alignment: 16, isSearched: true)
    var bytes: [UInt8] = []
    bytes.append(text: "RSD PTR ", count: 8)
    bytes.append(0)
    bytes.append(text: TableHeader.manufacturer, count: 6)
    bytes.append(2)
    bytes.append(little: UInt32(0))
    bytes.append(little: UInt32(36))
    bytes.append(little: UInt64(0))
    bytes.appendZeros(4)
    _ = image.append(bytes, alignment: 16)
    image.point(at: 16, size: 4, to: short, in: File.tables)
    image.point(at: 24, size: 8, to: long, in: File.tables)
    image.checksums.append(TableImage.Checksum(offset: 8, range: 0..<20))
    image.checksums.append(TableImage.Checksum(offset: 32, range: 0..<36))
    return image
  }

  /// For firmware that carries out table loader scripts.
  package func addFiles(to items: inout FirmwareItems) throws(FirmwareItemError) {
    try items.setFile(File.tables, .bytes(tables.bytes))
    try items.setFile(File.root, .bytes(root.bytes))
    try items.setFile(File.loader, .bytes(TableLoader([tables, root]).bytes))
  }

  /// Where the root pointer goes without firmware: it is searched from here upwards in steps of 16 bytes.
  package static let rootAddress = PCMemory.firmwareShadow

  /// For a kernel without firmware: root pointer and tables from 0xE0000.
  package func plan() throws(FirmwareError) -> LoadPlan {
    let tablesAddress = Self.rootAddress + 64
    let addresses = [File.tables: tablesAddress, File.root: Self.rootAddress]
    var plan = LoadPlan("ACPI tables")
    try plan.add(root.placed(addresses), at: Self.rootAddress, "the ACPI root pointer")
    try plan.add(tables.placed(addresses), at: tablesAddress, "the ACPI tables")
    guard tablesAddress + UInt64(tables.bytes.count) <= SMBIOSTables.entryAddress else {
      throw FirmwareError("ACPI tables", "too large for so many processors without firmware")
    }
    return plan
  }
}
