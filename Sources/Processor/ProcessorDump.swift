// A processor's state for a person: what a failure report shows.

extension ProcessorState {
  /// Registers, segments and control registers, about 20 lines.
  public var dump: String { dump(instruction: []) }

  /// As `dump`, with the bytes of the instruction that could not be executed.
  public func dump(_ failure: ProcessorFailure) -> String {
    dump(instruction: (0..<min(16, failure.byteCount)).map { failure.bytes[$0] })
  }

  /// As `dump`, with the bytes at the instruction pointer.
  public func dump(instruction: [UInt8]) -> String {
    var lines = generalLines
    lines.append("RIP=\(hex(instructionPointer)) RFLAGS=\(hex(flags, 8)) [\(flagNames)]")
    if !instruction.isEmpty {
      lines.append("bytes at RIP: " + instruction.map { hex(UInt64($0), 2) }.joined(separator: " "))
    }
    lines += segmentLines
    lines.append(
      "CR0=\(hex(control0, 8)) CR2=\(hex(control2)) CR3=\(hex(control3)) CR4=\(hex(control4, 8))")
    lines.append(
      "CR8=\(hex(control8, 1)) EFER=\(hex(extendedFeatures, 4)) APIC_BASE=\(hex(apicBase, 8)) DR6=\(hex(debug6, 8)) DR7=\(hex(debug7, 8))"
    )
    lines.append("mode: \(modeName), processor is \(multiprocessing.rawValue)")
    if let exception = events?.exception {
      let code = exception.errorCode.map { ", error code \(hex(UInt64($0), 4))" } ?? ""
      lines.append(
        "exception \(exception.vector.rawValue)\(code) \(exception.isInjected ? "in delivery" : "pending")"
      )
    }
    return lines.joined(separator: "\n")
  }

  private var generalLines: [String] {
    let names = [
      "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12",
      "R13", "R14", "R15",
    ]
    let cells = zip(names, generalRegisters).map { "\($0)=\(hex($1))" }
    return stride(from: 0, to: cells.count, by: 4).map {
      cells[$0..<min(cells.count, $0 + 4)].joined(separator: " ")
    }
  }

  private var segmentLines: [String] {
    let segments = [
      ("CS", codeSegment), ("DS", dataSegment), ("ES", extraSegment), ("FS", extraSegmentF),
      ("GS", extraSegmentG), ("SS", stackSegment), ("TR", taskRegister), ("LDT", localTable),
    ]
    let lines = segments.map { name, segment in
      "\(name)=\(hex(UInt64(segment.selector), 4)) base \(hex(segment.base)) limit \(hex(UInt64(segment.limit), 8)) rights \(hex(UInt64(segment.accessRights), 5))"
    }
    return lines + [
      "GDT base \(hex(globalDescriptors.base)) limit \(hex(UInt64(globalDescriptors.limit), 4)), IDT base \(hex(interruptDescriptors.base)) limit \(hex(UInt64(interruptDescriptors.limit), 4))"
    ]
  }

  private var flagNames: String {
    let names: [(UInt64, String)] = [
      (0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"), (10, "DF"),
      (11, "OF"), (14, "NT"), (16, "RF"), (17, "VM"), (18, "AC"),
    ]
    return names.filter { flags >> $0.0 & 1 == 1 }.map(\.1).joined(separator: " ")
  }

  /// The operating mode in words.
  public var modeName: String {
    let level = "CPL \(stackSegment.privilegeLevel)"
    guard control0 & ControlBits.protection != 0 else { return "real" }
    if flags >> 17 & 1 == 1 { return "virtual 8086" }
    let paging = control0 & ControlBits.paging != 0 ? "paging" : "no paging"
    if extendedFeatures & ControlBits.longModeActive != 0 {
      return codeSegment.isLong ? "64-bit, \(level)" : "compatibility, \(level)"
    }
    return "\(codeSegment.isDefault32 ? "32" : "16")-bit protected, \(paging), \(level)"
  }
}

/// Fixed-width hexadecimal, without Foundation.
private func hex(_ value: UInt64, _ digits: Int = 16) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}
