import CLinux
import Devices
import Inventory
import Synchronization

/// A serial port that goes to a file, or nowhere: nobody can be attached.
final class SerialSink: SerialMultiplexer, CharacterBackend {
  private let file: FileBackend?
  private let printed = Atomic<UInt64>(0)
  let refusal: String?

  /// - Parameter path: nil for nowhere.
  init(path: String?) throws(HostingError) {
    if let path { file = try FileBackend(path) } else { file = nil }
    refusal = path.map { "goes to the file \(printable($0))" } ?? "goes nowhere"
  }

  var backend: any CharacterBackend { self }

  func connect(_ device: any CharacterDevice) {
    do {
      try file?.open()
    } catch {
      HostLog.write("serial port: \(error)")
    }
  }

  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    printed.add(UInt64(bytes.count), ordering: .relaxed)
    file?.guestDidSend(bytes)
  }
  var traffic: (output: UInt64, input: UInt64) { (printed.load(ordering: .relaxed), 0) }
  func guestCanReceive() {}

  func attach(_ descriptor: Int32, input: [UInt8], _ options: SerialAttachment) {
    CLinux.close(descriptor)
  }

  var clientCount: Int { 0 }
  var devicePath: String? { nil }
  func close() {}
}
