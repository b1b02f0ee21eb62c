import Machine
import Processor

// Packets with names.
extension GDBSession {
  /// What stands behind a name; nil where the packet has another.
  private static func rest(_ packet: [UInt8], after name: String) -> ArraySlice<UInt8>? {
    packet.starts(with: name.utf8) ? packet.dropFirst(name.utf8.count) : nil
  }

  func query(_ packet: [UInt8]) -> Answer {
    if let features = Self.rest(packet, after: "qSupported") {
      let wanted = String(decoding: features, as: UTF8.self).split(separator: ";")
      setStopReasons(wanted.contains { $0.hasSuffix("swbreak+") })
      return Answer(
        "PacketSize=\(String(GDBPacketReader.limit, radix: 16));qXfer:features:read+;"
          + "QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+")
    }
    switch String(decoding: packet, as: UTF8.self) {
    case "QStartNoAckMode":
      setAcknowledging(false)
      return .done
    case "qfThreadInfo":
      let numbers = (1...target.processorCount).map { String($0, radix: 16) }
      return Answer("m" + numbers.joined(separator: ","))
    case "qsThreadInfo": return Answer("l")
    case "qC": return Answer("QC\(String(selected + 1, radix: 16))")
    // It was there before the debugger: whoever leaves lets it go on.
    case "qAttached": return Answer("1")
    case "qSymbol::": return .done
    default: break
    }
    if let text = Self.rest(packet, after: "qXfer:features:read:target.xml:") {
      return part(of: GDBRegister.description, text)
    }
    if let text = Self.rest(packet, after: "qThreadExtraInfo,") { return describe(text) }
    if let text = Self.rest(packet, after: "qRcmd,") { return command(text) }
    return .unknown
  }

  /// `OFFSET,LENGTH` of a document.
  private func part(of document: [UInt8], _ text: ArraySlice<UInt8>) -> Answer {
    let numbers = text.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    guard numbers.count == 2, let offset = GDBPacket.number(numbers[0]),
      let count = GDBPacket.number(numbers[1]), offset <= UInt64(document.count)
    else { return .invalid }
    let start = Int(offset)
    let length = Int(min(count, UInt64(min(document.count - start, GDBPacketReader.limit / 2))))
    let isLast = start + length == document.count
    return Answer(
      bytes: [UInt8(ascii: isLast ? "l" : "m")] + document[start..<start + length])
  }

  private func describe(_ text: ArraySlice<UInt8>) -> Answer {
    guard let processor = thread(text) else { return .invalid }
    let activity =
      state(of: processor).map { "\($0.multiprocessing.rawValue), \($0.modeName)" } ?? "gone"
    return Answer(bytes: GDBPacket.hexBytes("processor \(processor): \(activity)".utf8))
  }

  /// `monitor` of the debugger's user.
  private func command(_ text: ArraySlice<UInt8>) -> Answer {
    guard let bytes = GDBPacket.bytes(ofHex: text) else { return .invalid }
    switch String(decoding: bytes, as: UTF8.self) {
    case "dump":
      guard let state = state(of: selected) else { return .refused }
      return Answer(packets: [console(state.dump + "\n"), Array("OK".utf8)])
    default:
      return Answer(packets: [
        console("monitor dump: all system registers of the processor\n"), Array("OK".utf8),
      ])
    }
  }

  // MARK: Verbs

  func verb(_ packet: [UInt8]) -> Answer {
    if packet.elementsEqual("vCont?".utf8) { return Answer("vCont;c;C;s;S;r") }
    if let actions = Self.rest(packet, after: "vCont;") { return goOn(actions) }
    return .unknown
  }

  /// For each processor the first action that is for it; without one it rests.
  private func goOn(_ text: ArraySlice<UInt8>) -> Answer {
    var run = DebugRun()
    var isDecided = Set<Int>()
    let all = 0..<target.processorCount
    for action in text.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false) {
      let parts = action.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
      guard let kind = parts.first?.first, parts.count <= 2 else { return .invalid }
      var processors = Array(all)
      if let place = parts.dropFirst().first, !place.elementsEqual("-1".utf8) {
        guard let processor = thread(place) else { return .invalid }
        processors = [processor]
      }
      processors.removeAll { isDecided.contains($0) }
      isDecided.formUnion(processors)
      switch kind {
      case UInt8(ascii: "c"), UInt8(ascii: "C"): break
      case UInt8(ascii: "s"), UInt8(ascii: "S"):
        for processor in processors { run.stepping[processor] = 0..<0 }
      case UInt8(ascii: "r"):
        let ends = parts[0].dropFirst().split(
          separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard ends.count == 2, let start = GDBPacket.number(ends[0]),
          let end = GDBPacket.number(ends[1]), start <= end
        else { return .invalid }
        for processor in processors { run.stepping[processor] = start..<end }
      default: return .invalid
      }
    }
    run.resting = Set(all).subtracting(isDecided)
    guard !isDecided.isEmpty else { return .invalid }
    return go(run)
  }
}
