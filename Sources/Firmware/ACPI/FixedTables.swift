// The tables that describe fixed hardware: FADT, FACS, MADT and HPET (ACPI 6.5, sections 5.2.9, 5.2.10, 5.2.12; IA-PC
// HPET 1.0a, section 3.2.4). The chips are those of a PIIX4.

/// The fixed description table, revision 3.
enum FixedDescription {
  /// Where addresses of other tables stand.
  enum Offset {
    static let control = 36
    static let description = 40
    static let longDescription = 140
  }

  private static let size = 244
  private static let interrupt: UInt16 = 9
  private static let commandPort: UInt32 = 0xB2
  private static let enableCommand: UInt8 = 0xF1
  private static let disableCommand: UInt8 = 0xF0
  private static let generalEventBase: UInt16 = 0xAFE0
  private static let resetPort: UInt16 = 0xCF9
  private static let resetValue: UInt8 = 6
  private static let centuryRegister: UInt8 = 0x32

  private enum Flag {
    static let flushesCaches: UInt32 = 1 << 0
    static let haltsEverywhere: UInt32 = 1 << 2
    /// There is no sleep button in the fixed registers; the power button is there.
    static let noSleepButton: UInt32 = 1 << 5
    static let noWakeByClock: UInt32 = 1 << 6
    static let hasResetRegister: UInt32 = 1 << 10
  }

  private enum BootFlag {
    static let hasLegacyDevices: UInt16 = 1 << 0
    static let hasKeyboardController: UInt16 = 1 << 1
    static let hasNoVGA: UInt16 = 1 << 2
  }

  static func table(_ board: BoardDescription) -> [UInt8] {
    let base = UInt32(board.powerManagementBase)
    var content = [UInt8](repeating: 0, count: size - TableHeader.size)
    func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ offset: Int) {
      content.store(little: value, at: offset - TableHeader.size)
    }
    put(interrupt, 46)
    put(commandPort, 48)
    put(enableCommand, 52)
    put(disableCommand, 53)
    put(base, 56)  // event registers
    put(base + 4, 64)  // control register
    put(base + 8, 76)  // timer
    put(UInt32(generalEventBase), 80)
    put(UInt8(4), 88)
    put(UInt8(2), 89)
    put(UInt8(4), 91)
    put(UInt8(4), 92)
    // Latencies that say: no C2, no C3.
    put(UInt16(0xFFF), 96)
    put(UInt16(0xFFF), 98)
    put(centuryRegister, 108)
    var bootFlags = BootFlag.hasLegacyDevices | BootFlag.hasNoVGA
    if board.hasKeyboard { bootFlags |= BootFlag.hasKeyboardController }
    put(bootFlags, 109)
    put(
      Flag.flushesCaches | Flag.haltsEverywhere | Flag.noSleepButton | Flag.noWakeByClock
        | Flag.hasResetRegister, 112)
    func putRegister(_ port: UInt64, bits: UInt8, access: AMLFieldAccess, _ offset: Int) {
      put(AMLRegionSpace.systemIO.rawValue, offset)
      put(bits, offset + 1)
      put(UInt8(0), offset + 2)
      put(access.rawValue, offset + 3)
      put(port, offset + 4)
    }
    putRegister(UInt64(resetPort), bits: 8, access: .byte, 116)
    put(resetValue, 128)
    putRegister(UInt64(base), bits: 32, access: .word, 148)
    putRegister(UInt64(base) + 4, bits: 16, access: .word, 172)
    putRegister(UInt64(base) + 8, bits: 32, access: .doubleWord, 208)
    putRegister(UInt64(generalEventBase), bits: 32, access: .byte, 220)
    return TableHeader.table("FACP", revision: 3, content)
  }

  /// The firmware control structure: no table header, no checksum, aligned to 64 bytes.
  static let control: [UInt8] = {
    var bytes: [UInt8] = []
    bytes.append(text: "FACS", count: 4)
    bytes.append(little: UInt32(64))
    bytes.appendZeros(64 - bytes.count)
    bytes[32] = 1  // version
    return bytes
  }()
}

/// The interrupt controllers (MADT).
enum InterruptDescription {
  private enum Kind: UInt8 {
    case localAPIC = 0
    case ioAPIC = 1
    case override = 2
    case localNonMaskable = 4
    case localX2APIC = 9
  }

  private static let hasLegacyControllers: UInt32 = 1
  private static let isEnabled: UInt32 = 1
  /// Active high, level-triggered.
  private static let levelHigh: UInt16 = 0b1101
  private static let allProcessors: UInt8 = 0xFF
  private static let largestLocalID: UInt32 = 254

  static func table(_ board: BoardDescription) -> [UInt8] {
    var content: [UInt8] = []
    content.append(little: PCMemory.localAPIC)
    content.append(little: hasLegacyControllers)
    for index in 0..<board.processorCount {
      let number = board.apicNumber(of: index)
      if number <= largestLocalID && index < Int(allProcessors) {
        add(.localAPIC, to: &content) {
          $0.append(contentsOf: [UInt8(index), UInt8(number)])
          $0.append(little: isEnabled)
        }
      } else {
        add(.localX2APIC, to: &content) {
          $0.append(little: UInt16(0))
          $0.append(little: number)
          $0.append(little: isEnabled)
          $0.append(little: UInt32(index))
        }
      }
    }
    add(.ioAPIC, to: &content) {
      $0.append(contentsOf: [0, 0])
      $0.append(little: PCMemory.ioAPIC)
      $0.append(little: UInt32(0))
    }
    func override(_ line: UInt8, _ input: UInt32, _ flags: UInt16) {
      add(.override, to: &content) {
        $0.append(contentsOf: [0, line])
        $0.append(little: input)
        $0.append(little: flags)
      }
    }
    override(0, 2, 0)
    for line: UInt8 in [5, 9, 10, 11] { override(line, UInt32(line), levelHigh) }
    add(.localNonMaskable, to: &content) {
      $0.append(allProcessors)
      $0.append(little: UInt16(0))
      $0.append(1)
    }
    return TableHeader.table("APIC", revision: 3, content)
  }

  private static func add(
    _ kind: Kind, to content: inout [UInt8], _ build: (inout [UInt8]) -> Void
  ) {
    var body: [UInt8] = []
    build(&body)
    content.append(contentsOf: [kind.rawValue, UInt8(body.count + 2)])
    content.append(contentsOf: body)
  }
}

/// The high precision event timer.
enum EventTimerDescription {
  /// Intel's, three comparators, 64-bit counter, able to stand in for PIT and RTC.
  private static let capabilities: UInt32 = 0x8086_A201

  static func table() -> [UInt8] {
    var content: [UInt8] = []
    content.append(little: capabilities)
    content.append(contentsOf: [AMLRegionSpace.systemMemory.rawValue, 0, 0, 0])
    content.append(little: UInt64(PCMemory.eventTimer))
    content.append(0)
    content.append(little: UInt16(0))
    content.append(0)
    return TableHeader.table("HPET", revision: 1, content)
  }
}
