import Devices
import Networks
import Platform
import Synchronization

/// A guest made of frames.
final class FrameGuest: NetworkReceiver {
  let frames = Mutex<[([UInt8], NetworkHeader)]>([])
  let offloads: NetworkOffloads
  /// How often its wait was to end.
  let wakes = Atomic<Int>(0)

  init(_ offloads: NetworkOffloads = []) { self.offloads = offloads }

  var accepts: NetworkOffloads { offloads }
  func deliver(_ frame: UnsafeRawBufferPointer, _ header: NetworkHeader) {
    let copy = Array(frame)
    frames.withLock { $0.append((copy, header)) }
  }
  func wake() { wakes.add(1, ordering: .relaxed) }

  func send(
    _ frame: [UInt8], to network: any NetworkBackend, _ header: NetworkHeader = NetworkHeader()
  ) {
    var frame = frame
    frame.withUnsafeMutableBytes { network.transmit($0, header, from: self) }
  }

  /// Lets the network work for a moment.
  func turn(_ network: any NetworkBackend, milliseconds: UInt64 = 20) {
    let set = PollSet()
    network.prepare(set, for: self)
    set.end(at: MonotonicClock.now + milliseconds * 1_000_000)
    try? set.wait()
    network.serve(set, for: self)
  }

  /// Lets the network work until it sends a frame that `matches`.
  func wait(
    _ network: any NetworkBackend, seconds: UInt64 = 5, _ matches: ([UInt8]) -> Bool
  ) -> (frame: [UInt8], header: NetworkHeader)? {
    let end = MonotonicClock.now + seconds * 1_000_000_000
    while MonotonicClock.now < end {
      let found = frames.withLock { frames in
        defer { frames = [] }
        return frames.first { matches($0.0) }
      }
      if let found { return (found.0, found.1) }
      turn(network)
    }
    return nil
  }
}
