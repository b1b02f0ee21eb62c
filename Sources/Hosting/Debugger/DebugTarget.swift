import Machine
import Processor

/// What a debugger's session needs of a machine; `MachineDebugger` is it, and tests have their own.
package protocol DebugTarget: AnyObject {
  var processorCount: Int { get }
  /// Comes back when all processors stand still.
  func stop() throws
  func resume(_ run: DebugRun, breakpoints: [UInt64], watchpoints: [Watchpoint]) throws
  /// The first that has stopped since `resume`.
  var firstStop: MachineStop? { get }
  /// What a processor could not be told, in a line.
  var failure: String? { get }
  var hasEnded: Bool { get }
  func accepts(breakpoints: Int, watchpoints: [Watchpoint]) -> Bool
  func state(of processor: Int) throws -> ProcessorState
  func setState(_ state: ProcessorState, of processor: Int) throws
  func read(_ linear: UInt64, count: Int, _ state: ProcessorState) -> [UInt8]
  func write(_ bytes: [UInt8], at linear: UInt64, _ state: ProcessorState) -> Bool
  func detach()
}

extension MachineDebugger: DebugTarget {}
