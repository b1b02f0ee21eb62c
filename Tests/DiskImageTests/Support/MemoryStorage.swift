// A file in memory that remembers every change in order, and can be told to fail.
import CLinux
import DiskImage
import Glibc
import Synchronization

/// One change of the file.
enum StorageEvent: Sendable {
  case write(UInt64, [UInt8])
  case zero(UInt64, UInt64)
  case truncate(UInt64)
  case flush
}

final class MemoryStorage: ImageStorage {
  struct State {
    var bytes: [UInt8]
    var log: [StorageEvent] = []
    /// Calls until one fails, and with which errno.
    var failAfter: Int?
    var failure: Int32 = ENOSPC
    var failsForever = false
  }
  let state: Mutex<State>
  let records: Bool
  let path = "memory"
  var extendsWithZeros: Bool { true }

  init(_ bytes: [UInt8] = [], records: Bool = false) {
    state = Mutex(State(bytes: bytes))
    self.records = records
  }

  var bytes: [UInt8] { state.withLock { $0.bytes } }
  var log: [StorageEvent] { state.withLock { $0.log } }
  var logCount: Int { state.withLock { $0.log.count } }

  func forgetLog() { state.withLock { $0.log = [] } }

  func fail(after calls: Int, with number: Int32) {
    state.withLock {
      $0.failAfter = calls
      $0.failure = number
    }
  }

  func length() -> UInt64 { state.withLock { UInt64($0.bytes.count) } }

  func read(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64) {
    nonisolated(unsafe) let vectors = vectors
    state.withLock { state in
      var position = Int(clamping: offset)
      for index in 0..<count {
        let length = vectors[index].iov_len
        let there = max(0, min(length, state.bytes.count - position))
        if length == 0 { continue }
        if there > 0 {
          state.bytes.withUnsafeBytes {
            _ = memcpy(vectors[index].iov_base, $0.baseAddress! + position, there)
          }
        }
        memset(vectors[index].iov_base + there, 0, length - there)
        position = position.addingReportingOverflow(length).partialValue
      }
    }
  }

  private func change(_ event: StorageEvent) throws(DiskImageError) {
    let failed = state.withLock { state -> Int32? in
      // As a file system has a largest file.
      if Self.end(of: event) > 64 << 20 { return EFBIG }
      if let left = state.failAfter {
        if left == 0 {
          if !state.failsForever { state.failAfter = nil }
          return state.failure
        }
        state.failAfter = left - 1
      }
      if records { state.log.append(event) }
      Self.apply(event, to: &state.bytes)
      return nil
    }
    if let failed {
      throw DiskImageError(
        failed == ENOSPC ? .noSpace : .io, path, "was told to fail", errorNumber: failed)
    }
  }

  private static func end(of event: StorageEvent) -> UInt64 {
    switch event {
    case .write(let offset, let data): return offset &+ UInt64(data.count)
    case .truncate(let length): return length
    case .zero, .flush: return 0
    }
  }

  static func apply(_ event: StorageEvent, to bytes: inout [UInt8]) {
    switch event {
    case .write(let offset, let data):
      let end = Int(offset) + data.count
      if bytes.count < end { bytes.append(contentsOf: repeatElement(0, count: end - bytes.count)) }
      bytes.withUnsafeMutableBytes { target in
        data.withUnsafeBytes {
          _ = memcpy(target.baseAddress! + Int(offset), $0.baseAddress!, data.count)
        }
      }
    case .zero(let offset, let count):
      let end = Int(clamping: min(offset &+ count, UInt64(bytes.count)))
      if end > Int(clamping: offset) {
        bytes.withUnsafeMutableBytes {
          _ = memset($0.baseAddress! + Int(offset), 0, end - Int(offset))
        }
      }
    case .truncate(let length):
      if Int(length) < bytes.count {
        bytes.removeLast(bytes.count - Int(length))
      } else {
        bytes.append(contentsOf: repeatElement(0, count: Int(length) - bytes.count))
      }
    case .flush: break
    }
  }

  func write(_ vectors: UnsafePointer<iovec>, _ count: Int, at offset: UInt64)
    throws(DiskImageError)
  {
    var data: [UInt8] = []
    for index in 0..<count where vectors[index].iov_len > 0 {
      data += UnsafeRawBufferPointer(start: vectors[index].iov_base, count: vectors[index].iov_len)
    }
    try change(.write(offset, data))
  }
  func flush() throws(DiskImageError) { try change(.flush) }
  func punchHole(at offset: UInt64, count: UInt64) throws(DiskImageError) -> Bool {
    try change(.zero(offset, count))
    return true
  }
  func writeZeroes(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    guard count <= 64 << 20 else { throw DiskImageError(.io, path, "is too large") }
    try change(.write(offset, [UInt8](repeating: 0, count: Int(count))))
  }
  func reserve(at offset: UInt64, count: UInt64) throws(DiskImageError) {
    if offset + count > length() { try change(.truncate(offset + count)) }
  }
  func truncate(to length: UInt64) throws(DiskImageError) { try change(.truncate(length)) }
  func dataExtent(at offset: UInt64, limit: UInt64) -> (isData: Bool, count: UInt64) {
    (true, limit)
  }
  func close() {}
}
