// Which system calls a thread may make: seccomp(2) filters, of numbers and of arguments. x86-64 only.

import CLinux

/// A list of what is allowed; everything else has one answer.
public struct SystemCallFilter: Sendable {
  /// What the kernel does with a call.
  public enum Action: Sendable, Hashable {
    case allow
    /// The call fails with an error number, and nobody hears of it.
    case fail(Int32)
    /// The call fails with EPERM, and a line on standard error says which, see `installRefusalHandler`.
    case refuse
    /// The same, and the process ends.
    case end

    /// linux/seccomp.h, SECCOMP_RET_*.
    var encoded: UInt32 {
      switch self {
      case .allow: 0x7FFF_0000
      case .fail(let code): 0x0005_0000 | UInt32(clamping: code) & 0xFFF
      case .refuse: 0x0003_0000
      case .end: 0x0003_0001
      }
    }
  }

  /// What an argument must be, numbers from 0.
  public enum Condition: Sendable, Hashable {
    /// All 64 bits.
    case equals(Int, UInt64)
    /// The lower 32 bits, which is all that the kernel looks at: request numbers, descriptors, commands.
    case wordIs(Int, UInt32)
    /// The lower 32 bits without these.
    case wordHasNone(Int, UInt32)
    /// The lower 32 bits under a mask.
    case wordMasked(Int, UInt32, equals: UInt32)
    case wordIsNot(Int, UInt32)
  }

  /// Calls, by number, whose arguments count: allowed where all conditions of any one list hold.
  public private(set) var conditional: [(number: UInt32, alternatives: [[Condition]])] = []
  /// Answers that depend on the number alone.
  public private(set) var plain: [UInt32: Action] = [:]
  /// The answer to everything else.
  public var otherwise: Action

  public init(otherwise: Action = .refuse) { self.otherwise = otherwise }

  /// - Parameter numbers: `SYS_read` and so on.
  public mutating func allow(_ numbers: [Int32]) { set(.allow, numbers) }

  public mutating func set(_ action: Action, _ numbers: [Int32]) {
    for number in numbers { plain[UInt32(bitPattern: number)] = action }
  }

  /// Allows a call where the conditions hold. Several such rules for one call are alternatives; the first is the quickest.
  public mutating func allow(_ number: Int32, where conditions: Condition...) {
    let number = UInt32(bitPattern: number)
    if let place = conditional.firstIndex(where: { $0.number == number }) {
      conditional[place].alternatives.append(conditions)
    } else {
      conditional.append((number, [conditions]))
    }
  }

  // MARK: The program

  /// linux/audit.h, AUDIT_ARCH_X86_64.
  private static let architecture: UInt32 = 0xC000_003E
  /// Numbers from here on are those of the x32 interface.
  private static let foreignNumbers: UInt32 = 0x4000_0000

  /// The filter as the kernel runs it.
  var program: [sock_filter] {
    var program = FilterProgram()
    let other = program.makeLabel()
    let foreign = program.makeLabel()
    program.load(at: FilterProgram.architectureOffset)
    program.go(unlessEqual: Self.architecture, to: foreign)
    program.load(at: FilterProgram.numberOffset)
    // Ahead of everything: what a processor's thread does all day is one of these.
    var blocks: [(FilterProgram.Label, [[Condition]])] = []
    for rule in conditional {
      let label = program.makeLabel()
      program.go(ifEqual: rule.number, to: label)
      blocks.append((label, rule.alternatives))
    }
    program.go(ifAtLeast: Self.foreignNumbers, to: foreign)
    decide(ranges()[...], &program)
    for (label, alternatives) in blocks {
      program.place(label)
      for conditions in alternatives {
        let next = program.makeLabel()
        for condition in conditions { test(condition, &program, otherwise: next) }
        program.result(Action.allow.encoded)
        program.place(next)
      }
      program.go(to: other)
    }
    program.place(other)
    program.result(otherwise.encoded)
    program.place(foreign)
    program.result(Action.end.encoded)
    return program.resolved()
  }

