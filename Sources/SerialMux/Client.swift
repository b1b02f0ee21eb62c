// One reader of a port: its descriptor, its place in the stream, and what it must be sent before the stream goes on.

import CLinux
import Platform
import VirtualTerminal

/// A client of a port. Belongs to the loop's thread.
final class Client {
  let identifier: SerialMuxClientIdentifier
  let descriptor: FileDescriptor
  let options: SerialMuxClientOptions
  /// The PTY device: its descriptor is the master, which outlives the client.
  let isDevice: Bool
  private let isSocket: Bool

  /// Position of the next byte of the stream.
  var position: UInt64
  /// Up to here the stream is old: questions in it are not shown.
  var replayEnd: UInt64
  /// Bytes to send before the stream: what was drawn for it, notices, filtered output. `sent` of them are gone.
  private(set) var pending: [UInt8] = []
  private var sent = 0
  var filter = QueryFilter()
  var sentBytes: UInt64 = 0
  /// Since when it takes nothing although there is something (`MonotonicClock`); nil while it takes.
  var blockedSince: UInt64?
  /// Its input has ended or is not wanted; output goes on.
  var inputEnded = false
  /// What the loop watches its descriptor for; nil before the first time.
  var watched: EventLoop.Readiness?

  init(
    _ identifier: SerialMuxClientIdentifier, descriptor: consuming FileDescriptor,
    options: SerialMuxClientOptions, isDevice: Bool, position: UInt64, replayEnd: UInt64
  ) {
    var status = stat()
    let number = descriptor.rawValue
    isSocket = fstat(number, &status) == 0 && status.st_mode & mode_t(S_IFMT) == mode_t(S_IFSOCK)
    self.identifier = identifier
    self.descriptor = descriptor
    self.options = options
    self.isDevice = isDevice
    self.position = position
    self.replayEnd = replayEnd
    if !isSocket { try? self.descriptor.setNonBlocking(true) }
  }

  /// A terminal that may answer the guest.
  var isAnswering: Bool { !options.readOnly && options.answersQueries && !inputEnded }

  var hasPending: Bool { sent < pending.count }

  /// Adds bytes that come before the stream.
  func enqueue(_ bytes: [UInt8]) {
    if sent == pending.count {
      pending.removeAll(keepingCapacity: pending.capacity <= 1 << 18)
      sent = 0
    }
    pending.append(contentsOf: bytes)
  }

  /// Adds what of the stream may be shown.
  func enqueueFiltered(_ bytes: UnsafeRawBufferPointer) {
    enqueue([])
    filter.filter(bytes, into: &pending)
  }

  /// Sends what is pending. True when all is gone.
  func sendPending() throws(PlatformError) -> Bool {
    while hasPending {
      let count = try pending.withUnsafeBytes { bytes in
        send(UnsafeRawBufferPointer(rebasing: bytes[sent...]))
      }.get()
      if count == 0 { return false }
      sent += count
    }
    enqueue([])
    return true
  }

  /// Sends bytes without waiting; 0 when the client takes none now.
  func send(_ bytes: UnsafeRawBufferPointer) -> Result<Int, PlatformError> {
    let number = descriptor.rawValue
    let isSocket = isSocket
    do {
      let count = try systemCall("send") {
        isSocket
          ? CLinux.send(
            number, bytes.baseAddress, bytes.count,
            Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
          : write(number, bytes.baseAddress, bytes.count)
      }
      sentBytes += UInt64(count)
      return .success(count)
    } catch {
      return error.code == EAGAIN ? .success(0) : .failure(error)
    }
  }

  /// Reads input without waiting; nil when there is none now, 0 at its end.
  func receive(into buffer: UnsafeMutableRawBufferPointer) -> Result<Int?, PlatformError> {
    let number = descriptor.rawValue
    let isSocket = isSocket
    do {
      return .success(
        try systemCall("recv") {
          isSocket
            ? recv(number, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            : read(number, buffer.baseAddress, buffer.count)
        })
    } catch {
      return error.code == EAGAIN ? .success(nil) : .failure(error)
    }
  }

  var description: SerialMuxClientDescription {
    SerialMuxClientDescription(
      identifier: identifier, label: options.label, readOnly: options.readOnly,
      isDevice: isDevice, sentBytes: sentBytes, position: position)
  }
}
