/// Why an image could not be opened, read or changed: one line that names the file and says what to do.
public struct DiskImageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What kind of failure this is, for callers that act on it.
  public enum Code: String, Sendable {
    /// The operating system refused a read or a write (`errorNumber` says why).
    case io
    /// The file or the folder does not exist.
    case notFound
    /// There is a file of that name already.
    case exists
    /// No room left on the file system. Nothing was lost: the request may be repeated.
    case noSpace
    /// The image contradicts itself; `uj disk check` says more.
    case corrupt
    /// The image uses something that this program does not support.
    case unsupported
    /// The image, or this view of it, cannot be written.
    case readOnly
    /// The request reaches past the end of the disk.
    case outOfRange
    /// Another program uses the image.
    case locked
    /// The image refers to another file and the caller did not allow that.
    case refused
    /// The caller asked for something that makes no sense.
    case invalid
    /// The device was closed.
    case closed
  }

  public var code: Code
  /// The image file, or the other file, that the error is about.
  public var path: String
  /// What is wrong and what to do, in one sentence without the path.
  public var reason: String
  /// The place in the file, in bytes, where it was found.
  public var offset: UInt64?
  /// The `errno` of the failed call, or 0.
  public var errorNumber: Int32

  public init(
    _ code: Code, _ path: String, _ reason: String, offset: UInt64? = nil, errorNumber: Int32 = 0
  ) {
    self.code = code
    self.path = path
    self.reason = reason
    self.offset = offset
    self.errorNumber = errorNumber
  }

  public var description: String {
    guard let offset else { return "\(path): \(reason)" }
    return "\(path): \(reason) (at byte \(offset))"
  }
}