  /// Numbers next to each other with the same answer, without gaps from 0 on.
  private func ranges() -> [(first: UInt32, action: Action)] {
    var ranges: [(first: UInt32, action: Action)] = [(0, plain[0] ?? otherwise)]
    for number in Set(plain.keys.flatMap { [$0, $0 + 1] }).sorted() where number > 0 {
      let action = plain[number] ?? otherwise
      if ranges.last?.action != action { ranges.append((number, action)) }
    }
    return ranges
  }

  /// A binary search.
  private func decide(
    _ ranges: ArraySlice<(first: UInt32, action: Action)>, _ program: inout FilterProgram
  ) {
    guard ranges.count > 1 else {
      program.result((ranges.first?.action ?? otherwise).encoded)
      return
    }
    let middle = ranges.startIndex + ranges.count / 2
    let upper = program.makeLabel()
    program.go(ifAtLeast: ranges[middle].first, to: upper)
    decide(ranges[..<middle], &program)
    program.place(upper)
    decide(ranges[middle...], &program)
  }

  private func test(
    _ condition: Condition, _ program: inout FilterProgram, otherwise next: FilterProgram.Label
  ) {
    switch condition {
    case .equals(let index, let value):
      program.load(at: FilterProgram.argumentOffset(index, high: false))
      program.go(unlessEqual: UInt32(truncatingIfNeeded: value), to: next)
      program.load(at: FilterProgram.argumentOffset(index, high: true))
      program.go(unlessEqual: UInt32(truncatingIfNeeded: value >> 32), to: next)
    case .wordIs(let index, let value):
      program.load(at: FilterProgram.argumentOffset(index, high: false))
      program.go(unlessEqual: value, to: next)
    case .wordIsNot(let index, let value):
      program.load(at: FilterProgram.argumentOffset(index, high: false))
      program.go(ifEqual: value, to: next)
    case .wordHasNone(let index, let bits):
      program.load(at: FilterProgram.argumentOffset(index, high: false))
      program.go(ifAnyOf: bits, to: next)
    case .wordMasked(let index, let mask, let value):
      program.load(at: FilterProgram.argumentOffset(index, high: false))
      program.mask(mask)
      program.go(unlessEqual: value, to: next)
    }
  }

  /// What the kernel will answer, by the very program that it runs; nil would be a fault of ours.
  package func answer(_ number: Int32, _ arguments: [UInt64] = []) -> UInt32? {
    var data: [UInt32] = [UInt32(bitPattern: number), Self.architecture, 0, 0]
    for index in 0..<6 {
      let value = index < arguments.count ? arguments[index] : 0
      data += [UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value >> 32)]
    }
    return FilterMachine.run(program, data)
  }

  package func allows(_ number: Int32, _ arguments: [UInt64] = []) -> Bool {
    answer(number, arguments) == Action.allow.encoded
  }

  // MARK: Installing

  /// A program that is ready for the kernel, made once and put on many threads.
  public final class Compiled: Sendable {
    nonisolated(unsafe) private let code: UnsafeMutableBufferPointer<sock_filter>

    public init(_ filter: SystemCallFilter) {
      let program = filter.program
      code = .allocate(capacity: program.count)
      _ = code.initialize(from: program)
    }

    deinit { code.deallocate() }

    /// Instructions.
    public var count: Int { code.count }

    /// On the calling thread and those that it makes from here on, for good; a call must pass all filters of a thread.
    ///
    /// - Parameter everywhere: on all threads of the process.
    public func install(everywhere: Bool = false) throws(PlatformError) {
      let result = linux_install_filter(
        code.baseAddress, UInt16(clamping: code.count), everywhere ? 1 : 0)
      guard result == 0 else {
        throw PlatformError(
          operation: "seccomp", code: result > 0 ? EBUSY : linux_error_number())
      }
    }
  }
}
