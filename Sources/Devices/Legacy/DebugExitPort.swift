/// Port 0xF4: a test kernel ends the machine with a status. No state.
package final class DebugExitPort: BusDevice {
  package static let port: UInt16 = 0xF4
  package static let portCount = 4
  private let exit: @Sendable (UInt8) -> Void

  /// - Parameter exit: gets `value << 1 | 1`, so that a guest cannot report the 0 of a clean power-off.
  package init(exit: @escaping @Sendable (_ status: UInt8) -> Void) { self.exit = exit }

  package func read(at offset: UInt64, width: AccessWidth) -> UInt64 { width.mask }

  package func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    exit(UInt8(truncatingIfNeeded: value << 1) | 1)
  }
}
