/// A disk image behind a virtio disk.
final class DiskBackend: Sendable {
  static func open(_ disks: [DiskConfiguration]) throws(MachineError) -> [DiskBackend] { [] }
  func close() {}
  var bytesRead: UInt64 { 0 }
  var bytesWritten: UInt64 { 0 }
}
