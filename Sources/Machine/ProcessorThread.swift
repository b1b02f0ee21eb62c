import CLinux
import Devices
import GuestMemory
import Platform
import Processor
import Synchronization

/// What the threads of a board's processors are told to do.
enum RunMode: Sendable {
  case parked, running, exiting
}

/// The switch that all processor threads of a board obey.
final class RunSwitch: Sendable {
  struct Control {
    var mode = RunMode.parked
    /// Threads that are not executing guest code.
    var parked = 0
  }

  let control = Monitor(Control())
}

/// One virtual processor and the thread that runs it.
final class ProcessorThread: @unchecked Sendable {
  // @unchecked: `processor` runs on `thread` only; the counter is atomic; `thread` is set once by `start`.
  let processor: any Processor
  /// Exits to this process since the start.
  let exitCount = Atomic<UInt64>(0)

  private let ports: PortBus
  private let memoryBus: MemoryBus
  private let runSwitch: RunSwitch
  private let ended: @Sendable (ProcessorThread, Outcome) -> Void
  private let thread = Monitor<PosixThread?>(nil)
  private let clockIdentifier = Atomic<Int32>(0)

  /// Why a processor's thread asks for the whole board to stop.
  enum Outcome: Sendable {
    /// Triple fault, or the guest asked the hypervisor for a reset.
    case reset
    case powerOff
    case failed(report: String)
  }

  /// - Parameter ended: called on the processor's thread, which parks afterwards.
  init(
    _ processor: any Processor, ports: PortBus, memoryBus: MemoryBus, runSwitch: RunSwitch,
    ended: @escaping @Sendable (ProcessorThread, Outcome) -> Void
  ) {
    self.processor = processor
    self.ports = ports
    self.memoryBus = memoryBus
    self.runSwitch = runSwitch
    self.ended = ended
  }

  /// Starts the thread; it waits until the switch says `running`.
  func start() throws(PlatformError) {
    let created = try PosixThread(name: "cpu\(processor.index)") { [self] in
      var clock = clockid_t()
      if pthread_getcpuclockid(pthread_self(), &clock) == 0 {
        clockIdentifier.store(clock, ordering: .relaxed)
      }
      main()
    }
    thread.update { $0 = created }
  }

