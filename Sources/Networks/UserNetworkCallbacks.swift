// What libslirp asks of us. All of it runs on the adapter's thread, inside the network's gate.

import CLinux
import CSlirp
import Devices
import Platform

/// One of libslirp's timers.
final class UserNetworkTimer {
  private let body: SlirpTimerCb
  private let argument: UnsafeMutableRawPointer?
  /// Nanoseconds of `MonotonicClock`; nil while it does not run.
  var time: UInt64?

  init(_ body: @escaping SlirpTimerCb, _ argument: UnsafeMutableRawPointer?) {
    self.body = body
    self.argument = argument
  }

  func fire() { body(argument) }
}

enum UserNetworkCallbacks {
  /// Written once and never freed: libslirp keeps the pointer.
  nonisolated(unsafe) static let table: UnsafePointer<SlirpCb> = {
    let table = UnsafeMutablePointer<SlirpCb>.allocate(capacity: 1)
    var callbacks = SlirpCb()
    callbacks.send_packet = { bytes, count, opaque in
      UserNetwork.from(opaque).receive(UnsafeRawBufferPointer(start: bytes, count: count))
      return count
    }
    // What a guest does wrong is its own affair, and could be said without end.
    callbacks.guest_error = { _, _ in }
    callbacks.clock_get_ns = { _ in Int64(clamping: MonotonicClock.now) }
    callbacks.timer_new = { body, argument, opaque in
      guard let body else { return nil }
      let timer = UserNetworkTimer(body, argument)
      UserNetwork.from(opaque).timers.append(timer)
      return Unmanaged.passUnretained(timer).toOpaque()
    }
    callbacks.timer_free = { timer, opaque in
      let network = UserNetwork.from(opaque)
      network.timers.removeAll { Unmanaged.passUnretained($0).toOpaque() == timer }
    }
    callbacks.timer_mod = { timer, milliseconds, opaque in
      let network = UserNetwork.from(opaque)
      let found = network.timers.first { Unmanaged.passUnretained($0).toOpaque() == timer }
      found?.time = UInt64(clamping: milliseconds) &* 1_000_000
    }
    // Descriptors are asked for before each wait.
    callbacks.register_poll_fd = { _, _ in }
    callbacks.unregister_poll_fd = { _, _ in }
    callbacks.notify = { opaque in UserNetwork.from(opaque).receiver?.wake() }
    table.initialize(to: callbacks)
    return UnsafePointer(table)
  }()
}
