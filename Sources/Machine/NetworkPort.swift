import Devices
import Networks
import Synchronization

/// An adapter's place on the board: the cable, and what outlives resets.
public final class NetworkPort: Sendable {
  public let configuration: NetworkConfiguration
  public let address: HardwareAddress
  /// The other end of the cable, behind what limits its rate.
  public let backend: RateLimitedNetwork
  private let network: any NetworkBackend
  public let statistics = NetworkStatistics()
  /// Addresses that the guest has been seen to use.
  public let neighbors = GuestNeighbors()

  private struct Guarded {
    var isUp: Bool
    var taps: [any NetworkTap] = []
    weak var adapter: (any NetworkAdapter)?
  }

  private let guarded: Mutex<Guarded>

  init(
    _ configuration: NetworkConfiguration, address: HardwareAddress, switches: String?
  ) throws(MachineError) {
    self.configuration = configuration
    self.address = address
    do throws(NetworkError) {
      let opened = try configuration.open(switches: switches)
      network = opened
      backend = RateLimitedNetwork(opened, rate: configuration.rate)
    } catch {
      throw MachineError(error.description)
    }
    guarded = Mutex(Guarded(isUp: configuration.isUp))
  }

  /// Lines for a person about the other end go to `notices`, with the adapter's number before them.
  func report(to notices: BoardNotices, index: Int) {
    backend.report { notices.send("network \(index): \($0)") }
  }

  /// The network in this process, if it is one.
  public var userNetwork: UserNetwork? { network as? UserNetwork }

  public var isUp: Bool { guarded.withLock { $0.isUp } }

  /// Puts the cable in or pulls it out, while the guest runs.
  public func setUp(_ up: Bool) {
    guarded.withLock { state -> (any NetworkAdapter)? in
      state.isUp = up
      return state.adapter
    }?.setUp(up)
  }

  /// Shows every frame to `tap` from now on.
  public func add(_ tap: any NetworkTap) {
    guarded.withLock { state -> (any NetworkAdapter)? in
      state.taps.append(tap)
      return state.adapter
    }?.add(tap)
  }

  public func remove(_ tap: any NetworkTap) {
    guarded.withLock { state -> (any NetworkAdapter)? in
      state.taps.removeAll { $0 === tap }
      return state.adapter
    }?.remove(tap)
  }

  /// An adapter of a new board.
  func connect(_ adapter: any NetworkAdapter) {
    let taps = guarded.withLock { state in
      state.adapter = adapter
      return state.taps
    }
    for tap in taps { adapter.add(tap) }
  }

  /// After the last board is gone.
  func close() { backend.close() }

  /// A local address made of 16 bytes that tell the machine from others, and the adapter's number.
  static func address(for identifier: [UInt8], index: Int) -> HardwareAddress {
    // FNV-1a: any spread of the bits will do.
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in identifier + [UInt8(truncatingIfNeeded: index)] {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
    }
    // Locally administered, for one station.
    return HardwareAddress(0x02 << 40 | (hash ^ hash >> 24) & 0xFF_FFFF_FFFF)
  }
}