  /// CPU time of the thread, nanoseconds.
  var processorTime: UInt64 {
    let identifier = clockIdentifier.load(ordering: .relaxed)
    var time = timespec()
    guard identifier != 0, clock_gettime(identifier, &time) == 0 else { return 0 }
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  var isStarted: Bool { thread.read { $0 != nil } }

  func join() {
    thread.read { $0 }?.join()
    clockIdentifier.store(0, ordering: .relaxed)
  }

  private func main() {
    while waitUntilAllowed() {
      switch runUntilStopped() {
      case nil: break
      case let outcome?:
        ended(self, outcome)
        // Whoever was told parks the board; until then this processor executes nothing.
        runSwitch.control.wait { $0.mode == .running ? nil : true }
      }
    }
  }

  /// Parks while told to; false when the thread shall end.
  private func waitUntilAllowed() -> Bool {
    runSwitch.control.update { $0.parked += 1 }
    return runSwitch.control.wait { control in
      switch control.mode {
      case .parked: return nil
      case .running:
        control.parked -= 1
        return true
      case .exiting: return false
      }
    }
  }

  /// Runs the guest until the switch moves (nil) or the processor cannot or must not go on.
  private func runUntilStopped() -> Outcome? {
    while true {
      let exit: ProcessorExit
      do {
        exit = try processor.run()
      } catch {
        return .failed(report: "processor \(processor.index): \(error)")
      }
      exitCount.store(exitCount.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
      switch exit {
      case .portRead(let port, let width, let count, let data):
        readPort(port, width, count, data)
      case .portWrite(let port, let width, let count, let data):
        writePort(port, width, count, data)
      case .memoryRead(let address, let count, let data):
        readMemory(address, count, data)
      case .memoryWrite(let address, let count, let data):
        writeMemory(address, count, data)
      case .interrupted:
        if runSwitch.control.read({ $0.mode }) != .running { return nil }
      case .registerRead(_, _, let failed): failed.pointee = 1
      case .registerWrite(_, _, let failed): failed.pointee = 1
      case .halted, .interruptWindow, .endOfInterrupt, .debug: break
      case .shutdown, .systemEvent(.reset): return .reset
      case .systemEvent(.shutdown): return .powerOff
      case .systemEvent(let event):
        return .failed(report: "the guest reported a crash to the hypervisor (\(event))")
      case .failure(let failure): return .failed(report: report(failure))
      }
      // This is the only processor, so nobody is in a look-up now.
      if memoryBus.needsCollection { memoryBus.collect() }
    }
  }

  private func readPort(
    _ port: UInt16, _ width: AccessWidth, _ count: Int, _ data: UnsafeMutableRawPointer
  ) {
    for index in 0..<count {
      let value = ports.read(port: port, width: width)
      store(value, width, at: data + index &* width.count)
    }
  }

  private func writePort(
    _ port: UInt16, _ width: AccessWidth, _ count: Int, _ data: UnsafeRawPointer
  ) {
    for index in 0..<count {
      ports.write(port: port, width: width, value: load(width, at: data + index &* width.count))
    }
  }

  private func readMemory(_ address: GuestAddress, _ count: Int, _ data: UnsafeMutableRawPointer) {
    var done = 0
    while done < count {
      let width = Self.width(for: address &+ UInt64(done), remaining: count &- done)
      store(memoryBus.read(at: address &+ UInt64(done), width: width), width, at: data + done)
      done &+= width.count
    }
  }

  private func writeMemory(_ address: GuestAddress, _ count: Int, _ data: UnsafeRawPointer) {
    var done = 0
    while done < count {
      let width = Self.width(for: address &+ UInt64(done), remaining: count &- done)
      memoryBus.write(
        at: address &+ UInt64(done), width: width, value: load(width, at: data + done))
      done &+= width.count
    }
  }

  /// The widest access that fits: devices see 1, 2, 4 or 8 bytes only.
  private static func width(for address: GuestAddress, remaining: Int) -> AccessWidth {
    switch remaining {
    case 8...: .quadword
    case 4...: .doubleword
    case 2...: .word
    default: .byte
    }
  }

  private func load(_ width: AccessWidth, at data: UnsafeRawPointer) -> UInt64 {
    switch width {
    case .byte: UInt64(data.load(as: UInt8.self))
    case .word: UInt64(data.loadUnaligned(as: UInt16.self))
    case .doubleword: UInt64(data.loadUnaligned(as: UInt32.self))
    case .quadword: data.loadUnaligned(as: UInt64.self)
    }
  }

  private func store(_ value: UInt64, _ width: AccessWidth, at data: UnsafeMutableRawPointer) {
    switch width {
    case .byte: data.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
    case .word: data.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
    case .doubleword: data.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
    case .quadword: data.storeBytes(of: value, as: UInt64.self)
    }
  }

  /// Everything that a person needs to say why the processor stopped.
  private func report(_ failure: ProcessorFailure) -> String {
    let bytes = (0..<min(failure.byteCount, 15)).map { index in
      let digits = String(failure.bytes[index], radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }
    let reason =
      switch failure.reason {
      case .emulation: "the kernel cannot emulate an instruction of the guest"
      case .entry(let code): "the hardware refused to enter the guest (reason \(code))"
      case .other(let code): "KVM gave up (code \(code))"
      }
    var lines = ["processor \(processor.index): \(reason)"]
    if !bytes.isEmpty { lines.append("bytes: " + bytes.joined(separator: " ")) }
    if let state = try? processor.saveState() { lines.append(state.dump) }
    return lines.joined(separator: "\n")
  }
}
