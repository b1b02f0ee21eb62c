// The bridge helper: a program with CAP_NET_ADMIN that makes a tap on a bridge for a person who has no such right, if
// /etc/underjack/bridge.conf allows it, and hands the tap's descriptors over. It takes the arguments of QEMU's program of
// that name, so that either can be asked the same way.

import CLinux
import Platform

/// What runs with more rights than its user has: it looks at nothing but its arguments, the file and the two devices.
public enum BridgeHelper {
  /// The name that makes any copy of the executable a helper.
  public static let name = "bridge-helper"
  /// How many queues a tap may have.
  static let queueLimit = 8

  struct Request: Equatable {
    var bridge = ""
    var socket: Int32 = -1
    var queues = 1

    /// `--br=NAME --fd=N [--use-vnet] [--queues=N]`.
    init(_ arguments: [String]) throws(NetworkError) {
      for argument in arguments {
        let parts = argument.split(
          separator: "=", maxSplits: 1, omittingEmptySubsequences: false
        ).map { String($0) }
        switch (parts[0], parts.count > 1 ? parts[1] : nil) {
        case ("--br", let value?):
          guard let kind = NetworkConfiguration.Kind("bridge:\(value)"),
            case .bridge(let name) = kind
          else { throw NetworkError("--br: must be a bridge's name") }
          bridge = name
        case ("--fd", let value?):
          guard let number = Int32(value), number > 2 else {
            throw NetworkError("--fd: must be a descriptor from 3 on")
          }
          socket = number
        case ("--queues", let value?):
          guard let number = Int(value), (1...BridgeHelper.queueLimit).contains(number) else {
            throw NetworkError("--queues: must be 1 to \(BridgeHelper.queueLimit)")
          }
          queues = number
        case ("--use-vnet", nil): break
        default: throw NetworkError("usage: bridge-helper --br=NAME --fd=N [--queues=N]")
        }
      }
      guard !bridge.isEmpty, bridge != "all", socket > 2 else {
        throw NetworkError("usage: bridge-helper --br=NAME --fd=N [--queues=N]")
      }
    }
  }

  /// Does the work. One line on standard error says what is wrong.
  ///
  /// - Returns: the exit status.
  public static func run(_ arguments: [String]) -> Int32 {
    do throws(NetworkError) {
      let request = try Request(arguments.first == name ? Array(arguments.dropFirst()) : arguments)
      try check(request)
      try serve(request)
      return 0
    } catch {
      let line = Array("\(error)\n".utf8)
      _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
      return 1
    }
  }

  private static func check(_ request: Request) throws(NetworkError) {
    var state = stat()
    guard fstat(request.socket, &state) == 0, state.st_mode & 0o170000 == 0o140000 else {
      throw NetworkError("--fd=\(request.socket): is not a socket")
    }
    // The person who started it, not whom the file makes of them.
    guard getuid() != 0 else { return }
    var groups = [gid_t](repeating: 0, count: 1024)
    let count = getgroups(Int32(groups.count), &groups)
    let all = groups.prefix(Int(max(0, count))) + [getgid()]
    guard
      try BridgePolicy.installed().allows(request.bridge, user: getuid(), groups: Array(all))
    else {
      throw NetworkError("\(BridgePolicy.path) does not allow you the bridge \(request.bridge)")
    }
  }

  private static func serve(_ request: Request) throws(NetworkError) {
    guard if_nametoindex(request.bridge) != 0 else {
      throw NetworkError("there is no bridge \(request.bridge) on this host")
    }
    do throws(PlatformError) {
      let devices = try TapDevice.make(onBridge: request.bridge, queues: request.queues)
      let sent = withExtendedLifetime(devices) {
        let numbers = devices.map(\.rawValue)
        return linux_send_descriptors(request.socket, numbers, Int32(numbers.count))
      }
      guard sent == 1 else {
        throw PlatformError(operation: "sendmsg", code: linux_error_number())
      }
    } catch {
      throw NetworkError(
        error.code == EPERM
          ? "this helper has no right to make taps: it needs CAP_NET_ADMIN" : "\(error)")
    }
  }
}
