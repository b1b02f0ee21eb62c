// Who the machine is, in the form that dmidecode, systemd and cloud-init read: SMBIOS 2.8 (DMTF DSP0134).
import Devices
import GuestMemory

/// The SMBIOS structures of one machine.
package struct SMBIOSTables: Sendable {
  package enum File {
    package static let anchor = "etc/smbios/smbios-anchor"
    package static let tables = "etc/smbios/smbios-tables"
  }

  private static let manufacturer = "Underjack"
  private static let product = "Underjack Virtual Machine"
  private static let entrySize = 31
  /// So many handles are free after the first processor's.
  private static let socketLimit = 1024

  private enum Handle {
    static let firmware: UInt16 = 0
    static let system: UInt16 = 0x100
    static let chassis: UInt16 = 0x300
    static let processor: UInt16 = 0x400
    static let memoryArray: UInt16 = 0x1000
    static let memoryDevice: UInt16 = 0x1100
    static let mappedRange: UInt16 = 0x1300
    static let boot: UInt16 = 0x2000
    static let end: UInt16 = 0x7F00
    /// What a field holds that refers to nothing.
    static let none: UInt16 = 0xFFFE
    static let absent: UInt16 = 0xFFFF
  }

  /// All structures, one after the other, ended by type 127.
  package private(set) var structures: [UInt8] = []
  private var count: UInt16 = 0
  private var largest: UInt16 = 0

  package init(_ board: BoardDescription) {
    add(firmware())
    add(system(board))
    add(chassis())
    let sockets = board.topology?.sockets ?? 1
    for socket in 0..<min(sockets, Self.socketLimit) { add(processor(board, socket: socket)) }
    add(memoryArray(board))
    for device in memoryDevices(board) { add(device) }
    for range in mappedRanges(board) { add(range) }
    add(bootInformation())
    add(SMBIOSStructure(type: 127, handle: Handle.end))
  }

  private mutating func add(_ structure: SMBIOSStructure) {
    let bytes = structure.bytes
    structures += bytes
    count += 1
    largest = max(largest, UInt16(clamping: bytes.count))
  }

  // MARK: Structures

  /// Type 0.
  private func firmware() -> SMBIOSStructure {
    var result = SMBIOSStructure(type: 0, handle: Handle.firmware)
    result.add(Self.manufacturer)
    result.add("1.0")
    result.add(UInt16(0xE800))
    result.add("04/01/2025")
    result.add(UInt8(0))
    let characteristicsUnsupported: UInt64 = 1 << 3
    result.add(characteristicsUnsupported)
    let isVirtualMachine: UInt8 = 1 << 4
    result.add(bytes: [0, isVirtualMachine])
    result.add(bytes: [0, 0, 0xFF, 0xFF])  // releases: none, no embedded controller
    return result
  }

  /// Type 1.
  private func system(_ board: BoardDescription) -> SMBIOSStructure {
    var result = SMBIOSStructure(type: 1, handle: Handle.system)
    result.add(Self.manufacturer)
    result.add(Self.product)
    result.add("1.0")
    result.add(board.name)
    result.add(bytes: Self.encoded(uuid: board.uuid))
    let powerSwitch: UInt8 = 6
    result.add(powerSwitch)
    result.add("")
    result.add("Virtual Machine")
    return result
  }

  /// The first three fields are little-endian since version 2.6.
  private static func encoded(uuid: [UInt8]) -> [UInt8] {
    var bytes = Array(uuid.prefix(16))
    bytes.appendZeros(16 - bytes.count)
    let order = [3, 2, 1, 0, 5, 4, 7, 6] + Array(8..<16)
    return order.map { bytes[$0] }
  }

  /// Type 3.
  private func chassis() -> SMBIOSStructure {
    var result = SMBIOSStructure(type: 3, handle: Handle.chassis)
    result.add(Self.manufacturer)
    let other: UInt8 = 1
    let safe: UInt8 = 3
    let unknown: UInt8 = 2
    result.add(other)
    for text in ["1.0", "", ""] { result.add(text) }
    result.add(bytes: [safe, safe, safe, unknown])
    result.add(UInt32(0))
    result.add(bytes: [0, 0, 0, 0])  // height, cords, no contained elements
    result.add("")
    return result
  }

  /// Type 4.
  private func processor(_ board: BoardDescription, socket: Int) -> SMBIOSStructure {
    var result = SMBIOSStructure(type: 4, handle: Handle.processor + UInt16(socket))
    result.add("CPU \(socket)")
    let central: UInt8 = 3
    let other: UInt8 = 1
    result.add(bytes: [central, other])
    result.add(Self.manufacturer)
    result.add(UInt64(0))
    result.add("")
    result.add(UInt8(0))  // voltage
    for _ in 0..<3 { result.add(UInt16(0)) }  // clock, largest and current speed: unknown
    let populatedAndEnabled: UInt8 = 0x41
    result.add(bytes: [populatedAndEnabled, other])
    for _ in 0..<3 { result.add(Handle.absent) }  // caches
    for _ in 0..<3 { result.add("") }
    let coreCount = board.topology?.cores ?? board.processorCount
    let threadCount = board.topology?.processorsPerSocket ?? board.processorCount
    let cores = UInt8(clamping: coreCount)
    result.add(bytes: [cores, cores, UInt8(clamping: threadCount)])
    let is64Bit: UInt16 = 1 << 2
    result.add(is64Bit)
    result.add(UInt16(other))
    for count in [coreCount, coreCount, threadCount] { result.add(UInt16(clamping: count)) }
    return result
  }

  /// The size field of a memory device is 16 bits of MiB; more devices stand for more memory.
  private static let deviceLimit: UInt64 = 16 << 30

  private func deviceSizes(_ board: BoardDescription) -> [UInt64] {
    var sizes: [UInt64] = []
    var rest = board.memorySize
    // Beyond a hundred devices the last one states the rest in its extended size.
    while rest > Self.deviceLimit && sizes.count < 100 {
      sizes.append(Self.deviceLimit)
      rest -= Self.deviceLimit
    }
    if rest > 0 { sizes.append(rest) }
    return sizes
  }

  /// Type 16.
  private func memoryArray(_ board: BoardDescription) -> SMBIOSStructure {
    var result = SMBIOSStructure(type: 16, handle: Handle.memoryArray)
    let other: UInt8 = 1
    let systemMemory: UInt8 = 3
    let multiBitCorrection: UInt8 = 6
    result.add(bytes: [other, systemMemory, multiBitCorrection])
    let kibibytes = board.memorySize >> 10
    let isExtended = kibibytes >= 0x8000_0000
    result.add(isExtended ? UInt32(0x8000_0000) : UInt32(kibibytes))
    result.add(Handle.none)
    result.add(UInt16(deviceSizes(board).count))
    result.add(isExtended ? board.memorySize : UInt64(0))
    return result
  }

  /// Type 17.
  private func memoryDevices(_ board: BoardDescription) -> [SMBIOSStructure] {
    deviceSizes(board).enumerated().map { index, size in
      var result = SMBIOSStructure(type: 17, handle: Handle.memoryDevice + UInt16(index))
      result.add(Handle.memoryArray)
      result.add(Handle.none)
      result.add(Handle.absent)  // total and data width: unknown
      result.add(Handle.absent)
      let mebibytes = size >> 20
      let isExtended = mebibytes >= 0x7FFF
      result.add(isExtended ? UInt16(0x7FFF) : UInt16(mebibytes))
      let dualInline: UInt8 = 9
      result.add(bytes: [dualInline, 0])
      result.add("DIMM \(index)")
      result.add("")
      let ram: UInt8 = 7
      result.add(ram)
      let other: UInt16 = 1 << 1
      result.add(other)
      result.add(UInt16(0))
      result.add(Self.manufacturer)
      for _ in 0..<3 { result.add("") }
      result.add(UInt8(0))
      result.add(isExtended ? UInt32(truncatingIfNeeded: mebibytes) : UInt32(0))
      for _ in 0..<4 { result.add(UInt16(0)) }  // speed, voltages: unknown
      return result
    }
  }

  /// Type 19, one for each region of RAM.
  private func mappedRanges(_ board: BoardDescription) -> [SMBIOSStructure] {
    MemoryMap.ram(memorySize: board.memorySize).entries.enumerated().map { index, region in
      var result = SMBIOSStructure(type: 19, handle: Handle.mappedRange + UInt16(index))
      let last = region.end - 1
      let isExtended = last >> 10 >= UInt64(UInt32.max)
      result.add(isExtended ? UInt32.max : UInt32(region.base >> 10))
      result.add(isExtended ? UInt32.max : UInt32(last >> 10))
      result.add(Handle.memoryArray)
      result.add(UInt8(1))
      result.add(isExtended ? region.base : UInt64(0))
      result.add(isExtended ? last : UInt64(0))
      return result
    }
  }

  /// Type 32.
  private func bootInformation() -> SMBIOSStructure {
    var result = SMBIOSStructure(type: 32, handle: Handle.boot)
    result.add(bytes: [UInt8](repeating: 0, count: 7))
    return result
  }

  // MARK: Delivery

  /// The entry point for structures at `address`.
  private func entry(address: UInt32) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(text: "_SM_", count: 4)
    bytes.append(contentsOf: [0, UInt8(Self.entrySize), 2, 8])
    bytes.append(little: largest)
    bytes.appendZeros(6)
    bytes.append(text: "_DMI_", count: 5)
    bytes.append(0)
    bytes.append(little: UInt16(clamping: structures.count))
    bytes.append(little: address)
    bytes.append(little: count)
    bytes.append(0x28)
    bytes[0x15] = bytes.checksum(0x10..<Self.entrySize)
    bytes[4] = bytes.checksum(0..<Self.entrySize)
    return bytes
  }

  /// For firmware, which places the structures and fills in their address.
  package func addFiles(to items: inout FirmwareItems) throws(FirmwareItemError) {
    try items.setFile(File.anchor, .bytes(entry(address: 0)))
    try items.setFile(File.tables, .bytes(structures))
  }

  /// Where the entry point goes without firmware; it is searched from 0xF0000 in steps of 16 bytes.
  package static let entryAddress: UInt64 = 0xF_0000
  private static let limit: UInt64 = 0xF_8000

  /// For a kernel without firmware.
  package func plan() throws(FirmwareError) -> LoadPlan {
    let address = Self.entryAddress + 32
    guard address + UInt64(structures.count) <= Self.limit else {
      throw FirmwareError("SMBIOS tables", "too large for a boot without firmware")
    }
    var plan = LoadPlan("SMBIOS tables")
    try plan.add(entry(address: UInt32(address)), at: Self.entryAddress, "the SMBIOS entry point")
    try plan.add(structures, at: address, "the SMBIOS tables")
    return plan
  }
}
