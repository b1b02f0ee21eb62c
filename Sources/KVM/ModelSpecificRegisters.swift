import CLinux
import Platform
import Processor
import Synchronization

// Model specific registers: which ones belong to a state, and how they are read and written.

extension KVMSystem {
  /// The registers that KVM keeps for a guest (KVM_GET_MSR_INDEX_LIST).
  public func registerIndices() throws(KVMError) -> [UInt32] {
    try indices("KVM_GET_MSR_INDEX_LIST", kvm_request_get_msr_index_list())
  }

  /// The registers that tell features (KVM_GET_MSR_FEATURE_INDEX_LIST); few of them may be written.
  public func featureRegisterIndices() throws(KVMError) -> [UInt32] {
    guard capability(KVM_CAP_GET_MSR_FEATURES) > 0 else { return [] }
    return try indices("KVM_GET_MSR_FEATURE_INDEX_LIST", kvm_request_get_msr_feature_index_list())
  }

  private func indices(_ name: StaticString, _ number: UInt) throws(KVMError) -> [UInt32] {
    var capacity = 256
    while true {
      let buffer = FlexibleBuffer<UInt32>(headerSize: 4, capacity: capacity)
      buffer.count = capacity
      do {
        try request(rawDescriptor, name, number, buffer.base)
      } catch {
        guard case .system(let system) = error, system.code == E2BIG, capacity < 65536 else {
          throw error
        }
        capacity = max(capacity * 2, min(65536, buffer.count))
        continue
      }
      return (0..<min(buffer.count, capacity)).map { buffer[$0] }
    }
  }
}

extension VirtualProcessor {
  /// Registers that the order of a restore depends on.
  private enum Index {
    static let timeStamp: UInt32 = 0x10
    static let timeStampAdjust: UInt32 = 0x3B
    static let timeStampDeadline: UInt32 = 0x6E0
  }

  /// Registers that a reset leaves alone.
  static func isTimeRegister(_ index: UInt32) -> Bool {
    [Index.timeStamp, Index.timeStampAdjust, Index.timeStampDeadline].contains(index)
  }

  /// Entries that one KVM_GET_MSRS takes at most.
  private static let chunk = 256

  /// Reads registers; those that this processor does not have are left out.
  public func readRegisters(_ indices: [UInt32]) throws(KVMError) -> [IndexedRegister] {
    var result: [IndexedRegister] = []
    result.reserveCapacity(indices.count)
    var position = 0
    while position < indices.count {
      let wanted = indices[position..<min(indices.count, position + Self.chunk)]
      let buffer = FlexibleBuffer<kvm_msr_entry>(headerSize: 8, capacity: wanted.count)
      buffer.count = wanted.count
      for (offset, index) in wanted.enumerated() {
        buffer[offset] = kvm_msr_entry(index: index, reserved: 0, data: 0)
      }
      let read = Int(
        try request(rawDescriptor, "KVM_GET_MSRS", kvm_request_get_msrs(), buffer.base))
      for offset in 0..<min(read, wanted.count) {
        result.append(IndexedRegister(index: buffer[offset].index, value: buffer[offset].data))
      }
      // The kernel stops at the first one that it cannot read: skip that one.
      position += read < wanted.count ? read + 1 : read
    }
    return result
  }

  /// Writes registers in the order given.
  ///
  /// - Returns: those that the kernel refused.
  public func writeRegisters(_ registers: [IndexedRegister]) throws(KVMError) -> [IndexedRegister] {
    var refused: [IndexedRegister] = []
    var position = 0
    while position < registers.count {
      let wanted = registers[position..<min(registers.count, position + Self.chunk)]
      let buffer = FlexibleBuffer<kvm_msr_entry>(headerSize: 8, capacity: wanted.count)
      buffer.count = wanted.count
      for (offset, register) in wanted.enumerated() {
        buffer[offset] = kvm_msr_entry(
          index: register.index, reserved: 0, data: register.value)
      }
      let written = Int(
        try request(rawDescriptor, "KVM_SET_MSRS", kvm_request_set_msrs(), buffer.base))
      if written < wanted.count { refused.append(registers[position + written]) }
      position += written < wanted.count ? written + 1 : written
    }
    return refused
  }

  /// The registers that make up a saved state, found once a machine: all that KVM lists, and of those that tell
  /// features the ones that this kernel takes back.
  func saveableRegisterIndices() throws(KVMError) -> [UInt32] {
    if let known = machine.saveableRegisters.withLock({ $0 }) { return known }
    var indices = try machine.system.registerIndices()
    let listed = Set(indices)
    let features = try machine.system.featureRegisterIndices().filter { !listed.contains($0) }
    let readable = try readRegisters(features)
    let refused = Set(try writeRegisters(readable).map(\.index))
    indices += readable.map(\.index).filter { !refused.contains($0) }
    machine.saveableRegisters.withLock { $0 = indices }
    return indices
  }

  /// All registers in the order in which they are to be written: the deadline of the timer after the time.
  func readSaveableRegisters() throws(KVMError) -> [IndexedRegister] {
    var registers = try readRegisters(try saveableRegisterIndices())
    let time = registers.first { $0.index == Index.timeStamp }?.value
    if let position = registers.firstIndex(where: { $0.index == Index.timeStampDeadline }) {
      var deadline = registers.remove(at: position)
      // Restoring 0 would drop a timer interrupt that is due but not delivered yet: let it be due now.
      if deadline.value == 0, let time { deadline.value = time }
      registers.append(deadline)
    }
    return registers
  }
}
