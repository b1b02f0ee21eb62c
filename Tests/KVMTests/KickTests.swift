import Glibc
import GuestMemory
import KVM
import Platform
import Processor
import Synchronization
import Testing

/// `interrupt()` from another thread ends `run`, whatever the processor is doing, and no call is lost.
@Suite(.enabled(if: hostHasKVM, "needs /dev/kvm"), .timeLimit(.minutes(1)), .serialized)
struct KickTests {
  /// What the kicking and the running thread tell each other.
  private final class Conversation: Sendable {
    /// Kicks that were asked for. Written before the kick.
    let wanted = Atomic<Int>(0)
    /// The last kick that the running thread has seen after `.interrupted`.
    let seen = Atomic<Int>(0)
    let isOver = Atomic<Bool>(false)
    let failure = Mutex<String?>(nil)
  }

  enum Guests: CaseIterable {
    /// Never leaves the guest by itself.
    case endlessLoop
    /// Leaves all the time: kicks come between exits.
    case portWrites
    /// Sleeps in the kernel.
    case halt
  }

  private func makeGuest(_ kind: Guests) throws -> Guest {
    switch kind {
    case .endlessLoop:
      let guest = try Guest([0xEB, 0xFE])  // jmp to itself
      try guest.startReal()
      return guest
    case .portWrites:
      let guest = try Guest([0xE6, 0x80, 0xEB, 0xFC])  // out 0x80, al; again
      try guest.startReal()
      return guest
    case .halt:
      let guest = try Guest([0xF4, 0xEB, 0xFD], chips: .kernel)  // hlt; again
      try guest.startReal()
      return guest
    }
  }

  @Test(arguments: Guests.allCases)
  func noneOfAThousandKicksIsLost(_ kind: Guests) throws {
    let guest = try makeGuest(kind)
    let conversation = Conversation()
    let runner = try PosixThread(name: "vcpu") {
      do {
        while !conversation.isOver.load(ordering: .acquiring) {
          guard case .interrupted = try guest.processor.run() else { continue }
          conversation.seen.store(
            conversation.wanted.load(ordering: .sequentiallyConsistent),
            ordering: .sequentiallyConsistent)
        }
      } catch {
        conversation.failure.withLock { $0 = "\(error)" }
      }
    }
    var lost = 0
    for number in 1...1000 {
      conversation.wanted.store(number, ordering: .sequentiallyConsistent)
      guest.processor.interrupt()
      let deadline = MonotonicClock.now + 2_000_000_000
      while conversation.seen.load(ordering: .sequentiallyConsistent) < number {
        if MonotonicClock.now > deadline {
          lost += 1
          break
        }
        // Different lengths, so that kicks meet all moments of the other thread's loop.
        if number % 3 == 0 { sched_yield() } else { usleep(UInt32(number % 7)) }
      }
      if lost > 0 { break }
    }
    #expect(lost == 0)
    conversation.isOver.store(true, ordering: .releasing)
    guest.processor.interrupt()
    runner.join()
    #expect(conversation.failure.withLock { $0 } == nil)
  }

  @Test func kickBeforeTheRunIsNotLost() throws {
    let guest = try makeGuest(.endlessLoop)
    guest.processor.interrupt()
    #expect(try guest.processor.run().isInterrupted)
  }

  @Test func kickIsReportedOnce() throws {
    let guest = try makeGuest(.portWrites)
    guest.processor.interrupt()
    guest.processor.interrupt()
    #expect(try guest.processor.run().isInterrupted)
    guard case .portWrite = try guest.processor.run() else {
      Issue.record("interrupted twice")
      return
    }
  }

  /// Saving finishes the instruction with the same flag that a kick uses: the kick must survive it.
  @Test func kickSurvivesACompletion() throws {
    let guest = try makeGuest(.portWrites)
    guard case .portWrite = try guest.processor.run() else {
      Issue.record("no exit")
      return
    }
    guest.processor.interrupt()
    #expect(try guest.processor.completeExit() == nil)
    _ = try guest.processor.saveState()
    #expect(try guest.processor.run().isInterrupted)
  }
}

/// Exits carry pointers and have no equality: for `== nil` in expectations.
private func == (left: ProcessorExit?, right: _OptionalNilComparisonType) -> Bool {
  if case .none = left { true } else { false }
}
