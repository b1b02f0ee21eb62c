// The check as callers see it.

extension DiskImage {
  /// Checks a qcow2 image, and repairs it if asked to.
  ///
  /// - Throws: `.unsupported` for raw images, which have nothing to check (exit status 63).
  public static func check(
    _ path: String, format: DiskFormat = .qcow2, repair: RepairMode = .none, lock: Bool = true,
    progress: OperationProgress = OperationProgress()
  ) throws(DiskImageError) -> CheckReport {
    guard format == .qcow2 else {
      throw DiskImageError(.unsupported, path, "is a raw image: there is nothing to check in it")
    }
    let storage = try FileStorage.open(path, writable: repair != .none, lock: lock)
    defer { storage.close() }
    return try ImageChecker(storage, progress).repair(repair)
  }

  /// Repairs an image that was not closed by a program that writes refcounts late.
  static func repairDirty(_ storage: FileStorage) throws(DiskImageError) -> Qcow2Header {
    let report = try ImageChecker(storage).repair(.all)
    guard report.status != .corrupt else {
      throw DiskImageError(
        .corrupt, storage.path, "was not closed and cannot be repaired by itself")
    }
    return try Qcow2Header.read(from: storage)
  }
}
