import CLinux

/// Keeps what is written to standard error off the screen while it belongs to the console, and shows it afterwards.
struct ErrorCapture {
  /// Where standard error went before; -1 when it was not redirected.
  private(set) var original: Int32 = -1
  private var capture: Int32 = -1

  /// At most so much is shown afterwards.
  private static let limit = 16384

  mutating func begin() {
    // Standard error that is no terminal disturbs nobody.
    guard original < 0, isatty(STDERR_FILENO) == 1 else { return }
    capture = linux_memfd_create("stderr", 0)
    guard capture >= 0 else { return }
    original = linux_fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
    guard original >= 0 else { return }
    dup2(capture, STDERR_FILENO)
  }

  mutating func end() {
    guard original >= 0 else { return }
    dup2(original, STDERR_FILENO)
    var bytes = [UInt8](repeating: 0, count: Self.limit)
    let count = pread(capture, &bytes, bytes.count, 0)
    if count > 0 { _ = write(STDERR_FILENO, bytes, count) }
    close(original)
    close(capture)
    (original, capture) = (-1, -1)
  }
}
