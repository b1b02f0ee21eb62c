// MOV to and from control registers, LMSW, SMSW, CLTS (Intel SDM 3A, 2.5; 2B, MOV).
import CSoftProcessor

@inline(never)
func readControlRegister(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard isControlRegister(operation.pointee.reg) else { return invalidOpcode(cpu) }
  guard requireSupervisor(cpu) else { return false }
  let value: UInt64
  switch operation.pointee.reg {
  case 0: value = cpu.pointee.cr0
  case 2: value = cpu.pointee.cr2
  case 3: value = cpu.pointee.cr3
  case 4: value = cpu.pointee.cr4
  case 8:
    guard !leaves(cpu) else { return false }
    value = readTaskPriority(cpu)
  default: return invalidOpcode(cpu)
  }
  // Always the full register, whatever the prefixes say.
  setRegister(
    cpu, operation.pointee.rm, value, count: cpu.hasMode(SOFT_MODE_CODE64) ? 8 : 4)
  return true
}

private func isControlRegister(_ number: UInt8) -> Bool {
  number == 0 || number >= 2 && number <= 4 || number == 8
}

@inline(never)
func writeControlRegister(_ cpu: CPU, _ operation: Operation) -> Bool {
  // A register that does not exist is found before the privilege that is missing.
  guard isControlRegister(operation.pointee.reg) else { return invalidOpcode(cpu) }
  guard requireSupervisor(cpu) else { return false }
  let mask: UInt64 = cpu.hasMode(SOFT_MODE_CODE64) ? .max : 0xFFFF_FFFF
  let value = cpu.registers[Int(operation.pointee.rm)] & mask
  switch operation.pointee.reg {
  case 0: return writeControl0(cpu, value)
  case 2:
    cpu.pointee.cr2 = value
    return true
  case 3: return writeControl3(cpu, value)
  case 4: return writeControl4(cpu, value)
  case 8:
    guard value <= 15 else { return protectionFault(cpu) }
    guard !leaves(cpu) else { return false }
    writeTaskPriority(cpu, value)
    return true
  default: return invalidOpcode(cpu)
  }
}

private func writeControl0(_ cpu: CPU, _ requested: UInt64) -> Bool {
  let old = cpu.pointee.cr0
  guard requested >> 32 == 0 else { return protectionFault(cpu) }
  // ET is wired; bits that do not exist are ignored.
  let value = requested & 0xE005_002F | Control0.extensionType
  let hasPaging = value & Control0.paging != 0
  if hasPaging, value & Control0.protection == 0 { return protectionFault(cpu) }
  if value & Control0.notWriteThrough != 0, value & Control0.cacheDisable == 0 {
    return protectionFault(cpu)
  }
  let isLong = cpu.pointee.efer & Extended.longModeActive != 0
  if hasPaging, old & Control0.paging == 0 {
    if cpu.pointee.efer & Extended.longModeEnable != 0 {
      guard cpu.pointee.cr4 & Control4.physicalAddressExtension != 0,
        !cpu.segments[Int(SOFT_CS)].has(SegmentAttribute.long)
      else { return protectionFault(cpu) }
      cpu.pointee.efer |= Extended.longModeActive
    } else if cpu.pointee.cr4 & Control4.physicalAddressExtension != 0 {
      guard loadPageDirectoryPointers(cpu, cpu.pointee.cr3) else { return false }
    }
  } else if !hasPaging, old & Control0.paging != 0, isLong {
    guard !cpu.hasMode(SOFT_MODE_CODE64) else { return protectionFault(cpu) }
    cpu.pointee.efer &= ~Extended.longModeActive
  }
  cpu.pointee.cr0 = value
  if (old ^ value) & (Control0.paging | Control0.writeProtect | Control0.protection) != 0 {
    flushTranslations(cpu, keepGlobal: false)
  }
  updateMode(cpu)
  return true
}

func writeControl3(_ cpu: CPU, _ value: UInt64) -> Bool {
  if cpu.hasMode(SOFT_MODE_LONG) {
    guard value >> physicalAddressBits == 0 else { return protectionFault(cpu) }
  } else if cpu.pointee.cr0 & Control0.paging != 0,
    cpu.pointee.cr4 & Control4.physicalAddressExtension != 0
  {
    guard loadPageDirectoryPointers(cpu, value) else { return false }
  }
  cpu.pointee.cr3 = value
  flushTranslations(cpu, keepGlobal: true)
  return true
}

/// The bits of CR4 that belong to features that are offered.
@inline(__always)
private var control4Bits: UInt64 {
  Control4.virtual8086 | Control4.protectedVirtualInterrupts | Control4.timeStampDisable
    | Control4.debuggingExtensions | Control4.pageSizeExtension | Control4.physicalAddressExtension
    | Control4.machineCheck | Control4.pageGlobal | Control4.performanceCounter
    | Control4.fastSave | Control4.vectorExceptions | Control4.userModePrevention
    | Control4.baseAccess | Control4.supervisorExecution | Control4.supervisorAccess
}

