// A tap on a bridge of the host: made by this process where it may, otherwise by a helper program that an administrator
// installed with more rights.

import CLinux
import Devices
import Platform

enum BridgeTap {
  /// Ours; the variable is for tries.
  private static let places = [
    "/usr/lib/underjack/bridge-helper", "/usr/libexec/underjack/bridge-helper",
    "/usr/local/lib/underjack/bridge-helper",
  ]
  private static let otherPlaces = [
    "/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper",
  ]
  private static let variable = "UNDERJACK_BRIDGE_HELPER"
  /// Milliseconds that a helper may take.
  private static let patience: Int32 = 5000

  /// - Throws: `NetworkError`, one line that says what an administrator has to do.
  static func open(_ bridge: String, queues: Int) throws(NetworkError) -> [SharedDescriptor] {
    guard if_nametoindex(bridge) != 0 else {
      throw NetworkError("bridge \(bridge): there is none of that name on this host")
    }
    do throws(PlatformError) {
      return try TapDevice.make(onBridge: bridge, queues: queues)
    } catch {
      switch error.code {
      case EPERM, EACCES: return try askHelper(bridge, queues)
      case EINVAL, EOPNOTSUPP: throw NetworkError("bridge \(bridge): is not a bridge")
      case ENOENT, ENODEV, ENXIO:
        throw NetworkError("bridge \(bridge): this host has no /dev/net/tun (modprobe tun)")
      default: throw NetworkError("bridge \(bridge): \(error.reason)")
      }
    }
  }

  private static func askHelper(
    _ bridge: String, _ queues: Int
  ) throws(NetworkError) -> [SharedDescriptor] {
    let named = getenv(variable).map { [String(cString: $0)] } ?? []
    let isThere = { (path: String) in access(path, X_OK) == 0 }
    let ours = (named + places).first(where: isThere)
    guard let helper = ours ?? otherPlaces.first(where: isThere) else {
      throw NetworkError(
        "bridge \(bridge): not allowed, and there is no helper: an administrator installs one, see 'uj bridge-helper --help'"
      )
    }
    guard ours != nil || queues == 1 else {
      throw NetworkError(
        "bridge \(bridge): QEMU's helper makes one queue only; see 'uj bridge-helper --help'")
    }
    var arguments = [helper, "--use-vnet", "--br=\(bridge)", "--fd=3"]
    if queues > 1 { arguments.append("--queues=\(queues)") }
    let answer: (devices: [SharedDescriptor], words: String)
    do throws(PlatformError) {
      answer = try run(arguments)
      for device in answer.devices { try device.descriptor.setNonBlocking(true) }
    } catch {
      throw NetworkError("bridge \(bridge): \(helper): \(error.reason)")
    }
    guard answer.devices.count == queues,
      answer.devices.allSatisfy({ TapDevice.describe($0) != nil })
    else { throw NetworkError("bridge \(bridge): \(helper): \(answer.words)") }
    return answer.devices
  }

  /// Returns the descriptors that the helper sent, and what it said.
  private static func run(
    _ arguments: [String]
  ) throws(PlatformError) -> (devices: [SharedDescriptor], words: String) {
    var ends: [Int32] = [-1, -1]
    try systemCall("socketpair") {
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
    }
    let ours = FileDescriptor(owning: ends[0])
    let child = try start(arguments, FileDescriptor(owning: ends[1]))
    var received = [Int32](repeating: -1, count: 8)
    var entry = pollfd(fd: ours.rawValue, events: Int16(POLLIN), revents: 0)
    let isThere = poll(&entry, 1, patience) > 0
    let count = isThere ? linux_receive_descriptors(ours.rawValue, &received) : 0
    let devices = received.prefix(Int(max(0, count))).map { SharedDescriptor(owning: $0) }
    if !isThere { kill(child.identifier, SIGKILL) }
    let words = isThere ? lastWords(child.output) : "did not answer in time"
    _ = ChildProcess.wait(for: child.identifier)
    return (devices, words)
  }

  /// The helper alone has its end then: when it goes, ours says so.
  private static func start(
    _ arguments: [String], _ socket: consuming FileDescriptor
  ) throws(PlatformError) -> ChildProcess.Running {
    try ChildProcess.start(arguments, passing: socket.rawValue)
  }

  /// What a helper that ends has said, in one line.
  private static func lastWords(_ output: SharedDescriptor) -> String {
    var bytes = [UInt8](repeating: 0, count: 1024)
    var entry = pollfd(fd: output.rawValue, events: Int16(POLLIN), revents: 0)
    guard poll(&entry, 1, patience) > 0 else { return "no answer" }
    let count = bytes.withUnsafeMutableBytes { read(output.rawValue, $0.baseAddress, $0.count) }
    let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    let line = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? "no answer"
    return String(
      line.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? "?" : Character($0) })
  }
}
