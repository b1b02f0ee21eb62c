// The MultiProcessor Specification 1.4 table, for kernels without ACPI that are booted without firmware (SeaBIOS makes
// its own). One ISA bus; I/O APIC pin n carries IRQ n, but pin 2 the timer's IRQ 0.

struct ProcessorTable {
  private enum Kind: UInt8 {
    case processor = 0
    case bus = 1
    case ioAPIC = 2
    case ioInterrupt = 3
    case localInterrupt = 4
  }

  private enum InterruptKind: UInt8 {
    case vectored = 0
    case nonMaskable = 1
    case external = 3
  }

  /// Local APIC identifiers are 8 bits, one means all, and one is taken by the I/O APIC.
  private static let identifierLimit: UInt32 = 254
  private static let address: UInt64 = 0xF_8000
  private static let localAPICVersion: UInt8 = 0x14
  private static let ioAPICVersion: UInt8 = 0x11
  private static let everyLocalAPIC: UInt8 = 0xFF

  private var entries: [UInt8] = []
  private var count: UInt16 = 0

  init(_ board: BoardDescription) {
    var controller: UInt8 = 0
    for index in 0..<board.processorCount {
      let number = board.apicNumber(of: index)
      guard number < Self.identifierLimit else { break }
      controller = UInt8(number) + 1
      let isEnabled: UInt8 = 1
      let isBootProcessor: UInt8 = index == 0 ? 2 : 0
      add(.processor) {
        $0.append(contentsOf: [UInt8(number), Self.localAPICVersion, isEnabled | isBootProcessor])
        $0.append(little: UInt32(0x600))  // family 6
        $0.append(little: UInt32(0x201))  // FPU, APIC
        $0.appendZeros(8)
      }
    }
    add(.bus) {
      $0.append(0)
      $0.append(text: "ISA", count: 6, fill: UInt8(ascii: " "))
    }
    add(.ioAPIC) {
      $0.append(contentsOf: [controller, Self.ioAPICVersion, 1])
      $0.append(little: PCMemory.ioAPIC)
    }
    for line: UInt8 in 0..<16 where line != 2 {
      addInterrupt(.ioInterrupt, .vectored, line: line, controller, input: line == 0 ? 2 : line)
    }
    addInterrupt(.localInterrupt, .external, line: 0, 0, input: 0)
    addInterrupt(.localInterrupt, .nonMaskable, line: 0, Self.everyLocalAPIC, input: 1)
  }

  private mutating func add(_ kind: Kind, _ build: (inout [UInt8]) -> Void) {
    entries.append(kind.rawValue)
    build(&entries)
    count += 1
  }

  private mutating func addInterrupt(
    _ kind: Kind, _ interrupt: InterruptKind, line: UInt8, _ target: UInt8, input: UInt8
  ) {
    add(kind) {
      $0.append(interrupt.rawValue)
      // PCI interrupts 5, 9, 10 and 11 are level-triggered, active high; the others as the bus has them.
      let isLevel = kind == .ioInterrupt && [5, 9, 10, 11].contains(line)
      $0.append(little: UInt16(isLevel ? 0b1101 : 0))
      $0.append(contentsOf: [0, line, target, input])
    }
  }

  private var table: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(text: "PCMP", count: 4)
    bytes.append(little: UInt16(44 + entries.count))
    bytes.append(contentsOf: [4, 0])
    bytes.append(text: "UNDERJCK", count: 8)
    bytes.append(text: "VM", count: 12, fill: UInt8(ascii: " "))
    bytes.appendZeros(6)
    bytes.append(little: count)
    bytes.append(little: PCMemory.localAPIC)
    bytes.appendZeros(4)
    bytes += entries
    bytes[7] = bytes.checksum(0..<bytes.count)
    return bytes
  }

  func plan() throws(FirmwareError) -> LoadPlan {
    var pointer: [UInt8] = []
    pointer.append(text: "_MP_", count: 4)
    pointer.append(little: UInt32(Self.address + 16))
    pointer.append(contentsOf: [1, 4, 0, 0, 0, 0, 0, 0])
    pointer[10] = pointer.checksum(0..<16)
    var plan = LoadPlan("multiprocessor table")
    try plan.add(pointer + table, at: Self.address, "the multiprocessor table")
    return plan
  }
}
