// Programs of the classic Berkeley packet filter for seccomp(2): the kernel runs one at each system call, over `struct
// seccomp_data` (linux/seccomp.h): number at 0, architecture at 4, six arguments of 64 bits from 16.

import CLinux

/// Instructions under construction, with jumps to labels.
struct FilterProgram {
  /// A place that jumps lead to; defined once.
  struct Label: Hashable {
    fileprivate var number: Int
  }

  private(set) var code: [sock_filter] = []
  private var labels: [Int: Int] = [:]
  private var jumps: [(at: Int, to: Label)] = []
  private var nextLabel = 0

  // linux/bpf_common.h: classes, sizes, modes, sources and jumps.
  private static let load: UInt16 = 0x20  // BPF_LD | BPF_W | BPF_ABS
  private static let and: UInt16 = 0x54  // BPF_ALU | BPF_AND | BPF_K
  private static let jump: UInt16 = 0x05  // BPF_JMP | BPF_JA
  private static let jumpIfEqual: UInt16 = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
  private static let jumpIfGreaterOrEqual: UInt16 = 0x35  // BPF_JMP | BPF_JGE | BPF_K
  private static let jumpIfAnyBit: UInt16 = 0x45  // BPF_JMP | BPF_JSET | BPF_K
  private static let give: UInt16 = 0x06  // BPF_RET | BPF_K

  static let numberOffset: UInt32 = 0
  static let architectureOffset: UInt32 = 4
  static func argumentOffset(_ index: Int, high: Bool) -> UInt32 {
    16 + UInt32(index) * 8 + (high ? 4 : 0)
  }

  mutating func makeLabel() -> Label {
    nextLabel += 1
    return Label(number: nextLabel)
  }

  mutating func place(_ label: Label) { labels[label.number] = code.count }

  /// Loads a word of `seccomp_data`.
  mutating func load(at offset: UInt32) { add(Self.load, offset) }
  mutating func mask(_ bits: UInt32) { add(Self.and, bits) }
  mutating func result(_ action: UInt32) { add(Self.give, action) }

  mutating func go(to label: Label) {
    jumps.append((code.count, label))
    add(Self.jump, 0)
  }

  /// Jumps that depend reach 255 instructions only; so they skip one that reaches everything.
  mutating func go(ifEqual value: UInt32, to label: Label) {
    add(Self.jumpIfEqual, value, whenTrue: 0, whenFalse: 1)
    go(to: label)
  }
  mutating func go(unlessEqual value: UInt32, to label: Label) {
    add(Self.jumpIfEqual, value, whenTrue: 1, whenFalse: 0)
    go(to: label)
  }
  mutating func go(ifAtLeast value: UInt32, to label: Label) {
    add(Self.jumpIfGreaterOrEqual, value, whenTrue: 0, whenFalse: 1)
    go(to: label)
  }
  mutating func go(ifAnyOf bits: UInt32, to label: Label) {
    add(Self.jumpIfAnyBit, bits, whenTrue: 0, whenFalse: 1)
    go(to: label)
  }

  private mutating func add(
    _ operation: UInt16, _ value: UInt32, whenTrue: UInt8 = 0, whenFalse: UInt8 = 0
  ) {
    code.append(sock_filter(code: operation, jt: whenTrue, jf: whenFalse, k: value))
  }

  /// The finished program: jumps lead to their labels, which all lie behind them.
  consuming func resolved() -> [sock_filter] {
    for (place, label) in jumps {
      guard let target = labels[label.number], target > place else {
        preconditionFailure("a filter's jump leads nowhere")
      }
      code[place].k = UInt32(target - place - 1)
    }
    return code
  }
}

/// Runs such a program as the kernel does, for tests and for `SystemCallFilter.answer`.
enum FilterMachine {
  /// - Parameter data: the words of `seccomp_data`.
  /// - Returns: the answer; nil where the program leaves itself or does what the kernel would refuse.
  static func run(_ code: [sock_filter], _ data: [UInt32]) -> UInt32? {
    var accumulator: UInt32 = 0
    var place = 0
    while code.indices.contains(place) {
      let instruction = code[place]
      place += 1
      let jump: Bool
      switch instruction.code {
      case 0x20:
        let word = Int(instruction.k / 4)
        guard instruction.k % 4 == 0, data.indices.contains(word) else { return nil }
        accumulator = data[word]
        continue
      case 0x54:
        accumulator &= instruction.k
        continue
      case 0x05:
        place += Int(instruction.k)
        continue
      case 0x06: return instruction.k
      case 0x15: jump = accumulator == instruction.k
      case 0x35: jump = accumulator >= instruction.k
      case 0x45: jump = accumulator & instruction.k != 0
      default: return nil
      }
      place += Int(jump ? instruction.jt : instruction.jf)
    }
    return nil
  }
}
