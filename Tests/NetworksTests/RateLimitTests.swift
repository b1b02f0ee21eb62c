import Devices
import Networks
import Platform
import Synchronization
import Testing

@Suite struct RateLimitTests {
  /// A network that gives every frame back.
  private final class Mirror: NetworkBackend {
    let takes: NetworkOffloads = []
    let gives: NetworkOffloads = []
    let maximumTransmissionUnit: UInt16 = 1500
    let count = Mutex(0)

    func connect(_ receiver: any NetworkReceiver) {}
    func transmit(
      _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
      from receiver: any NetworkReceiver
    ) {
      count.withLock { $0 += 1 }
      receiver.deliver(UnsafeRawBufferPointer(frame), header)
    }
    func prepare(_ set: PollSet, for receiver: any NetworkReceiver) {}
    func serve(_ set: PollSet, for receiver: any NetworkReceiver) {}
  }

  /// 4 Mbit/s carries 100 frames of 1000 bytes in 200 ms.
  @Test func framesPassAtTheRateAndInOrder() {
    let mirror = Mirror()
    let network = RateLimitedNetwork(mirror, rate: 4_000_000)
    let guest = FrameGuest()
    network.connect(guest)
    let begin = MonotonicClock.now
    for number in 0..<100 {
      guest.send([UInt8](repeating: UInt8(number), count: 1000), to: network)
    }
    let atOnce = mirror.count.withLock { $0 }
    #expect(atOnce > 5 && atOnce < 20)
    var received = 0
    while received < 100, MonotonicClock.now - begin < 3_000_000_000 {
      guest.turn(network, milliseconds: 50)
      received = guest.frames.withLock { $0.count }
    }
    let time = MonotonicClock.now - begin
    #expect(time > 150_000_000 && time < 600_000_000, "\(time)")
    let order = guest.frames.withLock { $0.map { Int($0.0[0]) } }
    #expect(order == Array(0..<100))
    #expect(network.cable.framesLost == 0)
  }

  @Test func aFloodIsLostBeyondABoundAndCounted() {
    let network = RateLimitedNetwork(Mirror(), rate: 1_000_000)
    let guest = FrameGuest()
    network.connect(guest)
    for _ in 0..<2000 { guest.send([UInt8](repeating: 1, count: 1000), to: network) }
    #expect(network.cable.framesLost > 1800)
    // A frame that is larger than what may pass at once passes all the same.
    let large = RateLimitedNetwork(Mirror(), rate: 8000)
    large.connect(guest)
    guest.frames.withLock { $0 = [] }
    guest.send([UInt8](repeating: 2, count: 60_000), to: large)
    #expect(guest.frames.withLock { $0.count } == 1)
  }

  @Test func theRateMayChangeWhileFramesWait() {
    let mirror = Mirror()
    let network = RateLimitedNetwork(mirror, rate: nil)
    let guest = FrameGuest()
    network.connect(guest)
    func send(_ count: Int) {
      for _ in 0..<count { guest.send([UInt8](repeating: 1, count: 1000), to: network) }
    }
    func passed() -> Int { mirror.count.withLock { $0 } }
    // No limit: everything passes, both ways, and nobody has to wait.
    send(1000)
    #expect(passed() == 1000)
    #expect(guest.frames.withLock { $0.count } == 1000)
    #expect(network.rate == nil)
    // 80 kbit/s are 10 frames a second.
    network.setRate(80_000)
    #expect(network.rate == 80_000)
    send(50)
    #expect(passed() < 1005)
    let wakes = guest.wakes.load(ordering: .relaxed)
    #expect(wakes == 1)
    // What waits goes as soon as it may.
    network.setRate(nil)
    #expect(guest.wakes.load(ordering: .relaxed) == 2)
    guest.turn(network, milliseconds: 1)
    #expect(passed() == 1050)
    #expect(guest.frames.withLock { $0.count } == 1050)
    #expect(network.cable.framesLost == 0)
    // An adapter that is not the one connected last is ignored.
    let other = FrameGuest()
    other.send([UInt8](repeating: 1, count: 1000), to: network)
    #expect(passed() == 1050)
  }

  @Test func ratesAreReadAsPeopleWriteThem() {
    for (text, bits) in [
      ("10M", UInt64(10_000_000)), ("64k", 64_000), ("64K", 64_000),
      ("1G", 1_000_000_000), ("8000", 8000), ("1500", 0), ("", 0), ("M", 0), ("-1M", 0),
      ("101G", 0), ("18446744073709551615G", 0), ("1.5M", 0),
    ] {
      #expect(BitRate.read(text) == (bits == 0 ? nil : bits), "\(text)")
    }
    #expect(BitRate.text(10_000_000) == "10M")
    #expect(BitRate.text(1_500_000) == "1500k")
  }
}
