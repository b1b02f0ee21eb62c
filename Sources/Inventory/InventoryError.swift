import Platform

/// Why something on disk could not be read or changed: one line that names the thing and what to do.
package struct InventoryError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What kind of trouble, for callers that act on it.
  package enum Kind: Sendable, Equatable {
    case notFound, exists, running, busy, invalid, refused, io
  }
  package var kind: Kind
  package var description: String

  package init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }

  package init(_ error: PlatformError) {
    self.init(.io, error.description)
  }
}

/// Runs Platform calls under this target's error type.
@inline(__always)
func platform<Result: ~Copyable>(
  _ body: () throws(PlatformError) -> Result
) throws(InventoryError) -> Result {
  do { return try body() } catch { throw InventoryError(error) }
}
