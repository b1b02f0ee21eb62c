/// The host's end of a character device (serial port, virtio console port, debug port).
public protocol CharacterBackend: AnyObject, Sendable {
  /// Bytes that the guest sent. Called on virtual processors' threads: copies and returns, never waits for a client.
  func guestDidSend(_ bytes: UnsafeRawBufferPointer)
  /// The device has room for input again after it refused some.
  func guestCanReceive()
}

/// The guest's end, as the host sees it.
public protocol CharacterDevice: AnyObject, Sendable {
  /// Offers bytes to the guest and returns how many were taken; `CharacterBackend.guestCanReceive` tells when to offer
  /// the rest. Bounded: the device buffers at most a few KiB.
  func offer(_ bytes: UnsafeRawBufferPointer) -> Int
  /// A break condition on the line (serial ports; others ignore it).
  func sendBreak()
}
