import Devices
import Platform

/// The guest's end of a serial port as the host holds it: stays the same while the board behind it is built anew.
final class SerialRelay: CharacterDevice {
  private let device = Monitor<(any CharacterDevice)?>(nil)

  func connect(_ device: (any CharacterDevice)?) {
    self.device.update { $0 = device }
  }

  func offer(_ bytes: UnsafeRawBufferPointer) -> Int {
    device.read { $0 }?.offer(bytes) ?? 0
  }

  func sendBreak() {
    device.read { $0 }?.sendBreak()
  }
}
