import GuestMemory
import KVM
import Processor

/// Everything that a person needs to say why a processor stopped: the reason, the bytes of the instruction, and the
/// registers, in one block.
struct FailureReport {
  let text: String

  /// On the thread of the processor.
  init(_ failure: ProcessorFailure, of processor: any Processor) {
    let reason =
      switch failure.reason {
      case .emulation: "the kernel cannot emulate an instruction of the guest"
      case .entry(let code):
        "the hardware refused to enter the guest (reason 0x\(String(code, radix: 16)))"
      case .other(let code): "KVM gave up (code \(code))"
      }
    var lines = ["processor \(processor.index): \(reason)"]
    do {
      lines.append(try processor.saveState().dump(failure))
    } catch {
      lines.append("its registers cannot be read: \(error)")
    }
    text = lines.joined(separator: "\n")
  }
}
