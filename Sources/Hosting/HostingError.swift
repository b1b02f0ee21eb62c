import Inventory
import Machine
import Platform

/// Why a host could not be started or reached: one line that names the thing and what to do.
package struct HostingError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Kind: Sendable, Equatable {
    /// No host process answers.
    case notRunning
    /// It did not answer in time.
    case timeout
    /// It answered with an error.
    case refused
    /// It answered with nonsense.
    case protocolViolation
    /// The connection ended.
    case disconnected
    case inventory(InventoryError.Kind)
    case machine
    case io
  }
  package var kind: Kind
  package var description: String

  package init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }
  package init(_ error: PlatformError) { self.init(.io, error.description) }
  package init(_ error: InventoryError) { self.init(.inventory(error.kind), error.description) }
  package init(_ error: MachineError) { self.init(.machine, error.description) }
}

/// Runs Platform calls under this target's error type.
func platform<Result: ~Copyable>(
  _ body: () throws(PlatformError) -> Result
) throws(HostingError) -> Result {
  do { return try body() } catch { throw HostingError(error) }
}

/// Runs Inventory calls under this target's error type.
func inventoried<Result: ~Copyable>(
  _ body: () throws(InventoryError) -> Result
) throws(HostingError) -> Result {
  do { return try body() } catch { throw HostingError(error) }
}
