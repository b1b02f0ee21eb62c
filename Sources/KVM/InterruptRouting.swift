import CLinux

/// The table of global system interrupts (GSI): which chip's pin, or which message, an input number stands for.
struct InterruptRouting {
  /// The first number after the I/O APIC's pins.
  static let firstMessageNumber: UInt32 = 24
  /// One past the last number that KVM accepts.
  static let limit: UInt32 = 4096

  enum Target: Equatable {
    case pic(chip: UInt32, pin: UInt32)
    case ioAPIC(pin: UInt32)
    case message(address: UInt64, data: UInt32)
  }

  /// ISA and I/O APIC inputs; several targets may share a number.
  private(set) var fixed: [(number: UInt32, target: Target)] = []
  /// One message a number; nil while the number is reserved and masked.
  private(set) var messages: [UInt32: Target?] = [:]
  private var nextNumber = firstMessageNumber
  private var released: [UInt32] = []

  /// ISA IRQ n on both chips as a PC has it: pin n, except that the timer's IRQ 0 is pin 2 of the I/O APIC and
  /// number 2 is the cascade of the two PICs.
  mutating func setLegacyRoutes() {
    fixed.removeAll()
    for number in UInt32(0)..<24 {
      if number < 16 && number != 2 {
        fixed.append((number, .pic(chip: number < 8 ? 0 : 1, pin: number % 8)))
      }
      switch number {
      case 0: fixed.append((number, .ioAPIC(pin: 2)))
      case 2: break
      default: fixed.append((number, .ioAPIC(pin: number)))
      }
    }
  }

  /// Reserves a number for a message-signalled interrupt; nil when all are in use.
  mutating func allocate() -> UInt32? {
    let number: UInt32
    if let reused = released.popLast() {
      number = reused
    } else {
      guard nextNumber < Self.limit else { return nil }
      number = nextNumber
      nextNumber += 1
    }
    messages.updateValue(nil, forKey: number)
    return number
  }

  /// Sets or masks a reserved number, or a pin below 24 of a split chip. False for a number that is not reserved.
  mutating func set(_ number: UInt32, to target: Target?) -> Bool {
    guard number < Self.firstMessageNumber || messages[number] != nil else { return false }
    messages.updateValue(target, forKey: number)
    return true
  }

  mutating func release(_ number: UInt32) {
    guard number >= Self.firstMessageNumber, messages.removeValue(forKey: number) != nil else {
      return
    }
    released.append(number)
  }

  /// The table in the kernel's form.
  func kernelTable() -> FlexibleBuffer<kvm_irq_routing_entry> {
    let active = messages.compactMap { number, target in target.map { (number, $0) } }
    let table = FlexibleBuffer<kvm_irq_routing_entry>(
      headerSize: 8, capacity: fixed.count + active.count)
    for (position, (number, target)) in (fixed.map { ($0.number, $0.target) } + active).enumerated()
    {
      var entry = kvm_irq_routing_entry()
      entry.gsi = number
      switch target {
      case .pic(let chip, let pin): linux_kvm_route_chip(&entry, chip, pin)
      case .ioAPIC(let pin): linux_kvm_route_chip(&entry, UInt32(KVM_IRQCHIP_IOAPIC), pin)
      case .message(let address, let data): linux_kvm_route_message(&entry, address, data)
      }
      table[position] = entry
    }
    table.count = table.capacity
    return table
  }
}
