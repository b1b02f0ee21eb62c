import Devices
import Platform
import Synchronization

/// A network that sends every other frame back, as large segments now and then, and frames of its own when it is looked
/// at; in several queues, and together with another network if need be.
final class FuzzCable: NetworkBackend, @unchecked Sendable {
  // @unchecked: `random` and `count` are used by the adapter's thread, or whoever holds it still.
  let takes = NetworkOffloads.all
  let gives = NetworkOffloads.all
  let maximumTransmissionUnit: UInt16 = 1500
  let otherQueues: [any NetworkBackend]
  /// Of all queues.
  let use: QueueUse
  /// What is at the same end.
  private let companion: (any NetworkBackend)?
  private let quiet = Atomic<Bool>(false)
  private var count: UInt64 = 0
  private var random: SeededGenerator
  private let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)

  /// Which queues have carried a frame of the guest's.
  final class QueueUse: Sendable {
    private let bits = Atomic<UInt64>(0)
    func note(_ number: Int) { bits.bitwiseOr(1 << UInt64(number), ordering: .relaxed) }
    var count: Int { bits.load(ordering: .relaxed).nonzeroBitCount }
  }

  private let number: Int

  /// - Parameter queues: 1 or more.
  convenience init(queues: Int = 1, beside companion: (any NetworkBackend)? = nil) {
    self.init(0, of: queues, beside: companion, QueueUse())
  }

  private init(
    _ number: Int, of queues: Int, beside companion: (any NetworkBackend)?, _ use: QueueUse
  ) {
    self.number = number
    self.use = use
    self.companion = companion
    random = SeededGenerator(seed: UInt64(number))
    otherQueues =
      number > 0 ? [] : (1..<queues).map { FuzzCable($0, of: queues, beside: nil, use) }
    bytes.initializeMemory(as: UInt8.self, repeating: 0x45)
  }

  deinit { bytes.deallocate() }

  /// While set, nothing comes but what the guest sends, all of it and as it was. An adapter that is paused and resumed
  /// afterwards carries nothing else any more.
  var isQuiet: Bool {
    get { quiet.load(ordering: .acquiring) }
    set { quiet.store(newValue, ordering: .releasing) }
  }

  func connect(_ receiver: any NetworkReceiver) { companion?.connect(receiver) }
  func setMuted(_ muted: Bool, for receiver: any NetworkReceiver) {
    companion?.setMuted(muted, for: receiver)
  }

  func transmit(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkHeader,
    from receiver: any NetworkReceiver
  ) {
    if isQuiet { return receiver.deliver(UnsafeRawBufferPointer(frame), header) }
    count &+= 1
    use.note(number)
    if count & 3 == 0 { companion?.transmit(frame, header, from: receiver) }
    if header.needsChecksum {
      InternetChecksum.complete(
        frame, start: header.checksumStart, offset: header.checksumOffset)
    }
    if count & 1 == 0 { receiver.deliver(UnsafeRawBufferPointer(frame), header) }
  }

  func prepare(_ set: PollSet, for receiver: any NetworkReceiver) {
    if isQuiet { return }
    companion?.prepare(set, for: receiver)
  }

  func serve(_ set: PollSet, for receiver: any NetworkReceiver) {
    if isQuiet { return }
    companion?.serve(set, for: receiver)
    guard random.rarely(4) else { return }
    let size = random.rarely(8) ? random.below(UInt64(bytes.count)) : 14 + random.below(1500)
    for index in 0..<6 { bytes[index] = random.rarely(2) ? 0xFF : 2 }
    var header = NetworkHeader()
    header.needsChecksum = random.rarely(4)
    header.checksumStart = UInt16(truncatingIfNeeded: random.rarely(4) ? random.next() : 34)
    header.checksumOffset = 16
    receiver.deliver(UnsafeRawBufferPointer(rebasing: bytes.prefix(Int(size))), header)
  }
}
