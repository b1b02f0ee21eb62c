// The state after power-on, INIT and a start-up interprocessor interrupt (Intel SDM 3A, table 9-1 and 8.4).
import CSoftProcessor

/// Allocates the translation buffer. Once, before anything else; `releaseTranslations` frees it.
func allocateTranslations(_ cpu: CPU) {
  let entries = UnsafeMutablePointer<soft_tlb_entry>.allocate(
    capacity: Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES))
  entries.initialize(
    repeating: soft_tlb_entry(read_tag: .max, write_tag: .max, fetch_tag: .max, addend: 0),
    count: Int(SOFT_TLB_COUNT) * Int(SOFT_TLB_CLASSES))
  cpu.pointee.tlb_entries = entries
  cpu.pointee.tlb = entries + Int(SOFT_TLB_COUNT)
}

func releaseTranslations(_ cpu: CPU) { cpu.pointee.tlb_entries.deallocate() }

/// Everything as after power-on. The boot processor starts at 0xFFFFFFF0, the others wait for a start-up interrupt.
func powerOn(_ cpu: CPU, isBootProcessor: Bool) {
  let base: UInt64 = 0xFEE0_0800
  cpu.pointee.apic_base = isBootProcessor ? base | 1 << 8 : base
  cpu.pointee.cr0 = 0x6000_0010
  resetArchitecture(cpu)
  cpu.pointee.fcw = 0x40
  cpu.pointee.fsw = 0
  cpu.pointee.ftw = 0xFF
  cpu.pointee.fop = 0
  cpu.pointee.fip = 0
  cpu.pointee.fdp = 0
  cpu.pointee.fcs = 0
  cpu.pointee.fds = 0
  cpu.pointee.mxcsr = 0x1F80
  cpu.pointee.xcr0 = 1
  for number in 0..<UInt32(8) { clear(soft_x87_register(cpu, number), 16) }
  for number in 0..<UInt32(16) { clear(soft_vector_register(cpu, number), 32) }
  cpu.pointee.star = 0
  cpu.pointee.lstar = 0
  cpu.pointee.cstar = 0
  cpu.pointee.fmask = 0
  cpu.pointee.kernel_gs_base = 0
  cpu.pointee.tsc_aux = 0
  cpu.pointee.sysenter_cs = 0
  cpu.pointee.sysenter_esp = 0
  cpu.pointee.sysenter_eip = 0
  cpu.pointee.pat = 0x0007_0406_0007_0406
  cpu.pointee.misc_enable = 1
  cpu.pointee.mtrr_def_type = 0
  for index in 0..<11 { soft_fixed_ranges(cpu)[index] = 0 }
  for index in 0..<16 { soft_variable_ranges(cpu)[index] = 0 }
  resetLocalAPIC(cpu)
  _ = soft_take_events(cpu, ~0)
  cpu.pointee.restored_interrupt = 0
  cpu.pointee.activity = isBootProcessor ? 0 : 2
}

/// INIT: vectors, caches, MSRs and the local APIC's mode stay.
func initialize(_ cpu: CPU) {
  resetArchitecture(cpu)
  resetLocalAPIC(cpu)
  cpu.pointee.activity = cpu.pointee.apic_base & 1 << 8 != 0 ? 0 : 2
}

/// SIPI: starts a processor that waits for it, in real mode at the page that the vector names.
func startUp(_ cpu: CPU) {
  guard cpu.pointee.activity == 2 else { return }
  let vector = UInt16(truncatingIfNeeded: cpu.pointee.startup_vector & 0xFF)
  cpu.segments[Int(SOFT_CS)].selector = vector << 8
  cpu.segments[Int(SOFT_CS)].base = UInt64(vector) << 12
  cpu.pointee.rip = 0
  cpu.pointee.activity = 0
}

private func clear(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) {
  for index in 0..<count { bytes[index] = 0 }
}

/// What power-on and INIT have in common.
private func resetArchitecture(_ cpu: CPU) {
  for index in 0..<18 { cpu.registers[index] = 0 }
  cpu.registers[Int(SOFT_RDX)] = UInt64(processorSignature(cpu))
  cpu.pointee.rip = 0xFFF0
  cpu.pointee.flags_other = 2
  writeFlags(cpu, 0)
  // CD and NW stay.
  cpu.pointee.cr0 = cpu.pointee.cr0 & 0x6000_0000 | Control0.extensionType
  cpu.pointee.cr2 = 0
  cpu.pointee.cr3 = 0
  cpu.pointee.cr4 = 0
  cpu.pointee.cr8 = 0
  cpu.pointee.efer = 0
  let data = soft_segment(base: 0, limit: 0xFFFF, selector: 0, attributes: 0x93)
  for index in 0..<6 { cpu.segments[index] = data }
  cpu.segments[Int(SOFT_CS)] = soft_segment(
    base: 0xFFFF_0000, limit: 0xFFFF, selector: 0xF000, attributes: 0x9B)
  cpu.segments[Int(SOFT_LDTR)] = soft_segment(
    base: 0, limit: 0xFFFF, selector: 0, attributes: 0x82)
  cpu.segments[Int(SOFT_TR)] = soft_segment(base: 0, limit: 0xFFFF, selector: 0, attributes: 0x8B)
  cpu.pointee.gdtr_base = 0
  cpu.pointee.gdtr_limit = 0xFFFF
  cpu.pointee.idtr_base = 0
  cpu.pointee.idtr_limit = 0xFFFF
  for index in 0..<4 {
    soft_debug_registers(cpu)[index] = 0
    soft_page_directory_pointers(cpu)[index] = 0
  }
  soft_debug_registers(cpu)[6] = 0xFFFF_0FF0
  soft_debug_registers(cpu)[7] = 0x400
  cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
  cpu.pointee.exception_has_error = 0
  cpu.pointee.exception_error = 0
  cpu.pointee.external_event = 0
  cpu.pointee.interrupt_shadow = 0
  cpu.pointee.nmi_blocked = 0
  cpu.pointee.step_pending = 0
  cpu.pointee.debug_hits = 0
  updateMode(cpu)
  flushTranslations(cpu, keepGlobal: false)
}
