import Devices
import Processor

/// What a person needs to find out why a guest has died: the registers of all processors and what they did last. Nothing
/// of the guest's memory.
struct FaultReport {
  let text: String

  /// - Parameters:
  ///   - isParked: the processors rest; otherwise one of them may never again, and what is read may be torn.
  init(_ reason: String, of board: Board, isParked: Bool) {
    var lines = [reason, "", "LAST ACCESSES (the newest last)"]
    let accesses = board.parts.trace.probe.lastAccesses()
    if accesses.isEmpty { lines.append("none") }
    for access in accesses { lines.append(Self.line(access, board)) }
    for index in 0..<board.processorCount {
      lines += ["", "PROCESSOR \(index)"]
      do {
        lines.append(try board.reportedState(index, isParked: isParked).dump)
      } catch {
        lines.append("its registers cannot be read: \(error)")
      }
    }
    text = lines.joined(separator: "\n")
  }

  private static func line(_ access: ExitProbe.Access, _ board: Board) -> String {
    let device = board.deviceName(access.kind, access.place)
    return "\(access.kind.rawValue) 0x\(String(access.place, radix: 16)) (\(device)), "
      + "\(access.size) byte\(access.size == 1 ? "" : "s"), value 0x"
      + String(access.value, radix: 16)
  }
}
