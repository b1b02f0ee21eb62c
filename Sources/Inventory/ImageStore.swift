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
  /// Copies into an overlay what it shows of the files below it, down to but without `base`, and lets it rest on that.
  /// Its content stays the same; may be cut off at any point and done again.
  ///
  /// - Parameters:
  ///   - base: as it is to be recorded in the image; nil for none.
  ///   - allowed: the files that may be opened.
  func stream(
    _ path: String, base: String?, baseFormat: MachineDefinition.DiskFormat, allowed: [String],
    progress: LayerProgress) throws(InventoryError)
  /// Writes everything that an overlay holds into the image that it rests on. The overlay is left as it is.
  func commit(
    _ path: String, allowed: [String], progress: LayerProgress) throws(InventoryError)
  /// Records another file as the one that an overlay rests on. It must hold the same.
  func setBacking(
    of path: String, to backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError)
  /// Bytes that the file takes on the host.
  func allocatedSize(_ path: String) -> UInt64
  /// The stretches that differ between what a guest sees of two images, in order.
  func difference(
    _ one: ResolvedDisk, _ other: ResolvedDisk, progress: LayerProgress
  ) throws(InventoryError) -> [Range<UInt64>]
  /// Whether this layer of an overlay holds no data of its own.
  func isPristine(_ path: String) throws(InventoryError) -> Bool
}
