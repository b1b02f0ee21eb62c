import CLinux
import Platform
import Processor

// KVM_GET_REGS, KVM_GET_SREGS(2) and KVM_GET_DEBUGREGS, and back.
extension VirtualProcessor {
  /// General registers, instruction pointer and flags only: cheap enough for a sampling profiler.
  public func readGeneralRegisters(into state: inout ProcessorState) throws(KVMError) {
    var registers = kvm_regs()
    try request(rawDescriptor, "KVM_GET_REGS", kvm_request_get_regs(), filling: &registers)
    state.takeGeneralRegisters(registers)
  }

  func writeGeneralRegisters(_ state: ProcessorState) throws(KVMError) {
    try request(rawDescriptor, "KVM_SET_REGS", kvm_request_set_regs(), reading: kvm_regs(state))
  }

  /// Segments, descriptor tables and control registers.
  ///
  /// KVM_GET_SREGS2 where the kernel has it (5.14): it alone tells the PDPTEs and spares reading them from memory
  /// that may have changed since.
  public func readSystemRegisters(into state: inout ProcessorState) throws(KVMError) {
    var registers = kvm_sregs2()
    if machine.hasSystemRegisters2 {
      try request(rawDescriptor, "KVM_GET_SREGS2", kvm_request_get_sregs2(), filling: &registers)
    } else {
      var older = kvm_sregs()
      try request(rawDescriptor, "KVM_GET_SREGS", kvm_request_get_sregs(), filling: &older)
      registers = kvm_sregs2(older)
    }
    state.takeSystemRegisters(registers)
  }

  func writeSystemRegisters(_ state: ProcessorState) throws(KVMError) {
    var registers = kvm_sregs2(state)
    guard machine.hasSystemRegisters2 else {
      try request(
        rawDescriptor, "KVM_SET_SREGS", kvm_request_set_sregs(), reading: kvm_sregs(registers))
      return
    }
    if state.pageDirectoryPointers.count == 4 {
      let pointers = state.pageDirectoryPointers
      registers.flags = UInt64(KVM_SREGS2_FLAGS_PDPTRS_VALID)
      registers.pdptrs = (pointers[0], pointers[1], pointers[2], pointers[3])
    }
    try request(rawDescriptor, "KVM_SET_SREGS2", kvm_request_set_sregs2(), reading: registers)
  }

  func readDebugRegisters(into state: inout ProcessorState) throws(KVMError) {
    var registers = kvm_debugregs()
    try request(
      rawDescriptor, "KVM_GET_DEBUGREGS", kvm_request_get_debugregs(), filling: &registers)
    state.debugAddresses = [registers.db.0, registers.db.1, registers.db.2, registers.db.3]
    state.debug6 = registers.dr6
    state.debug7 = registers.dr7
  }

  func writeDebugRegisters(_ state: ProcessorState) throws(KVMError) {
    var registers = kvm_debugregs()
    let addresses = state.debugAddresses
    registers.db = (addresses[0], addresses[1], addresses[2], addresses[3])
    registers.dr6 = state.debug6
    registers.dr7 = state.debug7
    try request(
      rawDescriptor, "KVM_SET_DEBUGREGS", kvm_request_set_debugregs(), reading: registers)
  }
}

