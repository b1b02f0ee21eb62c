// A switch between machines of one person, without a process of its own: every port listens on a socket in the switch's
// folder, sends to the others directly, and learns which address is behind which (IEEE 802.1D, 7.8).

import CLinux
import Devices
import Platform
import Synchronization

/// One machine's port of a switch.
///
/// Each connection carries frames one way, as packets of a header and a frame. The first packet names the port that
/// sends.
public final class SwitchNetwork: NetworkBackend, @unchecked Sendable {
  // @unchecked: everything below `gate` is guarded by it.
  /// Frames for many that a port may send in a second.
  static let floodLimit = 20_000
  /// Packets taken from one port in a round.
  private static let burst = 64

  public let takes = NetworkOffloads.all
  public let gives = NetworkOffloads.all
  public let maximumTransmissionUnit: UInt16 = 1500
  let folder: SwitchFolder
  private let gate = Mutex(())
  private weak var receiver: (any NetworkReceiver)?
  private var peers: [SwitchPeer] = []
  private var incoming: [SwitchSource] = []
  private var table = AddressTable()
  private var listenerIndex = -1
  private var changesIndex = -1
  private var isStale = true
  private var floods = (second: UInt64(0), count: 0)
  private let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: 65_536 + 128, alignment: 16)
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: 65_536 + 128, alignment: 16)

  /// - Parameter folder: where the switches of this person are.
  /// - Throws: `NetworkError` when the folder cannot be used.
  public init(name: String, in folder: String) throws(NetworkError) {
    self.folder = try SwitchFolder(name: name, in: folder)
  }

  deinit {
    buffer.deallocate()
    scratch.deallocate()
  }

  /// Ports that are there beside this one.
  public var portCount: Int { gate.withLock { _ in peers.count } }

  public func connect(_ receiver: any NetworkReceiver) {
    gate.withLock { _ in
      self.receiver = receiver
      isStale = true
    }
  }

  public func close() {
    gate.withLock { _ in
      receiver = nil
      peers = []
      incoming = []
    }
    folder.remove()
  }

  // MARK: From the guest

  public func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from sender: any NetworkReceiver
  ) {
    gate.withLock { _ in
      guard receiver === sender, frame.count >= 14, let base = frame.baseAddress else { return }
      if isStale { refresh() }
      let target = HardwareAddress(wire: base)
      if !target.isMulticast, let peer = table.port(of: target),
        let place = peers.first(where: { $0.name == peer })
      {
        place.send(frame, header)
        return
      }
      guard mayFlood() else { return }
      for peer in peers { peer.send(frame, header) }
    }
  }

  private func mayFlood() -> Bool {
    let second = MonotonicClock.now / 1_000_000_000
    if floods.second != second { floods = (second, 0) }
    floods.count += 1
    return floods.count <= Self.floodLimit
  }

  /// Finds ports that came and forgets those that went.
  private func refresh() {
    isStale = false
    let names = folder.others()
    peers.removeAll { !names.contains($0.name) || $0.isGone }
    for name in names where !peers.contains(where: { $0.name == name }) {
      if let peer = SwitchPeer(name, in: folder) { peers.append(peer) }
    }
  }

  // MARK: Waiting

  public func prepare(_ set: PollSet, for sender: any NetworkReceiver) {
    gate.withLock { _ in
      listenerIndex = -1
      guard receiver === sender else { return }
      if isStale { refresh() }
      listenerIndex = set.add(folder.listener.rawValue, for: .readable)
      changesIndex = set.add(folder.changes.rawValue, for: .readable)
      for source in incoming { source.index = set.add(source.descriptor.rawValue, for: .readable) }
      for peer in peers {
        peer.index = peer.isWaiting ? set.add(peer.descriptor.rawValue, for: .writable) : -1
      }
    }
  }

  public func serve(_ set: PollSet, for sender: any NetworkReceiver) {
    gate.withLock { _ in
      guard receiver === sender, listenerIndex >= 0 else { return }
      if !set.events(at: changesIndex).isEmpty {
        folder.forgetChanges()
        isStale = true
      }
      for peer in peers where peer.index >= 0 && !set.events(at: peer.index).isEmpty {
        peer.sendWaiting()
      }
      if peers.contains(where: \.isGone) { isStale = true }
      for source in incoming where source.index >= 0 && !set.events(at: source.index).isEmpty {
        take(from: source, sender)
      }
      incoming.removeAll { $0.isGone }
      if !set.events(at: listenerIndex).isEmpty { accept() }
    }
  }

  private func accept() {
    while incoming.count < SwitchFolder.portLimit {
      let number = linux_accept4(
        folder.listener.rawValue, Int32(SOCK_CLOEXEC.rawValue) | O_NONBLOCK)
      guard number >= 0 else { return }
      let source = SwitchSource(FileDescriptor(owning: number))
      source.index = -1
      incoming.append(source)
    }
  }

  private func take(from source: SwitchSource, _ receiver: any NetworkReceiver) {
    for _ in 0..<Self.burst {
      guard let count = source.receive(into: buffer) else { return }
      guard count > 0 else { continue }
      let packet = UnsafeRawBufferPointer(rebasing: buffer.prefix(count))
      guard count >= NetworkHeader.size + 14, let header = NetworkHeader(packet),
        header.fits(count - NetworkHeader.size, .all)
      else { continue }
      let frame = UnsafeRawBufferPointer(rebasing: packet[NetworkHeader.size...])
      if let base = frame.baseAddress, let name = source.name {
        table.learn(HardwareAddress(wire: base + 6), port: name)
      }
      SegmentCutter.deliver(
        frame, header, accepting: receiver.accepts, scratch: scratch
      ) { receiver.deliver($0, $1) }
    }
  }
}

/// Which address was last seen behind which port.
struct AddressTable {
  static let limit = 4096
  /// Nanoseconds after which an address counts as gone (802.1D, table 7-5).
  static let age: UInt64 = 300_000_000_000

  private var entries: [HardwareAddress: (port: String, time: UInt64)] = [:]

  mutating func learn(_ address: HardwareAddress, port: String, now: UInt64 = MonotonicClock.now) {
    guard !address.isMulticast, address.value != 0 else { return }
    if let entry = entries[address], entry.port == port, now &- entry.time < 1_000_000_000 {
      return
    }
    if entries.count >= Self.limit, entries[address] == nil {
      entries = entries.filter { now &- $0.value.time < Self.age }
      // Somebody makes addresses up: those that are known keep their place.
      guard entries.count < Self.limit else { return }
    }
    entries[address] = (port, now)
  }

  func port(of address: HardwareAddress, now: UInt64 = MonotonicClock.now) -> String? {
    guard let entry = entries[address], now &- entry.time < Self.age else { return nil }
    return entry.port
  }
}

extension HardwareAddress {
  init(wire bytes: UnsafeRawPointer) {
    var value: UInt64 = 0
    for index in 0..<6 {
      value = value << 8 | UInt64(bytes.load(fromByteOffset: index, as: UInt8.self))
    }
    self.init(value)
  }
}
