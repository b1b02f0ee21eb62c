import CLinux
import Devices
import Glibc
import Inventory
import Platform
import Synchronization

/// A character device's host end that adds to the end of a file, as for the debug port. What does not fit on the disk,
/// or what a pipe's reader does not take in time, is lost.
package final class FileBackend: CharacterBackend {
  private struct State {
    /// -1 before `open`.
    var descriptor: Int32
    /// The reader took nothing for a whole `patience`: not waited for again before it does.
    var isStalled = false
  }
  private let path: String
  private let state: Mutex<State>
  private static let patience: UInt64 = 200_000_000

  /// Looks whether the file can be written, and makes no file yet: a machine that cannot start leaves none behind.
  ///
  /// - Throws: one line that names the file.
  package init(_ path: String) throws(HostingError) {
    self.path = path
    var information = stat()
    if stat(path, &information) == 0 {
      guard information.st_mode & Glibc.S_IFMT != Glibc.S_IFDIR else {
        throw HostingError(.io, "\(printable(path)): is a folder; name a file")
      }
      state = Mutex(State(descriptor: try Self.opened(path)))
      return
    }
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard access(folder, W_OK | X_OK) == 0 else {
      let reason = PlatformError(operation: "write", code: linux_error_number(), subject: folder)
      throw HostingError(.io, "\(printable(path)): cannot be made: \(reason)")
    }
    state = Mutex(State(descriptor: -1))
  }

  /// Makes the file, unless it is there.
  package func open() throws(HostingError) {
    guard state.withLock({ $0.descriptor < 0 }) else { return }
    let descriptor = try Self.opened(path)
    state.withLock { $0.descriptor = descriptor }
  }

  /// Not blocking, so that neither a pipe without a reader nor a slow one holds the guest up.
  private static func opened(_ path: String) throws(HostingError) -> Int32 {
    let file = try platform { () throws(PlatformError) in
      try FileDescriptor.open(
        path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY, mode: 0o600)
    }
    return file.release()
  }

  package func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    state.withLock { state in
      guard state.descriptor >= 0 else { return }
      var rest = bytes
      while !rest.isEmpty {
        let count = write(state.descriptor, rest.baseAddress, rest.count)
        if count > 0 {
          rest = UnsafeRawBufferPointer(rebasing: rest[count...])
          state.isStalled = false
        } else if count < 0, linux_error_number() == EINTR {
          continue
        } else {
          guard count < 0, linux_error_number() == EAGAIN, !state.isStalled else { return }
          let deadline = MonotonicClock.now &+ Self.patience
          if !ControlSocket.wait(state.descriptor, for: POLLOUT, until: deadline) {
            state.isStalled = true
            return
          }
        }
      }
    }
  }

  package func guestCanReceive() {}

  deinit {
    let descriptor = state.withLock { $0.descriptor }
    if descriptor >= 0 { close(descriptor) }
  }
}
