// A debugger of the host's. Only pages with its breakpoints are executed one instruction at a time: they are kept out of
// the translation buffer for fetches, so that every way into them leads through the loop, which looks. While a
// watchpoint is set, or a step is to be made, all code is.
import CSoftProcessor
import Processor

extension UnsafeMutablePointer where Pointee == soft_debugger {
  /// Whatever is executed, it is one instruction at a time.
  var wantsSingleSteps: Bool { pointee.is_stepping != 0 || pointee.watchpoint_count != 0 }

  func breaks(page: UInt64) -> Bool {
    let points = soft_breakpoints(self)
    for index in 0..<Int(pointee.breakpoint_count) where points[index] & ~0xFFF == page {
      return true
    }
    return false
  }

  func breaks(at linear: UInt64) -> Bool {
    let points = soft_breakpoints(self)
    for index in 0..<Int(pointee.breakpoint_count) where points[index] == linear { return true }
    return false
  }

  func watches(page: UInt64) -> Bool {
    let points = soft_watchpoints(self)
    for index in 0..<Int(pointee.watchpoint_count)
    where points[index].start <= page | 0xFFF && points[index].end >= page { return true }
    return false
  }

  /// From the slow paths of loads and stores: watched pages have no other.
  func noteAccess(_ linear: UInt64, count: UInt64, isWrite: Bool) {
    guard pointee.watchpoint_count != 0, pointee.hit == 0, count > 0 else { return }
    let kind = UInt32(isWrite ? SOFT_WATCH_WRITE : SOFT_WATCH_READ)
    let last = linear &+ (count &- 1)
    let points = soft_watchpoints(self)
    for index in 0..<Int(pointee.watchpoint_count)
    where points[index].kinds & kind != 0 && points[index].start <= last
      && points[index].end >= linear
    {
      pointee.hit = UInt32(index + 1)
      return
    }
  }

  /// An instruction was executed, or an exception of its was delivered instead.
  func noteInstruction(hasFaulted: Bool) {
    if hasFaulted { pointee.hit = 0 }
    if pointee.is_stepping != 0 { pointee.has_stepped = 1 }
  }
}

/// Before each block: whether the processor is to stop. If it goes on, its mode says how.
@inline(never)
func debuggerStops(_ cpu: CPU, _ debugger: UnsafeMutablePointer<soft_debugger>) -> Bool {
  if debugger.pointee.hit != 0 {
    debugger.pointee.stop_watchpoint = debugger.pointee.hit
    return stop(cpu, debugger, SOFT_STOP_WATCHPOINT)
  }
  if debugger.pointee.has_stepped != 0 { return stop(cpu, debugger, SOFT_STOP_STEP) }
  guard debugger.pointee.breakpoint_count != 0 else { return false }
  let linear = linearInstructionPointer(cpu)
  if debugger.breaks(page: linear & ~0xFFF) {
    // A step begins where the processor is, also at a breakpoint.
    if debugger.pointee.is_stepping == 0, debugger.breaks(at: linear) {
      return stop(cpu, debugger, SOFT_STOP_BREAKPOINT)
    }
    cpu.pointee.mode |= UInt32(SOFT_MODE_SINGLE)
  } else if cpu.hasMode(SOFT_MODE_SINGLE) {
    // Left over from such a page, maybe.
    updateMode(cpu)
  }
  return false
}

private func stop(
  _ cpu: CPU, _ debugger: UnsafeMutablePointer<soft_debugger>, _ reason: Int
) -> Bool {
  debugger.pointee.stop = UInt32(reason)
  debugger.pointee.hit = 0
  debugger.pointee.is_stepping = 0
  debugger.pointee.has_stepped = 0
  updateMode(cpu)
  return true
}

private func linearInstructionPointer(_ cpu: CPU) -> UInt64 {
  cpu.hasMode(SOFT_MODE_CODE64)
    ? cpu.pointee.rip
    : (cpu.segments[Int(SOFT_CS)].base &+ cpu.pointee.rip) & 0xFFFF_FFFF
}

extension SoftProcessor: DebuggableProcessor {
  package func setDebugging(_ settings: DebugSettings?) throws(ProcessorError) {
    let wanted = settings ?? DebugSettings()
    guard wanted.breakpoints.count <= Int(SOFT_BREAKPOINT_LIMIT),
      wanted.watchpoints.count <= Int(SOFT_WATCHPOINT_LIMIT)
    else {
      throw ProcessorError(
        "processor \(index): more than \(SOFT_BREAKPOINT_LIMIT) breakpoints or "
          + "\(SOFT_WATCHPOINT_LIMIT) watchpoints")
    }
    var points = wanted
    points.isStepping = false
    if let debugger = cpu.pointee.debugger, points == debugPoints, wanted != DebugSettings() {
      // Another step, or none: what was decoded holds.
      debugger.pointee.is_stepping = wanted.isStepping ? 1 : 0
      debugger.pointee.has_stepped = 0
      debugger.pointee.hit = 0
      return updateMode(cpu)
    }
    debugPoints = points
    if let old = cpu.pointee.debugger {
      cpu.pointee.debugger = nil
      old.deallocate()
    } else if wanted == DebugSettings() {
      return
    }
    if wanted != DebugSettings() { cpu.pointee.debugger = Self.make(wanted) }
    updateMode(cpu)
    // What was decoded and looked up counts on other breakpoints.
    flushTranslations(cpu, keepGlobal: false)
    dropBlocks(cpu)
  }

  private static func make(_ settings: DebugSettings) -> UnsafeMutablePointer<soft_debugger> {
    let debugger = UnsafeMutablePointer<soft_debugger>.allocate(capacity: 1)
    UnsafeMutableRawPointer(debugger).initializeMemory(
      as: UInt8.self, repeating: 0, count: MemoryLayout<soft_debugger>.size)
    debugger.pointee.is_stepping = settings.isStepping ? 1 : 0
    debugger.pointee.breakpoint_count = UInt32(settings.breakpoints.count)
    for (index, address) in settings.breakpoints.enumerated() {
      soft_breakpoints(debugger)[index] = address
    }
    debugger.pointee.watchpoint_count = UInt32(settings.watchpoints.count)
    for (index, point) in settings.watchpoints.enumerated() {
      let last = point.address.addingReportingOverflow(max(1, point.count) - 1)
      let kinds: Int =
        switch point.kind {
        case .write: SOFT_WATCH_WRITE
        case .read: SOFT_WATCH_READ
        case .access: SOFT_WATCH_WRITE | SOFT_WATCH_READ
        }
      soft_watchpoints(debugger)[index] = soft_watchpoint(
        start: point.address, end: last.overflow ? .max : last.partialValue,
        kinds: UInt32(kinds))
    }
    return debugger
  }

  package var debugStop: DebugStop {
    let address = linearInstructionPointer(cpu)
    guard let debugger = cpu.pointee.debugger else {
      return DebugStop(reason: .other, address: address)
    }
    switch Int(debugger.pointee.stop) {
    case SOFT_STOP_STEP: return DebugStop(reason: .step, address: address)
    case SOFT_STOP_BREAKPOINT: return DebugStop(reason: .breakpoint, address: address)
    case SOFT_STOP_WATCHPOINT:
      let index = Int(debugger.pointee.stop_watchpoint) - 1
      guard (0..<Int(debugger.pointee.watchpoint_count)).contains(index) else { break }
      return DebugStop(
        reason: .watchpoint(soft_watchpoints(debugger)[index].start), address: address)
    default: break
    }
    return DebugStop(reason: .other, address: address)
  }
}
