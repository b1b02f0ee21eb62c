// Between blocks: events, interrupts, halts, exceptions, and which block comes next.
import CSoftProcessor

/// Why the loop came back.
enum LoopEnd {
  case stopped
  /// HLT with interrupts off: only an NMI or another processor's INIT ends it.
  case halted
  case shutdown
  /// The next instruction is for the processor that this one was borrowed by.
  case left
  /// The debugger has what it was waiting for.
  case debugged
}

/// Runs until someone asks for the thread, or the processor has shut down.
func runLoop(_ cpu: CPU) -> LoopEnd {
  deliverRestoredEvents(cpu)
  while true {
    if soft_events(cpu) != 0, let end = serveEvents(cpu) { return end }
    if cpu.pointee.activity != 0 {
      if cpu.pointee.activity == 3 { return .shutdown }
      if let end = rest(cpu) { return end }
      continue
    }
    if let debugger = cpu.pointee.debugger, debuggerStops(cpu, debugger) { return .debugged }
    guard let block = block(cpu) else {
      deliverException(cpu)
      cpu.pointee.debugger?.noteInstruction(hasFaulted: true)
      continue
    }
    if cpu.hasMode(Int(SOFT_MODE_SINGLE)) {
      step(cpu, block)
    } else {
      enterFromLoop(cpu, block)
    }
    if cpu.pointee.exception != UInt32(SOFT_EXCEPTION_NONE) {
      if cpu.pointee.exception == UInt32(SOFT_EXCEPTION_LEAVE) {
        cpu.pointee.exception = UInt32(SOFT_EXCEPTION_NONE)
        return .left
      }
      takeException(cpu)
      cpu.pointee.debugger?.noteInstruction(hasFaulted: true)
    } else {
      cpu.pointee.debugger?.noteInstruction(hasFaulted: false)
    }
  }
}

/// Executes one instruction, or delivers what a restored state had on its way, and looks at no event. With the delivery
/// of an exception that the instruction raised, `rip` is its handler's.
///
/// - Parameter body: what the instruction does, in its handler's place; false after raising an exception.
/// - Returns: the vector of the exception that the instruction raised, or nil.
func executeOne(_ cpu: CPU, body: ((CPU, Operation) -> Bool)? = nil) -> UInt32? {
  let none = UInt32(SOFT_EXCEPTION_NONE)
  if cpu.pointee.exception != none || cpu.pointee.restored_interrupt != 0 {
    deliverRestoredEvents(cpu)
    return nil
  }
  guard cpu.pointee.activity == 0 else { return nil }
  // No block leads to another one while there is an event.
  soft_post(cpu, UInt32(SOFT_EVENT_SELF))
  cpu.pointee.mode |= UInt32(SOFT_MODE_SINGLE)
  if let block = block(cpu) { step(cpu, block, body: body) }
  let raised = cpu.pointee.exception
  guard raised != none else { return nil }
  takeException(cpu)
  return raised
}

/// One instruction with what comes before and after it: breakpoints, traps, the end of an interrupt shadow.
private func step(
  _ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>, body: ((CPU, Operation) -> Bool)? = nil
) {
  let hadShadow = cpu.pointee.interrupt_shadow != 0
  guard beginStep(cpu) else { return }
  if let body {
    execute(cpu, block, body)
  } else {
    enterFromLoop(cpu, block)
  }
  guard cpu.pointee.exception == UInt32(SOFT_EXCEPTION_NONE) else { return }
  endStep(cpu, hadShadow: hadShadow)
}

private func execute(
  _ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>, _ body: (CPU, Operation) -> Bool
) {
  let operation = block.pointee.operations
  cpu.pointee.block = block
  guard body(cpu, operation) else { return fault(cpu, operation) }
  let end = following(cpu, operation)
  leave(cpu, at: cpu.hasMode(SOFT_MODE_CODE64) ? end : end & 0xFFFF_FFFF)
}

private func takeException(_ cpu: CPU) {
  if cpu.pointee.noncanonical != 0 {
    cpu.pointee.noncanonical = 0
    if let operation = cpu.pointee.fault_operation,
      operation.isMemory ? operation.pointee.segment == 2 : usesStack(operation.pointee.opcode),
      cpu.pointee.exception == Exception.generalProtection.rawValue
    {
      cpu.pointee.exception = Exception.stackFault.rawValue
    }
  }
  deliverException(cpu)
}