extension ProcessorState {
  /// Segments, descriptor tables and control registers.
  mutating func takeSystemRegisters(_ registers: kvm_sregs2) {
    codeSegment = SegmentRegister(registers.cs)
    dataSegment = SegmentRegister(registers.ds)
    extraSegment = SegmentRegister(registers.es)
    extraSegmentF = SegmentRegister(registers.fs)
    extraSegmentG = SegmentRegister(registers.gs)
    stackSegment = SegmentRegister(registers.ss)
    taskRegister = SegmentRegister(registers.tr)
    localTable = SegmentRegister(registers.ldt)
    globalDescriptors = DescriptorTable(base: registers.gdt.base, limit: registers.gdt.limit)
    interruptDescriptors = DescriptorTable(
      base: registers.idt.base, limit: registers.idt.limit)
    control0 = registers.cr0
    control2 = registers.cr2
    control3 = registers.cr3
    control4 = registers.cr4
    control8 = registers.cr8
    extendedFeatures = registers.efer
    apicBase = registers.apic_base
    let pointers = registers.pdptrs
    let hasPointers = registers.flags & UInt64(KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0
    pageDirectoryPointers =
      hasPointers ? [pointers.0, pointers.1, pointers.2, pointers.3] : []
  }

  /// General registers, instruction pointer and flags.
  mutating func takeGeneralRegisters(_ registers: kvm_regs) {
    generalRegisters = [
      registers.rax, registers.rcx, registers.rdx, registers.rbx, registers.rsp, registers.rbp,
      registers.rsi, registers.rdi, registers.r8, registers.r9, registers.r10, registers.r11,
      registers.r12, registers.r13, registers.r14, registers.r15,
    ]
    instructionPointer = registers.rip
    flags = registers.rflags
  }
}

extension kvm_regs {
  init(_ state: ProcessorState) {
    let values = state.generalRegisters
    self.init(
      rax: values[0], rbx: values[3], rcx: values[1], rdx: values[2], rsi: values[6],
      rdi: values[7], rsp: values[4], rbp: values[5], r8: values[8], r9: values[9],
      r10: values[10], r11: values[11], r12: values[12], r13: values[13], r14: values[14],
      r15: values[15], rip: state.instructionPointer, rflags: state.flags)
  }
}

extension SegmentRegister {
  init(_ segment: kvm_segment) {
    self.init(
      base: segment.base, limit: segment.limit, selector: segment.selector, type: segment.type,
      isCodeOrData: segment.s != 0, privilegeLevel: segment.dpl, isPresent: segment.present != 0,
      isAvailable: segment.avl != 0, isLong: segment.l != 0, isDefault32: segment.db != 0,
      isPageGranular: segment.g != 0, isUnusable: segment.unusable != 0)
  }

  var kernelValue: kvm_segment {
    kvm_segment(
      base: base, limit: limit, selector: selector, type: type & 0xF, present: isPresent ? 1 : 0,
      dpl: privilegeLevel & 3, db: isDefault32 ? 1 : 0, s: isCodeOrData ? 1 : 0,
      l: isLong ? 1 : 0, g: isPageGranular ? 1 : 0, avl: isAvailable ? 1 : 0,
      unusable: isUnusable ? 1 : 0, padding: 0)
  }
}

extension kvm_sregs2 {
  init(_ state: ProcessorState) {
    self.init()
    cs = state.codeSegment.kernelValue
    ds = state.dataSegment.kernelValue
    es = state.extraSegment.kernelValue
    fs = state.extraSegmentF.kernelValue
    gs = state.extraSegmentG.kernelValue
    ss = state.stackSegment.kernelValue
    tr = state.taskRegister.kernelValue
    ldt = state.localTable.kernelValue
    gdt.base = state.globalDescriptors.base
    gdt.limit = state.globalDescriptors.limit
    idt.base = state.interruptDescriptors.base
    idt.limit = state.interruptDescriptors.limit
    cr0 = state.control0
    cr2 = state.control2
    cr3 = state.control3
    cr4 = state.control4
    cr8 = state.control8
    efer = state.extendedFeatures
    apic_base = state.apicBase
  }

  init(_ older: kvm_sregs) {
    self.init(
      cs: older.cs, ds: older.ds, es: older.es, fs: older.fs, gs: older.gs, ss: older.ss,
      tr: older.tr, ldt: older.ldt, gdt: older.gdt, idt: older.idt, cr0: older.cr0,
      cr2: older.cr2, cr3: older.cr3, cr4: older.cr4, cr8: older.cr8, efer: older.efer,
      apic_base: older.apic_base, flags: 0, pdptrs: (0, 0, 0, 0))
  }
}

extension kvm_sregs {
  init(_ newer: kvm_sregs2) {
    self.init(
      cs: newer.cs, ds: newer.ds, es: newer.es, fs: newer.fs, gs: newer.gs, ss: newer.ss,
      tr: newer.tr, ldt: newer.ldt, gdt: newer.gdt, idt: newer.idt, cr0: newer.cr0,
      cr2: newer.cr2, cr3: newer.cr3, cr4: newer.cr4, cr8: newer.cr8, efer: newer.efer,
      apic_base: newer.apic_base, interrupt_bitmap: (0, 0, 0, 0))
  }
}
