// The registers that GDB sees of an x86-64 processor, in the order in which they stand in its packets (GDB manual, G.5.6).

import Processor

/// One register of the description.
struct GDBRegister: Sendable {
  enum Place: Sendable {
    /// Index into `ProcessorState.generalRegisters`.
    case general(Int)
    case instructionPointer, flags
    /// CS, SS, DS, ES, FS, GS.
    case selector(Int)
    /// Number in the stack's order.
    case floating(Int)
    /// The seven words and the opcode of FXSAVE's header, see `floatingControl`.
    case floatingControl(Int)
    case vector(Int)
    case vectorControl
    /// FS, GS, and GS of the kernel.
    case base(Int)
    case control(Int)
    case extendedFeatures
    /// GDTR, IDTR, TR.
    case table(Int)
  }

  let name: String
  let place: Place
  let bits: Int
  let type: String
  var byteCount: Int { bits / 8 }

  static let all: [GDBRegister] = core + floating + vectors + segments + system

  private static let core: [GDBRegister] = {
    let general: [(String, Int)] = [
      ("rax", 0), ("rbx", 3), ("rcx", 1), ("rdx", 2), ("rsi", 6), ("rdi", 7), ("rbp", 5),
      ("rsp", 4),
    ]
    var list = general.map { name, index in
      GDBRegister(
        name: name, place: .general(index), bits: 64,
        type: index == 4 || index == 5 ? "data_ptr" : "int64")
    }
    list += (8..<16).map {
      GDBRegister(name: "r\($0)", place: .general($0), bits: 64, type: "int64")
    }
    list.append(GDBRegister(name: "rip", place: .instructionPointer, bits: 64, type: "code_ptr"))
    list.append(GDBRegister(name: "eflags", place: .flags, bits: 32, type: "i386_eflags"))
    for (index, name) in ["cs", "ss", "ds", "es", "fs", "gs"].enumerated() {
      list.append(GDBRegister(name: name, place: .selector(index), bits: 32, type: "int32"))
    }
    return list
  }()

  private static let floating: [GDBRegister] = {
    var list = (0..<8).map {
      GDBRegister(name: "st\($0)", place: .floating($0), bits: 80, type: "i387_ext")
    }
    let names = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"]
    for (index, name) in names.enumerated() {
      list.append(GDBRegister(name: name, place: .floatingControl(index), bits: 32, type: "int"))
    }
    return list
  }()

  private static let vectors: [GDBRegister] = {
    var list = (0..<16).map {
      GDBRegister(name: "xmm\($0)", place: .vector($0), bits: 128, type: "vec128")
    }
    list.append(GDBRegister(name: "mxcsr", place: .vectorControl, bits: 32, type: "int32"))
    return list
  }()

  private static let segments: [GDBRegister] = [
    GDBRegister(name: "fs_base", place: .base(0), bits: 64, type: "int64"),
    GDBRegister(name: "gs_base", place: .base(1), bits: 64, type: "int64"),
  ]

  private static let system: [GDBRegister] = {
    func wide(_ name: String, _ place: Place) -> GDBRegister {
      GDBRegister(name: name, place: place, bits: 64, type: "int64")
    }
    var list = [wide("k_gs_base", .base(2))]
    for number in [0, 2, 3, 4, 8] { list.append(wide("cr\(number)", .control(number))) }
    list.append(wide("efer", .extendedFeatures))
    for (index, name) in ["gdt_base", "idt_base", "tr_base"].enumerated() {
      list.append(wide(name, .table(index)))
    }
    return list
  }()

  /// The target description in XML.
  static let description: [UInt8] = {
    func registers(_ list: [GDBRegister]) -> String {
      list.map { "<reg name=\"\($0.name)\" bitsize=\"\($0.bits)\" type=\"\($0.type)\"/>" }
        .joined(separator: "\n")
    }
    let flags: [(String, Int)] = [
      ("CF", 0), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10),
      ("OF", 11), ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20),
      ("ID", 21),
    ]
    let fields = flags.map { "<field name=\"\($0.0)\" start=\"\($0.1)\" end=\"\($0.1)\"/>" }
      .joined()
    let elements: [(name: String, type: String, count: Int)] = [
      ("v4_float", "ieee_single", 4), ("v2_double", "ieee_double", 2), ("v16_int8", "int8", 16),
      ("v8_int16", "int16", 8), ("v4_int32", "int32", 4), ("v2_int64", "int64", 2),
    ]
    let vectorTypes = elements.map {
      "<vector id=\"\($0.name)_type\" type=\"\($0.type)\" count=\"\($0.count)\"/>"
    }.joined()
    let vectorFields = elements.map { "<field name=\"\($0.name)\" type=\"\($0.name)_type\"/>" }
      .joined()
    return Array(
      """
      <?xml version="1.0"?>
      <!DOCTYPE target SYSTEM "gdb-target.dtd">
      <target version="1.0">
      <architecture>i386:x86-64</architecture>
      <feature name="org.gnu.gdb.i386.core">
      <flags id="i386_eflags" size="4">\(fields)</flags>
      \(registers(core + floating))
      </feature>
      <feature name="org.gnu.gdb.i386.sse">
      \(vectorTypes)<union id="vec128">\(vectorFields)<field name="uint128" type="uint128"/></union>
      \(registers(vectors))
      </feature>
      <feature name="org.gnu.gdb.i386.segments">
      \(registers(segments))
      </feature>
      <feature name="org.underjack.i386.system">
      \(registers(system))
      </feature>
      </target>

      """.utf8)
  }()
}
