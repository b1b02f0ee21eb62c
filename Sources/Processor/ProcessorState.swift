/// Everything architectural of one processor, as a value that can be stored and moved between kinds of processor.
public struct ProcessorState: Codable, Sendable, Equatable {
  /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15, in the encoding's order.
  public var generalRegisters: [UInt64] = Array(repeating: 0, count: 16)
  public var instructionPointer: UInt64 = 0xFFF0
  public var flags: UInt64 = 2

  public init() {}
}
