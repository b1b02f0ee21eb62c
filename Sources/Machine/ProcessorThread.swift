import CLinux
import Devices
import GuestMemory
import KVM
import Platform
import Processor
import Synchronization

/// One virtual processor and the thread that runs it.
final class ProcessorThread: @unchecked Sendable {
  // @unchecked: `completion` is used and `processor` runs on `thread` only; the counters are atomic; `thread` is set once by `start`.

  /// Why a processor's thread asks for the whole board to stop.
  enum Outcome: Sendable {
    /// The guest asked the hypervisor for it.
    case reset
    case tripleFault
    case powerOff
    case failed(report: String)
  }

  let processor: any Processor
  /// Exits to this process since the start.
  let exitCount = Atomic<UInt64>(0)
  /// Accesses to model specific registers that nobody has.
  let unknownRegisterCount = Atomic<UInt64>(0)
  /// Instructions that the kernel could not emulate and that were executed in software.
  let completions = CompletionCounters()

  private let buses: BusAccess
  private let memory: GuestMemory
  private let runSwitch: RunSwitch
  /// Only on boards whose interrupt chips are ours.
  private let router: InterruptRouter?
  /// Only on the boot processor of such a board.
  private let externalInterrupts: ExternalInterrupts?
  private let scheduling: CoreScheduling
  private let completionParts: CompletionParts?
  private let debugPoint: DebugPoint
  /// Of `debugPoint`, when its settings were taken over.
  private var debugGeneration: UInt64 = 0
  /// Made when the first such instruction comes.
  private var completion: InstructionCompletion?
  /// Once all processors of the machine live in software.
  private var residence: SoftwareResidence?
  private var samples = EmulationSamples()
  /// CPU time at which the watch has asked for a sample; 0 when it has not.
  private let sampleRequest = Atomic<UInt64>(0)
  private let lastSample = Atomic<UInt64>(0)
  /// Instructions completed one by one, after which that is no way to go on.
  private static let completionLimit = 64
  private let ended: @Sendable (Outcome) -> Void
  private let thread = Monitor<PosixThread?>(nil)
  private let clockIdentifier = Atomic<Int32>(0)
  /// CPU time of a thread that has ended.
  private let finalTime = Atomic<UInt64>(0)

  /// - Parameter ended: called on the processor's thread, which rests afterwards until the board is torn down.
  init(
    _ processor: any Processor, buses: BusAccess, memory: GuestMemory, runSwitch: RunSwitch,
    router: InterruptRouter?,
    externalInterrupts: ExternalInterrupts?, scheduling: CoreScheduling,
    completionParts: CompletionParts? = nil, debugPoint: DebugPoint = DebugPoint(),
    ended: @escaping @Sendable (Outcome) -> Void
  ) {
    self.processor = processor
    self.buses = buses
    self.memory = memory
    self.runSwitch = runSwitch
    self.router = router
    self.externalInterrupts = externalInterrupts
    self.scheduling = scheduling
    self.completionParts = completionParts
    self.debugPoint = debugPoint
    self.ended = ended
  }

  /// Starts the thread; it waits until the switch says `running`.
  func start() throws(PlatformError) {
    let created = try PosixThread(name: "cpu\(processor.index)", role: .processor) { [self] in
      var clock = clockid_t()
      if pthread_getcpuclockid(pthread_self(), &clock) == 0 {
        clockIdentifier.store(clock, ordering: .relaxed)
      }
      scheduling.join()
      externalInterrupts?.noteThread()
      main()
      finalTime.store(processorTime, ordering: .relaxed)
      clockIdentifier.store(0, ordering: .releasing)
    }
    thread.update { $0 = created }
    runSwitch.noteStart()
  }

