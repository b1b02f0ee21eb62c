import GuestMemory
import KVM
import Processor

/// Everything that a person needs to say why a processor stopped: the reason, the bytes of the instruction, and the
/// registers, in one block.
struct FailureReport {
  let text: String

  /// On the thread of the processor.
  init(_ failure: ProcessorFailure, of processor: any Processor, memory: GuestMemory) {
    let reason =
      switch failure.reason {
      case .emulation: "the kernel cannot emulate an instruction of the guest"
      case .entry(let code):
        "the hardware refused to enter the guest (reason 0x\(String(code, radix: 16)))"
      case .other(let code): "KVM gave up (code \(code))"
      }
    var lines = ["processor \(processor.index): \(reason)"]
    do {
      let state = try processor.saveState()
      if failure.byteCount > 0 {
        lines.append(state.dump(failure))
      } else {
        // Kernels before 5.14, and failures that are not an instruction's.
        lines.append(state.dump(instruction: Self.bytes(at: state, of: processor, memory)))
      }
    } catch {
      lines.append("its registers cannot be read: \(error)")
    }
    text = lines.joined(separator: "\n")
  }

  private static let longestInstruction: UInt64 = 15

  /// As much of the instruction as is mapped.
  static func bytes(
    at state: ProcessorState, of processor: any Processor, _ memory: GuestMemory
  ) -> [UInt8] {
    guard let processor = processor as? VirtualProcessor else { return [] }
    let isLong = state.extendedFeatures & ControlBits.longModeActive != 0
    let first =
      isLong && state.codeSegment.isLong
      ? state.instructionPointer : state.codeSegment.base &+ state.instructionPointer
    var bytes: [UInt8] = []
    for offset in 0..<longestInstruction {
      guard let address = (try? processor.translate(first &+ offset)) ?? nil,
        let byte = try? memory.bytes(at: address, count: 1)
      else { break }
      bytes += byte
    }
    return bytes
  }
}
