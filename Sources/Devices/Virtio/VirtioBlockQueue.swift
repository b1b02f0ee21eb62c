// One request queue of a virtio disk with the thread that serves it: many requests in flight where the disk can, one by
// one where it cannot. Answers come in the order in which the disk is done (Virtual I/O Device 1.2, 5.2.6.1).

import CLinux
import Platform

/// Owned by its disk.
final class VirtioBlockQueue: VirtioQueueThread, @unchecked Sendable {
  private let state: State

  /// Requests in flight at most; each has lists for a chain of any length.
  private static let depth = 64

  private final class State: VirtioQueueEngine, @unchecked Sendable {
    // @unchecked: touched by a step or a holder of the worker only.
    struct Slot {
      var request: VirtioBlockRequest
      var transfer: BlockTransfer
    }

    var queue: VirtioQueue?
    var link: VirtioLink?
    /// The owner, which stops the thread before it goes.
    unowned(unsafe) var disk: VirtioBlock?
    var transfers: (any BlockTransferQueue)?
    var slots: [Slot?] = Array(repeating: nil, count: VirtioBlockQueue.depth)
    /// Chains that no request uses. Made when they are needed.
    var idleChains: [VirtioChain] = []
    var idleSlots = Array((0..<VirtioBlockQueue.depth).reversed())

    /// Takes answers and new requests.
    func step() -> Bool {
      guard let queue, let link, let disk else { return false }
      var gave = collect(queue, disk, waits: false)
      var mayBeMore = false
      do throws(VirtioViolation) {
        queue.suppressNotifications()
        mayBeMore = try takeRequests(queue, disk, &gave)
      } catch {
        settle()
        self.queue = nil
        link.fail(error)
        return false
      }
      transfers?.commit()
      if collect(queue, disk, waits: false) { gave = true }
      if gave && queue.wantsInterrupt() { link.signal(queue: queue.index) }
      return mayBeMore
    }

    /// - Returns: whether there may be more in the queue.
    private func takeRequests(
      _ queue: VirtioQueue, _ disk: VirtioBlock, _ gave: inout Bool
    ) throws(VirtioViolation) -> Bool {
      // A disk that is asked one by one may be slow: whoever holds the worker waits for one request, not for many.
      for _ in 0..<(transfers == nil ? 1 : VirtioBlockQueue.depth) {
        // With all slots in use the next answer brings the next step.
        guard let slot = idleSlots.last else { return false }
        let chain = idleChains.popLast() ?? VirtioChain()
        guard try queue.take(into: chain) else {
          idleChains.append(chain)
          return queue.allowNotifications()
        }
        let (request, work) = try begin(chain, queue, disk)
        switch work {
        case .done(let status): give(request, status, queue, disk)
        case .alone(let kind, let sector):
          finishTransfers(queue, disk)
          give(request, disk.perform(kind, sector: sector, chain), queue, disk)
        case .transfer(let transfer, let offset):
          let vectors = transfer == .read ? chain.writable : chain.filledReadable
          if let transfers, transfers.submit(transfer, vectors, at: offset, token: slot) {
            idleSlots.removeLast()
            slots[slot] = Slot(request: request, transfer: transfer)
            continue
          }
          // No room is no error: the guest would take its disk for broken. With nothing in flight it is done here.
          finishTransfers(queue, disk)
          give(request, disk.carryOut(transfer, request, at: offset), queue, disk)
        }
        gave = true
      }
      return true
    }

    /// The disk may let nothing in until all that is inside has ended, as for a snapshot. A request that waits for this
    /// thread to reap its transfers would wait for itself.
    private func finishTransfers(_ queue: VirtioQueue, _ disk: VirtioBlock) {
      guard let transfers else { return }
      while transfers.inFlight > 0 {
        transfers.commit()
        _ = collect(queue, disk, waits: true)
      }
    }

    private func begin(
      _ chain: VirtioChain, _ queue: VirtioQueue, _ disk: VirtioBlock
    ) throws(VirtioViolation) -> (VirtioBlockRequest, VirtioBlockRequest.Work) {
      do throws(VirtioViolation) {
        return try disk.begin(chain, defers: transfers != nil)
      } catch {
        queue.markWritten(chain)
        throw error
      }
    }

    /// Gives back what the disk has done.
    private func collect(_ queue: VirtioQueue, _ disk: VirtioBlock, waits: Bool) -> Bool {
      guard let transfers else { return false }
      var gave = false
      transfers.reap(waits: waits) { token, error in
        guard let slot = slots[token] else { return }
        slots[token] = nil
        idleSlots.append(token)
        give(slot.request, disk.finish(slot.transfer, slot.request, error), queue, disk)
        gave = true
      }
      return gave
    }

    private func give(
      _ request: VirtioBlockRequest, _ status: VirtioBlock.Status, _ queue: VirtioQueue,
      _ disk: VirtioBlock
    ) {
      disk.answer(request, status)
      queue.give(request.chain, written: request.written)
      idleChains.append(request.chain)
    }

    var descriptor: Int32 {
      guard let transfers, transfers.inFlight > 0 else { return -1 }
      return transfers.descriptor
    }

    func settle() {
      guard let queue, let link, let disk, let transfers else { return }
      var gave = false
      while transfers.inFlight > 0 {
        transfers.commit()
        if collect(queue, disk, waits: true) { gave = true }
      }
      if gave && queue.wantsInterrupt() { link.signal(queue: queue.index) }
    }
  }

  init(name: String) throws(PlatformError) {
    let state = State()
    self.state = state
    try super.init(name: name, state)
  }

  func attach(_ disk: VirtioBlock, link: VirtioLink) {
    change {
      state.disk = disk
      state.link = link
      state.transfers = disk.backend.makeTransferQueue(depth: Self.depth)
    }
  }
}
