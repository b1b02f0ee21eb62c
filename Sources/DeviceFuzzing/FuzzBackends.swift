import CLinux
import Devices
import Platform

/// A disk in memory that now and then fails, by the place that is accessed.
final class FuzzDisk: BlockBackend, @unchecked Sendable {
  // @unchecked: `bytes` belongs to the guest, whose queues may race on it as on a real disk.
  let size: UInt64
  let isReadOnly: Bool
  private let bytes: UnsafeMutableRawPointer

  /// Accesses that touch this sector fail.
  private static let badSector: UInt64 = 77

  init(size: UInt64, isReadOnly: Bool = false) {
    self.size = size
    self.isReadOnly = isReadOnly
    bytes = .allocate(byteCount: Int(size), alignment: 4096)
    bytes.initializeMemory(as: UInt8.self, repeating: 0x5A, count: Int(size))
  }

  deinit { bytes.deallocate() }

  func makeTransferQueue(depth: Int) -> (any BlockTransferQueue)? { FuzzTransferQueue(self) }

  /// A device that lets an access beyond the end through has a bug: it must find that out itself.
  private func place(_ offset: UInt64, _ count: UInt64) throws(BlockBackendError)
    -> UnsafeMutableRawPointer
  {
    precondition(
      offset <= size && count <= size - offset,
      "a device accessed \(count) bytes at \(offset) of a disk of \(size) bytes")
    if offset / 512 <= Self.badSector && Self.badSector < (offset + count + 511) / 512 {
      throw .system(EIO)
    }
    return bytes + Int(offset)
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockBackendError)
  {
    let source = try place(offset, UInt64(buffer.count))
    buffer.copyMemory(from: UnsafeRawBufferPointer(start: source, count: buffer.count))
  }

  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError) {
    let target = try place(offset, UInt64(buffer.count))
    UnsafeMutableRawBufferPointer(start: target, count: buffer.count).copyMemory(from: buffer)
  }

  func flush() throws(BlockBackendError) {}

  func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    _ = try place(offset, count)
  }

  func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError) {
    let target = try place(offset, count)
    memset(target, 0, Int(count))
  }
}

/// Transfers that are done late, in an order of their own, while the guest changes its mind about everything.
private final class FuzzTransferQueue: BlockTransferQueue {
  private struct Transfer {
    var kind: BlockTransfer
    var vectors: UnsafeBufferPointer<iovec>
    var offset: UInt64
    var token: Int
  }

  private let disk: FuzzDisk
  private let notifier: EventNotifier
  private var waiting: [Transfer] = []
  private var random = SeededGenerator(seed: 0xD15C)

  /// nil without eventfds: the disk is asked request by request then.
  init?(_ disk: FuzzDisk) {
    guard let notifier = try? EventNotifier() else { return nil }
    self.disk = disk
    self.notifier = notifier
  }

  var inFlight: Int { waiting.count }
  var descriptor: Int32 { notifier.rawDescriptor }

  func submit(
    _ transfer: BlockTransfer, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64, token: Int
  ) -> Bool {
    if random.rarely(64) { return false }
    waiting.append(Transfer(kind: transfer, vectors: vectors, offset: offset, token: token))
    return true
  }

  func commit() { if !waiting.isEmpty { notifier.signal() } }

  func reap(waits: Bool, _ body: (Int, BlockBackendError?) -> Void) {
    notifier.drain()
    var isOwed = waits
    while !waiting.isEmpty, isOwed || !random.rarely(3) {
      isOwed = false
      let index = Int(random.below(UInt64(waiting.count)))
      let transfer = waiting.remove(at: index)
      body(transfer.token, carryOut(transfer))
    }
    if !waiting.isEmpty { notifier.signal() }
  }

  private func carryOut(_ transfer: Transfer) -> BlockBackendError? {
    do throws(BlockBackendError) {
      switch transfer.kind {
      case .read: try disk.read(into: transfer.vectors, at: transfer.offset)
      case .write: try disk.write(from: transfer.vectors, at: transfer.offset)
      case .flush: try disk.flush()
      }
      return nil
    } catch {
      return error
    }
  }
}

/// The host's end of a character device that nobody listens to.
final class FuzzSponge: CharacterBackend {
  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {}
  func guestCanReceive() {}
}
