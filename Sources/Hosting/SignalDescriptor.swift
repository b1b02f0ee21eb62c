import CLinux

/// Reading a descriptor of signalfd(2).
enum SignalDescriptor {
  /// The signal that came; nil when none has.
  static func read(_ descriptor: Int32) -> Int32? {
    var information = signalfd_siginfo()
    let count = withUnsafeMutableBytes(of: &information) {
      CLinux.read(descriptor, $0.baseAddress, $0.count)
    }
    return count > 0 ? Int32(bitPattern: information.ssi_signo) : nil
  }
}
