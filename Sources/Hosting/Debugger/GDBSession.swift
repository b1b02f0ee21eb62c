// One debugger's conversation (GDB manual, appendix E): packets in, packets out. Threads are processors, numbered from 1;
// all stop together.

import Machine
import Processor

/// Knows nothing of sockets. Used by one thread.
package final class GDBSession {
  /// What a packet is answered with.
  package struct Answer: Equatable, Sendable {
    /// Contents of packets, in order.
    package var packets: [[UInt8]] = []
    /// The conversation is over afterwards.
    package var ends = false

    package init(_ text: String) { packets = [Array(text.utf8)] }
    package init(bytes: [UInt8]) { packets = [bytes] }
    package init(packets: [[UInt8]] = [], ends: Bool = false) {
      self.packets = packets
      self.ends = ends
    }

    static let done = Answer("OK")
    /// The packet is not known here.
    static let unknown = Answer("")
    /// The answer comes when the target stops.
    static let later = Answer(packets: [])
    /// EINVAL, EFAULT, ENOSPC, EPERM as GDB numbers them.
    static let invalid = Answer("E16")
    static let fault = Answer("E0e")
    static let full = Answer("E1c")
    static let refused = Answer("E01")
  }

  /// Bytes of memory in one answer.
  static let memoryLimit = GDBPacketReader.limit / 2 - 16

  let target: any DebugTarget
  package private(set) var isRunning = false
  /// + and - are sent and expected.
  package private(set) var acknowledges = true
  /// The processor whose registers and memory are asked for.
  var selected = 0
  /// The one that `c` and `s` are for; nil: all.
  private var moving: Int?
  private var hasStopReasons = false
  var breakpoints = GDBBreakpoints()
  /// Registers since the last stop.
  private var states: [Int: ProcessorState] = [:]
  private var lastStop = "T05thread:1;"

  package init(_ target: any DebugTarget) { self.target = target }

  // MARK: What comes

  /// Answers a packet.
  package func handle(_ packet: [UInt8]) -> Answer {
    guard let kind = packet.first else { return .unknown }
    let rest = packet[1...]
    // A debugger that talks while the target runs has lost its way; it may stop the target, or go.
    if isRunning, ![UInt8(ascii: "D"), UInt8(ascii: "k"), UInt8(ascii: "?")].contains(kind) {
      return .invalid
    }
    switch kind {
    case UInt8(ascii: "?"): return isRunning ? stopNow() : Answer(lastStop)
    case UInt8(ascii: "g"): return readRegisters()
    case UInt8(ascii: "G"): return writeRegisters(rest)
    case UInt8(ascii: "p"): return readRegister(rest)
    case UInt8(ascii: "P"): return writeRegister(rest)
    case UInt8(ascii: "m"): return readMemory(rest)
    case UInt8(ascii: "M"): return writeMemory(rest, isBinary: false)
    case UInt8(ascii: "X"): return writeMemory(rest, isBinary: true)
    case UInt8(ascii: "Z"): return changePoint(rest, isAdded: true)
    case UInt8(ascii: "z"): return changePoint(rest, isAdded: false)
    case UInt8(ascii: "c"), UInt8(ascii: "C"): return move(rest, isStep: false, kind)
    case UInt8(ascii: "s"), UInt8(ascii: "S"): return move(rest, isStep: true, kind)
    case UInt8(ascii: "H"): return selectThread(rest)
    case UInt8(ascii: "T"): return thread(rest) == nil ? .refused : .done
    case UInt8(ascii: "D"): return leave(answering: .done)
    case UInt8(ascii: "k"): return leave(answering: Answer())
    case UInt8(ascii: "q"), UInt8(ascii: "Q"): return query(packet)
    case UInt8(ascii: "v"): return verb(packet)
    default: return .unknown
    }
  }

  /// Control-C. nil: the target stands still already.
  package func interrupt() -> Answer? { isRunning ? stopNow(signal: 2) : nil }

  /// What the target has done since it was let go; nil: it runs on.
  package func poll() -> Answer? {
    guard isRunning else { return nil }
    if target.hasEnded { return ended }
    if let failure = target.failure {
      var answer = stopNow()
      answer.packets.insert(console(failure + "\n"), at: 0)
      return answer
    }
    return target.firstStop == nil ? nil : stopNow()
  }

  /// The debugger has gone: nothing is left of it.
  package func close() { target.detach() }

  private var ended: Answer {
    isRunning = false
    return Answer(packets: [Array("W00".utf8)], ends: true)
  }

  private func leave(answering answer: Answer) -> Answer {
    target.detach()
    isRunning = false
    return Answer(packets: answer.packets, ends: true)
  }

  // MARK: Stopping and going on

  private func stopNow(signal: Int = 5) -> Answer {
    do {
      try target.stop()
    } catch {
      return ended
    }
    isRunning = false
    states = [:]
    var text = signal == 2 ? "T02" : "T05"
    // What happened before the wish to stop is what is told.
    if let stop = target.firstStop {
      text = "T05"
      selected = stop.processor
      if hasStopReasons { text += breakpoints.reason(of: stop.stop) }
    }
    lastStop = text + "thread:\(String(selected + 1, radix: 16));"
    return Answer(lastStop)
  }

  func go(_ run: DebugRun) -> Answer {
    do {
      try target.resume(
        run, breakpoints: breakpoints.addresses, watchpoints: breakpoints.watchpoints)
    } catch {
      return ended
    }
    states = [:]
    isRunning = true
    return .later
  }

  /// `c [ADDRESS]`, `C SIGNAL[;ADDRESS]`, and the same with s. Signals mean nothing to a processor.
  private func move(_ rest: ArraySlice<UInt8>, isStep: Bool, _ kind: UInt8) -> Answer {
    let hasSignal = kind == UInt8(ascii: "C") || kind == UInt8(ascii: "S")
    let parts = rest.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
    let text = hasSignal ? parts.dropFirst().first ?? [] : rest
    if !text.isEmpty {
      guard let address = GDBPacket.number(text) else { return .invalid }
      let isSet = change(selected) { state in
        state.instructionPointer = address
        return true
      }
      guard isSet else { return .refused }
    }
    var run = DebugRun()
    if isStep {
      let processor = moving ?? selected
      run.stepping[processor] = 0..<0
      run.resting = Set(0..<target.processorCount).subtracting([processor])
    }
    return go(run)
  }

  // MARK: Threads

  /// A thread's processor; nil where there is none.
  func thread(_ text: some Collection<UInt8>) -> Int? {
    guard let number = GDBPacket.number(text), number >= 1,
      number <= UInt64(target.processorCount)
    else { return nil }
    return Int(number) - 1
  }

  /// `g` and `c` with a thread, 0 for any or -1 for all.
  private func selectThread(_ rest: ArraySlice<UInt8>) -> Answer {
    guard let kind = rest.first else { return .invalid }
    let text = rest.dropFirst()
    let isAny = text.elementsEqual("0".utf8) || text.elementsEqual("-1".utf8)
    guard isAny || thread(text) != nil else { return .invalid }
    switch kind {
    case UInt8(ascii: "g"): if let number = thread(text) { selected = number }
    case UInt8(ascii: "c"): moving = thread(text)
    default: return .unknown
    }
    return .done
  }

  // MARK: Registers

  func state(of processor: Int) -> ProcessorState? {
    if let state = states[processor] { return state }
    guard let state = try? target.state(of: processor), state.isWellFormed else { return nil }
    states[processor] = state
    return state
  }

  /// - Returns: false where the change is refused, or the machine does not take it.
  func change(_ processor: Int, _ body: (inout ProcessorState) -> Bool) -> Bool {
    guard var state = state(of: processor), body(&state) else { return false }
    states[processor] = nil
    do {
      try target.setState(state, of: processor)
      return true
    } catch {
      return false
    }
  }

  private func readRegisters() -> Answer {
    guard let state = state(of: selected) else { return .refused }
    var text: [UInt8] = []
    for register in GDBRegister.all { text += Self.text(of: register, state) }
    return Answer(bytes: text)
  }

  private static func text(of register: GDBRegister, _ state: ProcessorState) -> [UInt8] {
    register.read(state).map { GDBPacket.hexBytes($0) }
      ?? [UInt8](repeating: UInt8(ascii: "x"), count: register.byteCount * 2)
  }

  private func writeRegisters(_ text: ArraySlice<UInt8>) -> Answer {
    let size = GDBRegister.all.reduce(0) { $0 + $1.byteCount }
    guard text.count == size * 2 else { return .invalid }
    let isSet = change(selected) { state in
      var rest = text
      for register in GDBRegister.all {
        let part = rest.prefix(register.byteCount * 2)
        rest = rest.dropFirst(register.byteCount * 2)
        // What is not known is sent back as it was told.
        if part.allSatisfy({ $0 == UInt8(ascii: "x") }) { continue }
        guard let bytes = GDBPacket.bytes(ofHex: part), register.write(bytes, &state) else {
          return false
        }
      }
      return true
    }
    return isSet ? .done : .refused
  }

  private func readRegister(_ text: ArraySlice<UInt8>) -> Answer {
    guard let number = GDBPacket.number(text), number < UInt64(GDBRegister.all.count) else {
      return .invalid
    }
    guard let state = state(of: selected) else { return .refused }
    return Answer(bytes: Self.text(of: GDBRegister.all[Int(number)], state))
  }

  private func writeRegister(_ text: ArraySlice<UInt8>) -> Answer {
    let parts = text.split(separator: UInt8(ascii: "="), omittingEmptySubsequences: false)
    guard parts.count == 2, let number = GDBPacket.number(parts[0]),
      number < UInt64(GDBRegister.all.count), let bytes = GDBPacket.bytes(ofHex: parts[1])
    else { return .invalid }
    let isSet = change(selected) { GDBRegister.all[Int(number)].write(bytes, &$0) }
    return isSet ? .done : .refused
  }

  // MARK: Settings

  func setAcknowledging(_ acknowledges: Bool) { self.acknowledges = acknowledges }
  func setStopReasons(_ isWanted: Bool) { hasStopReasons = isWanted }

  /// Text for the debugger's user.
  func console(_ text: String) -> [UInt8] {
    [UInt8(ascii: "O")] + GDBPacket.hexBytes(text.utf8)
  }
}
