/// Frames that wait for the guest to give buffers: a ring of bounded size, allocated when it is first needed.
public final class FrameQueue {
  /// As much as a switch port holds: some round trips of a fast link.
  public static let capacity = 1 << 20
  private static let prefix = 4 + NetworkHeader.size

  private var bytes: UnsafeMutableRawBufferPointer?
  private var first = 0
  private var used = 0
  /// Bytes that it holds at most, `capacity` or less. A smaller one lets what there is already stay.
  public var limit: Int { didSet { limit = min(limit, Self.capacity) } }
  private(set) var count = 0

  /// - Parameter limit: bytes that it holds at most, `capacity` or less.
  public init(limit: Int = capacity) { self.limit = min(limit, Self.capacity) }

  deinit { bytes?.deallocate() }

  public var isEmpty: Bool { count == 0 }

  /// Returns false when there is no room.
  public func append(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) -> Bool {
    guard frame.count + Self.prefix <= limit &- used else { return false }
    let ring = bytes ?? .allocate(byteCount: Self.capacity, alignment: 16)
    bytes = ring
    var prefix: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &prefix) { prefix in
      prefix.storeBytes(of: UInt32(frame.count), as: UInt32.self)
      header.store(
        in: UnsafeMutableRawBufferPointer(rebasing: prefix[4...]), bufferCount: 0)
      write(UnsafeRawBufferPointer(prefix), ring)
    }
    write(frame, ring)
    count += 1
    return true
  }

  private func write(_ source: UnsafeRawBufferPointer, _ ring: UnsafeMutableRawBufferPointer) {
    let start = (first + used) % Self.capacity
    let piece = min(source.count, Self.capacity - start)
    ring.baseAddress.map { base in
      source.baseAddress.map { source in
        (base + start).copyMemory(from: source, byteCount: piece)
      }
      guard piece < source.count, let rest = source.baseAddress else { return }
      base.copyMemory(from: rest + piece, byteCount: source.count - piece)
    }
    used += source.count
  }

  /// Copies the oldest frame into `target` without taking it off. Returns its size.
  public func copyFirst(
    into target: UnsafeMutableRawBufferPointer
  ) -> (size: Int, header: NetworkHeader)? {
    guard count > 0, let ring = bytes else { return nil }
    var prefix: (UInt64, UInt64) = (0, 0)
    let (size, header) = withUnsafeMutableBytes(of: &prefix) { prefix in
      read(prefix, at: 0, ring)
      let size = Int(prefix.load(as: UInt32.self))
      return (size, NetworkHeader(UnsafeRawBufferPointer(rebasing: prefix[4...])))
    }
    guard let header, size <= target.count else { return nil }
    read(UnsafeMutableRawBufferPointer(rebasing: target.prefix(size)), at: Self.prefix, ring)
    return (size, header)
  }

  private func read(
    _ target: UnsafeMutableRawBufferPointer, at offset: Int, _ ring: UnsafeMutableRawBufferPointer
  ) {
    let start = (first + offset) % Self.capacity
    let piece = min(target.count, Self.capacity - start)
    guard let base = ring.baseAddress, let to = target.baseAddress else { return }
    to.copyMemory(from: base + start, byteCount: piece)
    if piece < target.count {
      (to + piece).copyMemory(from: base, byteCount: target.count - piece)
    }
  }

  /// Takes the oldest frame off.
  public func removeFirst() {
    guard count > 0, let ring = bytes else { return }
    var size: UInt32 = 0
    withUnsafeMutableBytes(of: &size) { read($0, at: 0, ring) }
    let whole = Int(size) + Self.prefix
    first = (first + whole) % Self.capacity
    used -= whole
    count -= 1
  }

  /// Takes all off.
  public func removeAll() {
    first = 0
    used = 0
    count = 0
  }
}
