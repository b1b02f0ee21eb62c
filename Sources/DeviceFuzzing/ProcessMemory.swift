import CLinux

/// What the kernel says about this process.
package enum ProcessMemory {
  /// Bytes of RAM that this process has touched and holds (the second field of /proc/self/statm).
  package static func residentBytes() -> Int {
    var buffer = [UInt8](repeating: 0, count: 256)
    let descriptor = linux_open("/proc/self/statm", O_RDONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else { return 0 }
    defer { close(descriptor) }
    let count = read(descriptor, &buffer, buffer.count)
    let fields = buffer.prefix(max(count, 0)).split(separator: UInt8(ascii: " "))
    guard fields.count > 1 else { return 0 }
    let pages = fields[1].reduce(0) { $0 &* 10 &+ Int($1 &- UInt8(ascii: "0")) }
    return pages &* sysconf(Int32(_SC_PAGESIZE))
  }

  /// Lets other threads work for a moment.
  static func rest() { usleep(200) }
}
