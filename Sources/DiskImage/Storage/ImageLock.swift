// Who uses an image, told to other programs by byte-range locks on the image file, in the places that QEMU uses, so that
// neither program opens a file for writing that the other has open. The locks belong to the open file description and
// vanish with it, also when the process is killed.
import CLinux

enum ImageLock {
  /// What a user of an image may do to it (QEMU's block permissions); the raw value is the byte within its area.
  private enum Permission: Int64, CaseIterable {
    case read = 0
    case write = 1
    case writeUnchanged = 2
    case resize = 3
  }

  /// A byte here is held by each program that does it ...
  private static let usedArea: Int64 = 100
  /// ... and here by each program that does not want others to do it.
  private static let refusedArea: Int64 = 200

  /// Milliseconds to wait for a lock that goes away.
  private static let patience = 100

  /// Announces our use, then looks for others that it contradicts.
  ///
  /// A thread that starts a program holds copies of all descriptors, and so their locks, for a moment between fork and
  /// exec: an image that was just closed can seem locked. So what seems locked is looked at again for a while.
  static func acquire(_ descriptor: Int32, writable: Bool, path: String) throws(DiskImageError) {
    for _ in 0..<patience {
      do throws(DiskImageError) {
        return try tryAcquire(descriptor, writable: writable, path: path)
      } catch {
        guard error.code == .locked else { throw error }
        usleep(1000)
      }
    }
    try tryAcquire(descriptor, writable: writable, path: path)
  }

  private static func tryAcquire(_ descriptor: Int32, writable: Bool, path: String)
    throws(DiskImageError)
  {
    let used: [Permission] = writable ? [.read, .write, .resize] : [.read]
    let refused: [Permission] = [.write, .resize]
    for permission in used { try hold(descriptor, usedArea + permission.rawValue, path) }
    for permission in refused { try hold(descriptor, refusedArea + permission.rawValue, path) }
    for permission in used
    where linux_ofd_byte_is_held(descriptor, refusedArea + permission.rawValue) == 1 {
      throw DiskImageError(
        .locked, path,
        "is in use by another program or machine; stop that first, or make an overlay of a copy")
    }
    for permission in refused
    where linux_ofd_byte_is_held(descriptor, usedArea + permission.rawValue) == 1 {
      throw DiskImageError(
        .locked, path, "is being written by another program or machine; stop that first")
    }
  }

  /// Says that the file is not written any more: others may read it from now on.
  static func giveUpWriting(_ descriptor: Int32) {
    for permission in [Permission.write, .resize] {
      _ = linux_ofd_share_byte(descriptor, usedArea + permission.rawValue, 1)
    }
  }

  private static func hold(_ descriptor: Int32, _ offset: Int64, _ path: String)
    throws(DiskImageError)
  {
    guard linux_ofd_share_byte(descriptor, offset, 0) != 0 else { return }
    let number = linux_error_number()
    switch number {
    // A file system without locks: nothing can be announced, and nobody else can announce either.
    case ENOLCK, EOPNOTSUPP, ENOSYS: return
    case EAGAIN, EACCES:
      throw DiskImageError(.locked, path, "is locked by another program; stop that first")
    default: throw FileStorage.error(path, "cannot be locked", number)
    }
  }
}