private func writeControl4(_ cpu: CPU, _ value: UInt64) -> Bool {
  let old = cpu.pointee.cr4
  var allowed = control4Bits
  if offersExtendedSave(cpu) { allowed |= Control4.extendedSave }
  guard value & ~allowed == 0 else { return protectionFault(cpu) }
  let isLong = cpu.pointee.efer & Extended.longModeActive != 0
  if isLong, value & Control4.physicalAddressExtension == 0 { return protectionFault(cpu) }
  let paging =
    Control4.pageGlobal | Control4.pageSizeExtension | Control4.physicalAddressExtension
    | Control4.supervisorExecution | Control4.supervisorAccess
  if !isLong, cpu.pointee.cr0 & Control0.paging != 0,
    value & Control4.physicalAddressExtension != 0, (old ^ value) & paging != 0
  {
    guard loadPageDirectoryPointers(cpu, cpu.pointee.cr3) else { return false }
  }
  cpu.pointee.cr4 = value
  if (old ^ value) & paging != 0 { flushTranslations(cpu, keepGlobal: false) }
  updateMode(cpu)
  return true
}

/// The four entries that PAE paging keeps in the processor; #GP(0) for reserved bits.
func loadPageDirectoryPointers(_ cpu: CPU, _ control3: UInt64) -> Bool {
  let base = control3 & 0xFFFF_FFE0
  let reserved =
    UInt64(0x1E6) | ~((UInt64(1) << physicalAddressBits) &- 1)
  var entries = InlineArray<4, UInt64>(repeating: 0)
  for index in 0..<4 {
    let address = (base &+ UInt64(index) &* 8) & cpu.pointee.board.pointee.a20_mask
    entries[index] = loadPhysical(cpu, address, count: 8)
    if entries[index] & PageEntry.present != 0, entries[index] & reserved != 0 {
      return protectionFault(cpu)
    }
  }
  for index in 0..<4 { soft_page_directory_pointers(cpu)[index] = entries[index] }
  return true
}

// MARK: The machine status word

@inline(never)
func storeStatusWord(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard checkUserPrevention(cpu) else { return false }
  let count = isMemory(operation) ? 2 : operandBytes(operation)
  return storeOperand(cpu, operation, cpu.pointee.cr0 & byteMask(count), count: count)
}

@inline(never)
func loadStatusWord(_ cpu: CPU, _ operation: Operation) -> Bool {
  guard requireSupervisor(cpu), let word = loadOperand(cpu, operation, count: 2) else {
    return false
  }
  // PE can be set but not cleared.
  return writeControl0(cpu, cpu.pointee.cr0 & ~0xE | word & 0xF)
}

@inline(never)
func clearTaskSwitched(_ cpu: CPU) -> Bool {
  guard requireSupervisor(cpu) else { return false }
  cpu.pointee.cr0 &= ~Control0.taskSwitched
  return true
}

/// UMIP: SGDT, SIDT, SLDT, STR and SMSW only in ring 0.
@inline(__always)
func checkUserPrevention(_ cpu: CPU) -> Bool {
  cpu.pointee.cpl == 0 || cpu.pointee.cr4 & Control4.userModePrevention == 0
    || protectionFault(cpu)
}

// MARK: Extended control

@inline(never)
func readExtendedControl(_ cpu: CPU) -> Bool {
  guard cpu.pointee.cr4 & Control4.extendedSave != 0 else { return invalidOpcode(cpu) }
  let index = cpu.registers[Int(SOFT_RCX)] & 0xFFFF_FFFF
  guard index == 0 || index == 1 && extendedSaveFeatures(cpu) & 4 != 0 else {
    return protectionFault(cpu)
  }
  // With 1: what of it is in use.
  let value = index == 0 ? cpu.pointee.xcr0 : cpu.pointee.xcr0 & soft_states_in_use(cpu)
  cpu.registers[Int(SOFT_RAX)] = value & 0xFFFF_FFFF
  cpu.registers[Int(SOFT_RDX)] = value >> 32
  return true
}

@inline(never)
func writeExtendedControl(_ cpu: CPU) -> Bool {
  guard cpu.pointee.cr4 & Control4.extendedSave != 0 else { return invalidOpcode(cpu) }
  let value =
    cpu.registers[Int(SOFT_RDX)] << 32 | cpu.registers[Int(SOFT_RAX)] & 0xFFFF_FFFF
  // x87 always; AVX only with SSE.
  guard requireSupervisor(cpu), cpu.registers[Int(SOFT_RCX)] & 0xFFFF_FFFF == 0,
    value & 1 != 0, value & ~offeredStateComponents(cpu) == 0, value & 6 != 4
  else {
    return cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE) ? false : protectionFault(cpu)
  }
  cpu.pointee.xcr0 = value
  return true
}
