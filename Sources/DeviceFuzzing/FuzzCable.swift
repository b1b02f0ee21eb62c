import Devices
import Platform

/// A network that sends every other frame back, as large segments now and then.
final class FuzzCable: NetworkBackend, @unchecked Sendable {
  // @unchecked: used by the adapter's thread.
  let takes = NetworkOffloads.all
  let gives = NetworkOffloads.all
  let maximumTransmissionUnit: UInt16 = 1500
  private var count: UInt64 = 0

  func connect(_ receiver: any NetworkReceiver) {}

  func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from receiver: any NetworkReceiver
  ) {
    count &+= 1
    if header.needsChecksum {
      InternetChecksum.complete(
        frame, start: header.checksumStart, offset: header.checksumOffset)
    }
    if count & 1 == 0 { receiver.deliver(UnsafeRawBufferPointer(frame), header) }
  }

  func prepare(_ set: PollSet, for receiver: any NetworkReceiver) {}
  func serve(_ set: PollSet, for receiver: any NetworkReceiver) {}
}