  /// CPU time of the thread, nanoseconds.
  var processorTime: UInt64 {
    let identifier = clockIdentifier.load(ordering: .acquiring)
    var time = timespec()
    guard identifier != 0, clock_gettime(identifier, &time) == 0 else {
      return finalTime.load(ordering: .relaxed)
    }
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  func join() { thread.read { $0 }?.join() }

  private func main() {
    while runSwitch.waitUntilAllowed(rests: { debugPoint.rests(processor.index) }) {
      moveIfWanted()
      takeDebugSettings()
      var outcome = runUntilStopped()
      do {
        try residence?.giveBack()
      } catch {
        outcome = outcome ?? .failed(report: "processor \(processor.index): \(error)")
      }
      guard let outcome else { continue }
      ended(outcome)
      return runSwitch.waitForEnd()
    }
  }

  /// Runs the guest until the switch moves (nil) or the processor cannot or must not go on.
  private func runUntilStopped() -> Outcome? {
    while true {
      externalInterrupts?.prepare()
      let exit: ProcessorExit
      do {
        exit = try residence?.run() ?? processor.run()
      } catch {
        return .failed(report: "processor \(processor.index): \(error)")
      }
      exitCount.store(exitCount.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
      let start = buses.probe.begin()
      serving: switch exit {
      case .portRead(let port, let width, let count, let data):
        buses.readPort(port, width, count, data)
      case .portWrite(let port, let width, let count, let data):
        buses.writePort(port, width, count, data)
      case .memoryRead(let address, let count, let data):
        buses.readMemory(address, count, data)
      case .memoryWrite(let address, let count, let data):
        buses.writeMemory(address, count, data)
      case .interrupted:
        if !runSwitch.allowsRunning { return nil }
        if sampleRequest.load(ordering: .relaxed) != 0, isEmulatedForLong() {
          runSwitch.gather()
          return nil
        }
      case .endOfInterrupt(let vector): router?.endOfInterrupt(vector)
      case .registerRead(_, _, let failed), .registerWrite(_, _, let failed):
        // As hardware does for a register that it does not have: #GP.
        failed.pointee = 1
        unknownRegisterCount.add(1, ordering: .relaxed)
      case .halted, .interruptWindow: break
      case .debug:
        guard stopsForDebugger() else { break serving }
        runSwitch.hold()
        return nil
      case .shutdown: return .tripleFault
      case .systemEvent(.reset): return .reset
      case .systemEvent(.shutdown): return .powerOff
      case .systemEvent(let event):
        return .failed(report: "the guest reported a crash to the hypervisor (\(event))")
      case .failure(let failure):
        switch complete(failure) {
        case .completed:
          guard isBetterInSoftware else { break serving }
          // All processors move together: what the ones here write, the kernel's would not see.
          runSwitch.gather()
          return nil
        case .reset: return .tripleFault
        case .refused: break
        }
        try? residence?.giveBack()
        return .failed(report: FailureReport(failure, of: processor, memory: memory).text)
      }
      if start != 0 { count(exit, since: start) }
      if buses.memory.needsCollection {
        // Tables of the memory bus that nobody may be reading any more can go when all threads have come together.
        runSwitch.gather()
        return nil
      }
    }
  }

  /// Accesses have been counted on their way to the buses.
  private func count(_ exit: ProcessorExit, since start: UInt64) {
    guard let kind = ExitKind(exit) else { return }
    buses.probe.end(start, kind.code, 0)
  }

  // MARK: Debugging

  private var debugging: (any DebuggableProcessor)? {
    residence?.debugging ?? processor as? any DebuggableProcessor
  }

  private func takeDebugSettings(again: Bool = false) {
    let generation = debugPoint.generation
    guard again || generation != debugGeneration else { return }
    debugGeneration = generation
    do {
      try debugging?.setDebugging(debugPoint.settings(of: processor.index))
    } catch {
      debugPoint.note(failure: "\(error)")
    }
  }

  private func stopsForDebugger() -> Bool {
    guard let stop = debugging?.debugStop else { return false }
    switch debugPoint.take(stop, of: processor.index) {
    case .stops: return true
    case .steps:
      takeDebugSettings(again: true)
      return false
    case .ignored: return false
    }
  }

  /// The kernel has failed so often that software is to execute everything; says so once a machine.
  private var isBetterInSoftware: Bool {
    guard let completion, completion.count >= Self.completionLimit else { return false }
    return completionParts?.wantResidence() ?? false
  }

  /// The watch's side, from its thread: `run` comes back for a sample, if the processor has worked since the last one.
  func askForSample() {
    let time = processorTime
    guard time > lastSample.load(ordering: .relaxed) &+ EmulationSamples.distance else { return }
    sampleRequest.store(time, ordering: .relaxed)
    processor.interrupt()
  }

  /// The watch has something to find out.
  var isWatched: Bool { completionParts?.mayWantResidence ?? false }

  private func isEmulatedForLong() -> Bool {
    let time = sampleRequest.exchange(0, ordering: .relaxed)
    lastSample.store(time, ordering: .relaxed)
    guard residence == nil, let processor = processor as? VirtualProcessor,
      let level = try? processor.privilegeLevel()
    else { return false }
    return samples.note(isKernelMode: level == 0)
      && completionParts?.wantResidence() ?? false
  }

  private func moveIfWanted() {
    guard residence == nil, let processor = processor as? VirtualProcessor,
      let home = try? completionParts?.residenceBoard()
    else { return }
    let external = externalInterrupts
    residence = try? SoftwareResidence(processor, home: home) { external?.prepare() }
    // What the kernel's processor was told counts for the other one.
    debugGeneration = 0
  }

  /// Lets software execute what the kernel could not.
  private func complete(_ failure: ProcessorFailure) -> InstructionCompletion.Outcome {
    guard failure.reason == .emulation, residence == nil, let completionParts,
      let processor = processor as? VirtualProcessor
    else { return .refused }
    if completion == nil {
      completion = try? InstructionCompletion(
        processor, completionParts, buses: buses, counters: completions)
    }
    return completion?.complete(failure) ?? .refused
  }
}
