// Input: from clients into one bounded queue, from there to the guest as fast as its device takes it.

import CLinux
import Platform
import Synchronization

extension SerialMux {
  private static let shortestRetry: UInt64 = 20_000_000
  private static let longestRetry: UInt64 = 1_000_000_000

  /// Types bytes as if a client had sent them. From any thread. What does not fit into the queue is dropped.
  public func type(_ bytes: [UInt8]) {
    loop.perform { self.enqueueInput(bytes) }
  }

  /// Forgets input that the guest has not taken: the rest of a paste. From any thread.
  public func discardInput() {
    loop.perform {
      self.input.removeAll()
      self.inputDidChange()
    }
  }

  /// A break condition on the line. From any thread.
  public func sendBreak() {
    loop.perform { self.breakLine() }
  }

  /// Reads what a client sent.
  func readInput(_ client: Client) {
    var buffer = [UInt8](repeating: 0, count: 4096)
    do {
      let received = try buffer.withUnsafeMutableBytes { client.receive(into: $0) }.get()
      guard let count = received else { return }
      if count == 0 {
        client.inputEnded = true
        watchClients()
        if client.isDevice { detach(client, reason: "closed") }
      } else if !client.options.readOnly {
        enqueueInput(buffer.prefix(count))
      }
    } catch {
      // EIO is a pseudo-terminal's way to say that its slave was closed.
      detach(
        client, reason: error.code == EIO || error.code == ECONNRESET ? "closed" : error.reason)
      client.inputEnded = true
    }
  }

  /// Adds input and offers it to the guest.
  func enqueueInput(_ bytes: some Collection<UInt8>) {
    // A read that was under way when the queue filled up may go over the limit, by one buffer.
    let room = max(configuration.inputLimit, 0) + 4096 - input.count
    input.append(bytes.prefix(max(room, 0)))
    deliverInput()
  }

  /// Offers waiting input to the guest until it takes no more.
  func deliverInput() {
    var delivered = 0
    while !input.isEmpty {
      // Before the offer: room that comes between a refusal and a later note would be missed.
      inputWaits.store(true, ordering: .sequentiallyConsistent)
      let taken = input.offer(send)
      delivered += taken
      if taken == 0 { break }
    }
    if input.isEmpty { inputWaits.store(false, ordering: .releasing) }
    if delivered > 0 {
      published.withLock { $0.inputBytes += UInt64(delivered) }
      inputRetryDelay = Self.shortestRetry
    }
    inputDidChange()
  }

  /// Pauses or resumes reading from clients, and offers again later should the guest's device forget to ask.
  func inputDidChange() {
    let waiting = input.count
    published.withLock { $0.waitingInput = waiting }
    let pauses =
      inputIsPaused ? waiting > configuration.inputLimit / 2 : waiting >= configuration.inputLimit
    if pauses != inputIsPaused {
      inputIsPaused = pauses
      watchClients()
    }
    if let inputRetry {
      loop.cancel(inputRetry)
      self.inputRetry = nil
    }
    guard waiting > 0 else { return }
    inputRetryDelay = min(max(inputRetryDelay * 2, Self.shortestRetry), Self.longestRetry)
    inputRetry = loop.schedule(at: MonotonicClock.now + inputRetryDelay) { [weak self] in
      self?.inputRetry = nil
      self?.deliverInput()
    }
  }
}
