// Takes the questions out of a guest's output. A terminal that is shown old output, or that is one of several, must not
// answer: its answers would arrive at the guest as if somebody typed them.

/// Copies a stream of guest output without the sequences that a terminal answers.
public struct QueryFilter: Sendable {
  /// A longer sequence is no question and passes as it comes.
  private static let longestQuery = 4096

  private var parser = Parser()
  /// The sequence that is not complete yet.
  private var held: [UInt8] = []
  private var isPassing = false
  /// What is held began by ending another sequence or string, which has been passed on without its end.
  private var endsAnother = false

  public init() {}

  /// Appends to `output` what of `bytes` may be shown. The end of an unfinished sequence is kept for the next call.
  public mutating func filter(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) {
    for byte in bytes {
      if parser.isIdle && byte < 0x80 && byte != 0x1B {
        // ENQ asks for the answer-back message.
        if byte != 0x05 { output.append(byte) }
        continue
      }
      take(byte, into: &output)
    }
  }

  private mutating func take(_ byte: UInt8, into output: inout [UInt8]) {
    var action = parser.advance(byte)
    if action == .replaceAndRetry {
      flush(into: &output)
      action = parser.advance(byte)
    }
    if byte == 0x1B && (!held.isEmpty || isPassing) {
      // The end of a string, or a sequence that another interrupts.
      if isQuery(action) && !isPassing {
        drop(keepingControls: false, into: &output)
      } else {
        flush(into: &output)
        endsAnother = true
      }
      isPassing = false
    }
    held.append(byte)
    followCoding(action)
    if parser.isIdle {
      if isQuery(action) && !isPassing {
        drop(keepingControls: action != .operatingSystemCommand, into: &output)
      } else {
        flush(into: &output)
      }
      isPassing = false
    } else if held.count > Self.longestQuery || isPassing {
      isPassing = true
      flush(into: &output)
    }
  }

  /// ESC % @, ESC % G and RIS change what the bytes after them mean.
  private mutating func followCoding(_ action: Parser.Action) {
    guard case .escape(let final) = action else { return }
    switch (parser.intermediates, final) {
    case (0x25, 0x40): parser.decodesUTF8 = false
    case (0x25, 0x47), (0x25, 0x38), (0, 0x63): parser.decodesUTF8 = true
    default: break
    }
  }

  /// Forgets a question; controls in the middle of a sequence act by themselves and stay.
  private mutating func drop(keepingControls: Bool, into output: inout [UInt8]) {
    if endsAnother { output += [0x1B, 0x5C] }
    endsAnother = false
    if keepingControls {
      output.append(contentsOf: held.lazy.filter { $0 < 0x20 && $0 != 0x1B && $0 != 0x05 })
    }
    held.removeAll(keepingCapacity: true)
  }

  private mutating func flush(into output: inout [UInt8]) {
    output.append(contentsOf: held)
    held.removeAll(keepingCapacity: true)
    endsAnother = false
  }

  private func isQuery(_ action: Parser.Action) -> Bool {
    switch action {
    case .escape(let final): return final == 0x5A && parser.intermediates == 0
    case .controlSequence(let final): return isQuery(final: final)
    case .operatingSystemCommand:
      // Colours and the clipboard are asked for by a question mark in the place of the value.
      return parser.string.split(separator: 0x3B).contains([0x3F])
    case .deviceControl:
      return parser.deviceControlFinal == 0x71
        && (parser.deviceControlIntermediates == 0x24 || parser.deviceControlIntermediates == 0x2B)
    default: return false
    }
  }

  private func isQuery(final: UInt8) -> Bool {
    switch (final, parser.intermediates) {
    case (0x63, 0): true  // DA
    case (0x6E, 0): parser.prefix != 0x3E  // DSR
    case (0x70, 0x24): true  // DECRQM
    case (0x71, 0): parser.prefix == 0x3E  // XTVERSION
    case (0x74, 0): parser.prefix == 0 && 11...21 ~= (parser.parameters.first ?? 0)  // XTWINOPS
    case (0x75, 0): parser.prefix == 0x3F  // keyboard protocol
    case (0x78, 0): parser.prefix == 0  // DECREQTPARM
    case (0x53, 0): parser.prefix == 0x3F  // graphics attributes
    case (0x79, 0x2A): true  // DECRQCRA
    default: false
    }
  }
}
