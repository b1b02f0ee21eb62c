import Devices
import Platform

/// A cable that leads nowhere: frames are lost.
public final class NoNetwork: NetworkBackend {
  public let takes: NetworkOffloads = []
  public let gives: NetworkOffloads = []
  public let maximumTransmissionUnit: UInt16 = 1500

  public init() {}

  public func connect(_ receiver: any NetworkReceiver) {}
  public func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from receiver: any NetworkReceiver
  ) {}
  public func prepare(_ set: PollSet, for receiver: any NetworkReceiver) {}
  public func serve(_ set: PollSet, for receiver: any NetworkReceiver) {}
}
