import Platform

/// Why guest memory could not be made or reached.
public enum GuestMemoryError: Error, Equatable, CustomStringConvertible {
  /// Part of the range is not RAM.
  case outOfRange(address: GuestAddress, count: UInt64)
  /// A size that is no multiple of 4 KiB, is zero, or is larger than the address space.
  case invalidSize(UInt64)
  /// The host refused the mapping.
  case system(PlatformError)

  public var description: String {
    switch self {
    case .outOfRange(let address, let count):
      "\(count) bytes at guest address \(address) are not inside the guest's memory"
    case .invalidSize(let size):
      "\(size) bytes is no usable memory size: give a multiple of 4 KiB from 1 MiB upwards"
    case .system(let error): "guest memory: \(error)"
    }
  }
}
