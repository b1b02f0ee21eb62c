import CLinux

/// The host's own log: lines with the time on standard error, which is the machine's `log/host.log`.
enum HostLog {
  static func write(_ message: String) {
    var now = time(nil)
    var local = tm()
    localtime_r(&now, &local)
    var stamp = [CChar](repeating: 0, count: 32)
    strftime(&stamp, stamp.count, "%Y-%m-%d %H:%M:%S ", &local)
    let text = stamp.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    var line = text + message + "\n"
    line.withUTF8 { _ = CLinux.write(2, $0.baseAddress, $0.count) }
  }
}
