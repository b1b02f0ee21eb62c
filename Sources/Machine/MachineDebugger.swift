import GuestMemory
import Platform
import Processor

/// A debugger's hold of a machine: stops it, looks at it, lets it go on. One at a time.
///
/// All but `detach` must be called by one thread at a time, and none from inside an event of the machine. Resets and pauses
/// by others are no harm: what is read is read while the machine stands still.
public final class MachineDebugger: Sendable {
  private let machine: Machine
  private let wasRunning: Bool
  private let isAttached = Monitor(true)

  fileprivate init(_ machine: Machine, wasRunning: Bool) {
    self.machine = machine
    self.wasRunning = wasRunning
  }

  deinit { detach() }

  private var point: DebugPoint { machine.parts.debugPoint }

  public var processorCount: Int { machine.configuration.processorCount }

  /// Whether a processor could be told to stop at all of these.
  public func accepts(breakpoints: Int, watchpoints: [Watchpoint]) -> Bool {
    guard !machine.parts.accelerator.isSoftware else {
      return breakpoints <= 256 && watchpoints.count <= 16
    }
    // The hardware's four.
    return breakpoints + watchpoints.count <= 4
      && watchpoints.allSatisfy {
        [1, 2, 4, 8].contains($0.count) && $0.address & ($0.count - 1) == 0
      }
  }

  /// Stops all processors; comes back when they stand still.
  public func stop() throws {
    machine.pause()
    // Requests are served one after the other: behind this one the machine is paused.
    _ = try machine.whilePaused { _ in }
  }

  /// Lets the machine go on until a processor stops, or `stop`. While it is stopped.
  ///
  /// - Throws: when the machine has ended.
  public func resume(
    _ run: DebugRun, breakpoints: [UInt64], watchpoints: [Watchpoint]
  ) throws {
    guard machine.runState != .stopped else { throw MachineError("the machine has ended") }
    point.begin(run, breakpoints: breakpoints, watchpoints: watchpoints)
    machine.resume()
  }

  /// The first processor that has stopped since `resume`; nil: none has.
  public var firstStop: MachineStop? { point.stops.first }

  /// What a processor could not be told to stop at, in a line.
  public var failure: String? { point.failure }

  public var hasEnded: Bool { machine.runState == .stopped }

  /// The registers of a processor.
  public func state(of processor: Int) throws -> ProcessorState {
    let result = Monitor<ProcessorState?>(nil)
    _ = try machine.whilePaused { board in
      let state = try board.processorState(processor)
      result.update { $0 = state }
    }
    guard let state = result.read({ $0 }) else { throw MachineError("no registers") }
    return state
  }

  public func setState(_ state: ProcessorState, of processor: Int) throws {
    _ = try machine.whilePaused { board in try board.setProcessorState(state, processor) }
  }

  /// Memory as a processor with these registers sees it: what lies at the beginning of the range, up to `count` bytes.
  public func read(_ linear: UInt64, count: Int, _ state: ProcessorState) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      let (address, overflow) = linear.addingReportingOverflow(UInt64(bytes.count))
      let part = min(count - bytes.count, Self.leftInPage(address))
      guard !overflow, let place = state.physicalAddress(of: address, in: memory),
        let piece = bytesOfMachine(at: place, count: part)
      else { break }
      bytes += piece
    }
    return bytes
  }

  /// - Returns: false where a part of the range is no RAM; nothing is written then.
  public func write(_ bytes: [UInt8], at linear: UInt64, _ state: ProcessorState) -> Bool {
    var pieces: [(place: GuestAddress, range: Range<Int>)] = []
    var done = 0
    while done < bytes.count {
      let (address, overflow) = linear.addingReportingOverflow(UInt64(done))
      let part = min(bytes.count - done, Self.leftInPage(address))
      guard !overflow, let place = state.physicalAddress(of: address, in: memory),
        memory.pointer(at: place, count: UInt64(part)) != nil
      else { return false }
      pieces.append((place, done..<done + part))
      done += part
    }
    for (place, range) in pieces { try? memory.write(Array(bytes[range]), at: place) }
    return true
  }

  private var memory: GuestMemory { machine.parts.memory }

  private static func leftInPage(_ address: UInt64) -> Int { 4096 - Int(address & 4095) }

  private func bytesOfMachine(at place: GuestAddress, count: Int) -> [UInt8]? {
    if let bytes = try? memory.bytes(at: place, count: count) { return bytes }
    // Firmware ends at 4 GiB. Other devices are left alone: a look at them could change them.
    guard case .firmware(let image, _, _) = machine.parts.boot else { return nil }
    let start = AddressMap.firmwareEnd - UInt64(image.size)
    guard place.rawValue >= start, place.rawValue < AddressMap.firmwareEnd,
      UInt64(count) <= AddressMap.firmwareEnd - place.rawValue
    else { return nil }
    let bytes = UnsafeRawBufferPointer(
      start: image.pointer + Int(place.rawValue - start), count: count)
    return Array(bytes)
  }

  /// The machine is as it was before: nothing is stopped at, and it runs on if it ran. Harmless when it is done already.
  public func detach() {
    let isFirst = isAttached.update { isAttached in
      defer { isAttached = false }
      return isAttached
    }
    guard isFirst else { return }
    // Paused first: a processor that has stopped a moment ago has the others stand still.
    try? stop()
    point.detach()
    if wasRunning { machine.resume() }
  }
}

extension Machine {
  /// - Parameter wake: called on any thread when a processor has stopped; must not wait.
  /// - Throws: when there is a debugger already, or the machine does not run.
  public func attachDebugger(
    wake: @escaping @Sendable () -> Void
  ) throws(MachineError) -> MachineDebugger {
    let state = runState
    guard state != .stopped, state != .ready else {
      throw MachineError("\(configuration.name): does not run")
    }
    guard parts.debugPoint.attach(wake) else {
      throw MachineError("\(configuration.name): a debugger is attached already")
    }
    return MachineDebugger(self, wasRunning: state == .running || state == .halted)
  }
}
