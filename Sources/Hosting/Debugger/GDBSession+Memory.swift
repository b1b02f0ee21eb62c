import Machine
import Processor

// Memory, breakpoints and watchpoints. Addresses are linear, by the tables of the selected processor.
extension GDBSession {
  /// `ADDRESS,LENGTH`, both of them numbers.
  private static func range(
    _ text: some Collection<UInt8>
  ) -> (address: UInt64, count: UInt64)? {
    let parts = Array(text).split(
      separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    guard parts.count == 2, let address = GDBPacket.number(parts[0]),
      let count = GDBPacket.number(parts[1])
    else { return nil }
    return (address, count)
  }

  func readMemory(_ text: ArraySlice<UInt8>) -> Answer {
    guard let range = Self.range(text) else { return .invalid }
    guard let state = state(of: selected) else { return .refused }
    let count = Int(min(range.count, UInt64(Self.memoryLimit)))
    let bytes = target.read(range.address, count: count, state)
    guard !bytes.isEmpty || count == 0 else { return .fault }
    return Answer(bytes: GDBPacket.hexBytes(bytes))
  }

  /// `ADDRESS,LENGTH:CONTENT`.
  func writeMemory(_ text: ArraySlice<UInt8>, isBinary: Bool) -> Answer {
    guard let colon = text.firstIndex(of: UInt8(ascii: ":")),
      let range = Self.range(text[..<colon])
    else { return .invalid }
    let content = text[text.index(after: colon)...]
    guard let bytes = isBinary ? Array(content) : GDBPacket.bytes(ofHex: content),
      UInt64(bytes.count) == range.count
    else { return .invalid }
    // How a debugger finds out whether this packet is known.
    if bytes.isEmpty { return .done }
    guard let state = state(of: selected) else { return .refused }
    return target.write(bytes, at: range.address, state) ? .done : .fault
  }

  /// `TYPE,ADDRESS,KIND`: 0 and 1 breakpoints in software and hardware, 2 writes, 3 reads, 4 both; of these the kind is the
  /// length. Conditions behind it are not known here.
  func changePoint(_ text: ArraySlice<UInt8>, isAdded: Bool) -> Answer {
    guard let comma = text.firstIndex(of: UInt8(ascii: ",")),
      let type = GDBPacket.number(text[..<comma]), type <= 4,
      let range = Self.range(text[text.index(after: comma)...])
    else { return .unknown }
    var changed = breakpoints
    switch type {
    case 0, 1: changed.set(range.address, isHardware: type == 1, isAdded: isAdded)
    default:
      guard (1...4096).contains(range.count) else { return .invalid }
      let kind: Watchpoint.Kind = type == 2 ? .write : type == 3 ? .read : .access
      changed.set(
        Watchpoint(address: range.address, count: range.count, kind: kind), isAdded: isAdded)
    }
    guard
      !isAdded
        || target.accepts(
          breakpoints: changed.addresses.count, watchpoints: changed.watchpoints)
    else { return .full }
    breakpoints = changed
    return .done
  }
}

/// What a debugger has set.
struct GDBBreakpoints {
  private var software: Set<UInt64> = []
  private var hardware: Set<UInt64> = []
  private(set) var watchpoints: [Watchpoint] = []

  /// Both kinds are the same to a processor here: no instruction is overwritten.
  var addresses: [UInt64] { software.union(hardware).sorted() }

  mutating func set(_ address: UInt64, isHardware: Bool, isAdded: Bool) {
    switch (isHardware, isAdded) {
    case (false, true): software.insert(address)
    case (false, false): software.remove(address)
    case (true, true): hardware.insert(address)
    case (true, false): hardware.remove(address)
    }
  }

  mutating func set(_ point: Watchpoint, isAdded: Bool) {
    watchpoints.removeAll { $0 == point }
    if isAdded { watchpoints.append(point) }
  }

  /// What a stop reply says of it.
  func reason(of stop: DebugStop) -> String {
    switch stop.reason {
    case .step, .other: return ""
    case .breakpoint: return hardware.contains(stop.address) ? "hwbreak:;" : "swbreak:;"
    case .watchpoint(let address):
      let kind = watchpoints.first { $0.address == address }?.kind ?? .write
      let word =
        switch kind {
        case .write: "watch"
        case .read: "rwatch"
        case .access: "awatch"
        }
      return "\(word):\(String(address, radix: 16));"
    }
  }
}
