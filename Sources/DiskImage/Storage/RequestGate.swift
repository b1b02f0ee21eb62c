// Who is inside the image right now. Two needs, one counter: stopping all requests for an operation on the whole image
// (snapshot, resize), and knowing when no request can still use a cluster that was freed.
import CLinux
import Synchronization

/// Counts requests in two alternating generations.
final class RequestGate: @unchecked Sendable {
  private let even = Atomic<Int>(0)
  private let odd = Atomic<Int>(0)
  private let generation = Atomic<UInt64>(0)
  private let isShut = Atomic<Bool>(false)
  private let lock = ConditionLock()
  /// Held from `shut` to `open`: one operation on the whole image at a time.
  private let whole = ConditionLock()

  /// A request begins. Waits while the gate is shut. The answer goes to `leave`.
  @inline(__always)
  func enter() -> UInt64 {
    while true {
      if let entered = tryEnter() { return entered }
      waitUntilOpen()
    }
  }

  /// As `enter`, but nil while the gate is shut, or when a generation ends at this moment.
  @inline(__always)
  func tryEnter() -> UInt64? {
    let current = generation.load(ordering: .sequentiallyConsistent)
    add(current, 1)
    if !isShut.load(ordering: .sequentiallyConsistent)
      && generation.load(ordering: .sequentiallyConsistent) == current
    {
      return current
    }
    leave(current)
    return nil
  }

  /// The request has ended.
  @inline(__always)
  func leave(_ entered: UInt64) {
    add(entered, -1)
    if isShut.load(ordering: .sequentiallyConsistent) {
      lock.lock()
      lock.broadcast()
      lock.unlock()
    }
  }

  @inline(__always)
  private func add(_ generation: UInt64, _ step: Int) {
    if generation & 1 == 0 {
      even.wrappingAdd(step, ordering: .sequentiallyConsistent)
    } else {
      odd.wrappingAdd(step, ordering: .sequentiallyConsistent)
    }
  }

  private func count(_ generation: UInt64) -> Int {
    generation & 1 == 0
      ? even.load(ordering: .sequentiallyConsistent)
      : odd.load(ordering: .sequentiallyConsistent)
  }

  private func waitUntilOpen() {
    guard isShut.load(ordering: .sequentiallyConsistent) else { return }
    lock.lock()
    while isShut.load(ordering: .sequentiallyConsistent) { lock.wait() }
    lock.unlock()
  }

  /// Waits until no request is inside, and lets none in until `open`.
  func shut() {
    whole.lock()
    isShut.store(true, ordering: .sequentiallyConsistent)
    lock.lock()
    while count(0) != 0 || count(1) != 0 { lock.wait() }
    lock.unlock()
  }

  /// As `shut`, but gives up, with the gate open, when requests are still inside after so long.
  func shut(milliseconds: Int) -> Bool {
    whole.lock()
    isShut.store(true, ordering: .sequentiallyConsistent)
    for _ in 0..<max(1, milliseconds &* 20) {
      if count(0) == 0 && count(1) == 0 { return true }
      usleep(50)
    }
    open()
    return false
  }

  func open() {
    lock.lock()
    isShut.store(false, ordering: .sequentiallyConsistent)
    lock.broadcast()
    lock.unlock()
    whole.unlock()
  }

  /// The generation that a cluster freed now belongs to.
  var current: UInt64 { generation.load(ordering: .sequentiallyConsistent) }

  /// Whether every request that ran in `freed` or before has ended. Callers hold one lock of their own: the generation
  /// is moved on here.
  func hasPassed(_ freed: UInt64) -> Bool {
    while true {
      let now = generation.load(ordering: .sequentiallyConsistent)
      if now >= freed + 2 { return true }
      // The other counter is that of the generation before: it must be empty before it is used again.
      if count(now + 1) != 0 { return false }
      generation.store(now + 1, ordering: .sequentiallyConsistent)
    }
  }
}
