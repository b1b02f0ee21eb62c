// Everything that a machine's firmware is told, made from one description. The board calls this and nothing below it:
//
//     let content = try FirmwareContent(board)
//     let device = FirmwareConfiguration(content.items, memory: memory)   // ports 0x510 to 0x51B
//     clock.load(content.cmos.bytes)
//     try SystemFirmware(path: nil).plan().apply(to: memory)              // and again at each reset
//
// or, for a kernel without firmware, `KernelLoader(board).plan(request)`.
import Devices

/// What SeaBIOS (or OVMF) finds in fw_cfg and CMOS.
package struct FirmwareContent: Sendable {
  private enum File {
    static let memoryMap = "etc/e820"
    static let bootOrder = "bootorder"
    static let bootMenu = "etc/show-boot-menu"
    static let bootMenuWait = "etc/boot-menu-wait"
    static let bootRetryWait = "etc/boot-fail-wait"
    static let serialConsole = "etc/sercon-port"
    static let systemStates = "etc/system-states"
    static let extraRoots = "etc/extra-pci-roots"
  }

  /// For `FirmwareConfiguration`.
  package var items: FirmwareItems
  /// For the real-time clock.
  package let cmos: CMOSContent
  package let tables: ACPITables
  package let identity: SMBIOSTables

  /// - Throws: `FirmwareError` when the description is no machine.
  package init(_ board: BoardDescription) throws(FirmwareError) {
    try Self.check(board)
    tables = ACPITables(board)
    identity = SMBIOSTables(board)
    cmos = CMOSContent(
      memorySize: board.memorySize, processorCount: board.processorCount,
      bootClasses: board.bootClasses, hasMouse: board.hasMouse)
    items = FirmwareItems()
    Self.setNumbered(&items, board)
    do {
      try Self.setFiles(&items, board)
      try tables.addFiles(to: &items)
      try identity.addFiles(to: &items)
    } catch {
      throw FirmwareError("firmware configuration", error.description)
    }
  }

  static func check(_ board: BoardDescription) throws(FirmwareError) {
    guard (1...1024).contains(board.processorCount) else {
      throw FirmwareError(board.name, "\(board.processorCount) processors: 1 to 1024 are possible")
    }
    guard board.uuid.count == 16 else {
      throw FirmwareError(board.name, "a UUID of \(board.uuid.count) bytes: 16 are needed")
    }
    guard board.memorySize >= 1 << 20 else {
      throw FirmwareError(board.name, "less than 1 MiB of memory")
    }
  }

  private static func setNumbered(_ items: inout FirmwareItems, _ board: BoardDescription) {
    typealias Key = FirmwareItems.Key
    let processors = UInt16(clamping: board.processorCount)
    items.set(Key.uuid, board.uuid)
    items.set(Key.memorySize, integer: board.memorySize)
    items.set(Key.noGraphics, integer: UInt16(board.hasDisplay ? 0 : 1))
    items.set(Key.processorCount, integer: processors)
    // Not a count: SeaBIOS looks for processors among the local APIC numbers below it.
    let limit = max(board.processorCount, board.apicNumberLimit)
    items.set(Key.maximumProcessorCount, integer: UInt16(clamping: limit))
    items.set(Key.bootMenu, integer: UInt16(board.hasBootMenu ? 1 : 0))
    items.set(Key.timerOverride, [1])
    // NUMA: no nodes, but a map entry for each local APIC number is expected.
    items.set(Key.numaNodes, [UInt8](repeating: 0, count: 8 + 8 * limit))
  }

  private static func setFiles(
    _ items: inout FirmwareItems, _ board: BoardDescription
  ) throws(FirmwareItemError) {
    try items.setFile(File.memoryMap, .bytes(memoryMap(board)))
    if !board.bootOrder.isEmpty {
      try items.setFile(File.bootOrder, .bytes(BootOrderFile(board.bootOrder).bytes))
    }
    if board.hasBootMenu {
      try items.setFile(File.bootMenuWait, integer: board.bootMenuWait)
    }
    // All ones: never again. Without the file SeaBIOS starts anew after a minute.
    try items.setFile(File.bootRetryWait, integer: board.bootRetryWait ?? .max)
    if let port = board.serialConsole {
      try items.setFile(File.serialConsole, integer: port)
    }
    // One byte a sleep state S0 to S5: bit 7 available, low bits the value for PM1_CNT.
    try items.setFile(File.systemStates, .bytes([0x80, 0, 0, 1, 2, 0x80]))
    try items.setFile(File.extraRoots, integer: UInt64(0))
  }

  /// RAM first, then what is taken from it: SeaBIOS lets later entries win.
  private static func memoryMap(_ board: BoardDescription) -> [UInt8] {
    var bytes = MemoryMap.ram(memorySize: board.memorySize).bytes
    for range in board.reservedRanges where !range.isEmpty {
      var map = MemoryMap()
      map.mark(range, .reserved)
      bytes += map.bytes
    }
    return bytes
  }
}

extension FirmwareItems {
  /// A file that holds one little-endian integer.
  fileprivate mutating func setFile<Value: FixedWidthInteger & BitwiseCopyable>(
    _ name: String, integer value: Value
  ) throws(FirmwareItemError) {
    var bytes: [UInt8] = []
    bytes.append(little: value)
    try setFile(name, .bytes(bytes))
  }
}
