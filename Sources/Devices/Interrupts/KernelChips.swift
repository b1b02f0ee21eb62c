// The interrupt chips of a PC as Linux has them for a virtual machine (KVM_GET_IRQCHIP, Documentation/virt/kvm/api.rst,
// 4.26), from and into ours: a state that was saved with the one goes on with the other.

extension InterruptRouter.State {
  /// struct kvm_irqchip: number and nothing (32 bits each), then 512 bytes of which a chip takes what it needs.
  private static let chipHeader = 8
  private static let chipSize = chipHeader + 512
  private static let chipCount = 3

  /// - Parameters:
  ///   - chips: struct kvm_irqchip of the first and the second 8259A and of the I/O APIC.
  ///   - present: ours, after the devices were restored and said how their lines are.
  package init(kernel chips: [[UInt8]], present: Self) throws(DeviceStateError) {
    guard chips.count == Self.chipCount, chips.allSatisfy({ $0.count == Self.chipSize }) else {
      throw DeviceStateError("the kernel's interrupt chips are none")
    }
    let bodies = chips.map { Array($0.dropFirst(Self.chipHeader)) }
    self.init()
    controllers = try ProgrammableInterruptController(kernel: (bodies[0], bodies[1]))
    pins = try InputOutputInterruptController(kernel: bodies[2], present: present.pins)
    isReplaced = present.isReplaced
    output = controllers.output
  }

  /// struct kvm_irqchip of the first and the second 8259A and of the I/O APIC.
  package var kernelChips: [[UInt8]] {
    (controllers.kernelBytes + [pins.kernelBytes]).enumerated().map { number, body in
      var bytes: [UInt8] = []
      bytes.append(number: UInt64(number), count: 4)
      bytes.append(number: 0, count: 4)
      bytes += body
      return bytes + [UInt8](repeating: 0, count: Self.chipSize - bytes.count)
    }
  }

  /// A vector that the 8259As gave away and no processor took is theirs again.
  package mutating func takeBack(_ vector: UInt8) {
    controllers.takeBack(vector)
    output = controllers.output
  }
}

extension [UInt8] {
  /// Little-endian. Bytes that are not there are zero.
  func number(at offset: Int, count: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<count where indices.contains(offset + index) {
      value |= UInt64(self[offset + index]) << (8 * UInt64(index))
    }
    return value
  }

  mutating func append(number: UInt64, count: Int) {
    for index in 0..<count { append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(index)))) }
  }
}