/// Whether an instruction without a memory operand reaches memory through the stack pointer.
private func usesStack(_ opcode: UInt16) -> Bool {
  switch opcode {
  case 0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x50...0x5F, 0x60, 0x61, 0x68, 0x6A, 0x8F, 0x9A,
    0x9C, 0x9D, 0xC2, 0xC3, 0xC8...0xCB, 0xCF, 0xE8, 0xFF, 0x1A0, 0x1A1, 0x1A8, 0x1A9:
    true
  default: false
  }
}

/// Nothing to execute: sleeps until there is an event.
private func rest(_ cpu: CPU) -> LoopEnd? {
  if cpu.pointee.borrowed != 0 { return .halted }
  if cpu.pointee.activity == 1 {
    if cpu.pointee.flags_other & SystemFlag.interrupt != 0 {
      if hasInterrupt(cpu) {
        soft_post(cpu, UInt32(SOFT_EVENT_INTERRUPT))
        return nil
      }
    } else if cpu.pointee.halt_reported == 0 {
      cpu.pointee.halt_reported = 1
      return .halted
    }
  }
  soft_vector_leave(cpu)
  soft_wait(cpu)
  return nil
}

/// Takes what was posted. Only what can be acted on now is cleared, or is posted again when it can.
@inline(never)
private func serveEvents(_ cpu: CPU) -> LoopEnd? {
  _ = soft_take_events(cpu, UInt32(SOFT_EVENT_SELF))
  let events = soft_events(cpu)
  // Before the processor may stop: nothing is left to mark then.
  if events & UInt32(SOFT_EVENT_MARKS) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_MARKS))
    dropMarkedTags(cpu)
  }
  if events & UInt32(SOFT_EVENT_STOP) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_STOP))
    return .stopped
  }
  if events & UInt32(SOFT_EVENT_MAP) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_MAP))
    flushTranslations(cpu, keepGlobal: false)
    dropBlocks(cpu)
  }
  if events & UInt32(SOFT_EVENT_CODE) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_CODE))
    dropCodeWriteTags(cpu)
  }
  if events & UInt32(SOFT_EVENT_INIT) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_INIT))
    initialize(cpu)
    dropBlocks(cpu)
    cpu.pointee.halt_reported = 0
  }
  if events & UInt32(SOFT_EVENT_STARTUP) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_STARTUP))
    startUp(cpu)
    updateMode(cpu)
  }
  // Neither is taken by a processor that waits for its start, nor in the shadow of STI or MOV SS.
  if cpu.pointee.activity >= 2 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_INTERRUPT))
    return nil
  }
  guard cpu.pointee.interrupt_shadow == 0 else { return nil }
  // Who steps through a program does not want to see what interrupts it.
  if let debugger = cpu.pointee.debugger, debugger.pointee.is_stepping != 0,
    cpu.pointee.activity == 0
  {
    return nil
  }
  if events & UInt32(SOFT_EVENT_NMI) != 0, cpu.pointee.nmi_blocked == 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_NMI))
    take(cpu, vector: 2, kind: .nonMaskable)
    return nil
  }
  if events & UInt32(SOFT_EVENT_INTERRUPT) != 0 {
    _ = soft_take_events(cpu, UInt32(SOFT_EVENT_INTERRUPT))
    // With IF clear it is looked for again when IF is set.
    if cpu.pointee.flags_other & SystemFlag.interrupt != 0, hasInterrupt(cpu) {
      let vector = acknowledgeInterrupt(cpu)
      if vector >= 0 { take(cpu, vector: UInt32(vector), kind: .external) }
      if cpu.pointee.flags_other & SystemFlag.interrupt != 0 { interruptsEnabled(cpu) }
    }
  }
  return nil
}

private func take(_ cpu: CPU, vector: UInt32, kind: EventKind) {
  cpu.pointee.activity = 0
  cpu.pointee.halt_reported = 0
  if !deliverInterrupt(cpu, vector: vector, kind: kind) { deliverException(cpu) }
}
