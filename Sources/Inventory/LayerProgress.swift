import DiskImage

/// How far an operation on layers is; shared between who works and who shows it.
package struct LayerProgress: Sendable {
  package let bytes: OperationProgress

  package init(_ bytes: OperationProgress = OperationProgress()) {
    self.bytes = bytes
  }

  /// From 0 to 1; nil before anything is known.
  package var share: Double? {
    bytes.total == 0 ? nil : Double(bytes.done) / Double(bytes.total)
  }

  package func cancel() { bytes.cancel() }
  package var isCancelled: Bool { bytes.isCancelled }
}
