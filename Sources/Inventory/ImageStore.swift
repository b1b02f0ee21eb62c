/// What the inventory needs from disk images. Every call returns when the file is on stable storage.
package protocol ImageStore: Sendable {
  /// A new, empty qcow2 image.
  func create(_ path: String, size: UInt64) throws(InventoryError)
  /// A new qcow2 image of the same size that rests on another image.
  ///
  /// - Parameter backing: as it is recorded in the image: absolute, or relative to the image's folder.
  func createOverlay(
    _ path: String, backing: String, format: MachineDefinition.DiskFormat) throws(InventoryError)
  /// Copies the content of any image into a new qcow2 image.
  func copy(
    _ source: String, format: MachineDefinition.DiskFormat, to path: String
  ) throws(InventoryError)
  /// The guest's view of an image: bytes; throws a line that says what is wrong with a file that is no such image.
  func size(_ path: String, format: MachineDefinition.DiskFormat) throws(InventoryError) -> UInt64
  /// The files that a qcow2 image rests on, nearest first, absolute, as the images themselves say.
  func backing(of path: String) throws(InventoryError) -> [String]
  /// Whether this layer of an overlay holds no data of its own.
  func isPristine(_ path: String) throws(InventoryError) -> Bool
}
