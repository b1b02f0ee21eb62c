// What a driver says on the control queue (Virtual I/O Device 1.2, 5.1.6.5), and what the host decides: address, link.

import Platform
import Synchronization

/// State of an adapter that both its thread and others look at.
final class VirtioNetworkControl: Sendable {
  private enum Class {
    static let receive: UInt8 = 0
    static let address: UInt8 = 1
    static let network: UInt8 = 2
    static let announce: UInt8 = 3
    static let pairs: UInt8 = 4
    static let offloads: UInt8 = 5
  }

  private struct Guarded {
    var address: HardwareAddress
    var filter = ReceiveFilter()
    var isUp = true
    var mustAnnounce = false
  }

  /// What the host gave the adapter; the guest may use another unless it is locked.
  let assigned: HardwareAddress
  let neighbors: GuestNeighbors
  private let guarded: Mutex<Guarded>

  init(address: HardwareAddress, neighbors: GuestNeighbors) {
    assigned = address
    self.neighbors = neighbors
    guarded = Mutex(Guarded(address: address))
  }

  var address: HardwareAddress {
    get { guarded.withLock { $0.address } }
    set { guarded.withLock { $0.address = newValue } }
  }

  private let failed = Atomic<Bool>(false)

  /// The driver broke a rule on some queue: none is touched until the next reset.
  var hasFailed: Bool { failed.load(ordering: .acquiring) }
  func fail() { failed.store(true, ordering: .releasing) }

  var isUp: Bool { guarded.withLock { $0.isUp } }

  /// Returns whether that is new.
  func setUp(_ up: Bool) -> Bool {
    guarded.withLock { state in
      defer { state.isUp = up }
      return state.isUp != up
    }
  }

  /// The driver is to tell switches where it is now.
  func announce() { guarded.withLock { $0.mustAnnounce = true } }

  /// VIRTIO_NET_S_LINK_UP and VIRTIO_NET_S_ANNOUNCE.
  var status: UInt16 { guarded.withLock { ($0.isUp ? 1 : 0) | ($0.mustAnnounce ? 2 : 0) } }

  func accepts(_ frame: UnsafeRawBufferPointer) -> Bool {
    guarded.withLock { $0.filter.accepts(frame, own: $0.address) }
  }

  func reset() {
    failed.store(false, ordering: .releasing)
    guarded.withLock { state in
      state.address = assigned
      state.filter = ReceiveFilter()
      state.mustAnnounce = false
    }
  }

  /// Carries out the command in `chain`. Returns whether it was one.
  func execute(
    _ chain: VirtioChain, setOffloads: (NetworkOffloads) -> Void, setPairs: (Int) -> Bool
  ) -> Bool {
    guard let kind = take(chain, 1)?.first, let command = take(chain, 1)?.first else {
      return false
    }
    switch kind {
    case Class.receive: return setMode(command, chain)
    case Class.address:
      return command == 0 ? setTables(chain) : command == 1 && setAddress(chain)
    case Class.network: return setNetwork(command, chain)
    case Class.announce:
      guard command == 0 else { return false }
      guarded.withLock { $0.mustAnnounce = false }
      return true
    case Class.pairs:
      // VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET alone: there is no receive-side scaling.
      guard command == 0, let bytes = take(chain, 2) else { return false }
      return setPairs(Int(bytes[0]) | Int(bytes[1]) << 8)
    case Class.offloads:
      guard command == 0, let bytes = take(chain, 8) else { return false }
      var bits: UInt64 = 0
      for byte in bytes.reversed() { bits = bits << 8 | UInt64(byte) }
      setOffloads(VirtioNetwork.offloadsForDriver(VirtioFeatures(rawValue: bits)))
      return true
    default: return false
    }
  }

  private func take(_ chain: VirtioChain, _ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    return bytes.withUnsafeMutableBytes { chain.takeFront($0) } ? bytes : nil
  }

  private func setMode(_ command: UInt8, _ chain: VirtioChain) -> Bool {
    guard command < 6, let on = take(chain, 1)?.first else { return false }
    let mode = ReceiveFilter.Modes(rawValue: 1 << command)
    guarded.withLock { state in
      if on != 0 { state.filter.modes.insert(mode) } else { state.filter.modes.remove(mode) }
    }
    return true
  }

  private func setAddress(_ chain: VirtioChain) -> Bool {
    guard let bytes = take(chain, 6) else { return false }
    address =
      bytes.withUnsafeBufferPointer { $0.baseAddress.map { HardwareAddress($0) } } ?? assigned
    return true
  }

  /// Two tables, unicast and multicast, each a count and so many addresses.
  private func setTables(_ chain: VirtioChain) -> Bool {
    guard let unicast = takeTable(chain), let multicast = takeTable(chain) else { return false }
    guarded.withLock { state in
      state.filter.unicast = unicast.addresses
      state.filter.unicastOverflows = unicast.overflows
      state.filter.multicast = multicast.addresses
      state.filter.multicastOverflows = multicast.overflows
    }
    return true
  }

  private func takeTable(
    _ chain: VirtioChain
  ) -> (addresses: Set<HardwareAddress>, overflows: Bool)? {
    guard let bytes = take(chain, 4) else { return nil }
    let count =
      UInt32(bytes[0]) | UInt32(bytes[1]) << 8 | UInt32(bytes[2]) << 16
      | UInt32(bytes[3]) << 24
    guard UInt64(count) * 6 <= chain.readableBytes, count <= 4096 else { return nil }
    var addresses: Set<HardwareAddress> = []
    for _ in 0..<count {
      guard let bytes = take(chain, 6) else { return nil }
      guard addresses.count <= ReceiveFilter.addressLimit else { continue }
      bytes.withUnsafeBufferPointer { bytes in
        if let base = bytes.baseAddress { addresses.insert(HardwareAddress(base)) }
      }
    }
    let overflows = addresses.count > ReceiveFilter.addressLimit
    return (overflows ? [] : addresses, overflows)
  }

  private func setNetwork(_ command: UInt8, _ chain: VirtioChain) -> Bool {
    guard command < 2, let bytes = take(chain, 2) else { return false }
    let number = Int(bytes[0]) | Int(bytes[1]) << 8
    guard number < 4096 else { return false }
    guarded.withLock { state in
      var table = state.filter.networks ?? Array(repeating: 0, count: 64)
      let bit: UInt64 = 1 << UInt64(number & 63)
      if command == 0 { table[number >> 6] |= bit } else { table[number >> 6] &= ~bit }
      state.filter.networks = table
    }
    return true
  }

  /// A driver that takes the VLAN feature filters from the beginning.
  func startFilteringNetworks() {
    guarded.withLock { $0.filter.networks = Array(repeating: 0, count: 64) }
  }

  // MARK: Saved state

  struct State: Codable, Sendable {
    var address: HardwareAddress
    var filter: ReceiveFilter
    var isUp: Bool
    var offloads: NetworkOffloads
  }

  func save(_ offloads: NetworkOffloads) -> State {
    guarded.withLock { state in
      State(address: state.address, filter: state.filter, isUp: state.isUp, offloads: offloads)
    }
  }

  func restore(_ saved: State) {
    guarded.withLock { state in
      state.address = saved.address
      state.filter = saved.filter
      if let networks = saved.filter.networks, networks.count != 64 {
        state.filter.networks = nil
      }
      state.isUp = saved.isUp
    }
  }
}
