import Devices
import KVM
import Platform
import Synchronization

/// The MSI-X vectors of one function as irqfds: a device's thread raises an interrupt by writing to an eventfd.
///
/// Where the kernel refuses, the table delivers the message itself.
final class KernelVectors: MessageVectorBinding {
  private struct Vector {
    let number: UInt32
    let notifier: EventNotifier
    var message: MessageInterrupt
  }

  private let machine: VirtualMachine
  private let vectors = Mutex<[Vector?]>([])

  init(_ machine: VirtualMachine) { self.machine = machine }

  /// A masked vector keeps its route: the table raises none until it is unmasked, and routes are dear to change.
  func vectorDidChange(_ vector: Int, of table: MSIXTable, message: MessageInterrupt?) {
    guard let message else { return }
    vectors.withLock { vectors in
      while vectors.count <= vector { vectors.append(nil) }
      if vectors[vector]?.message != message { set(&vectors[vector], to: message) }
    }
  }

  private func set(_ vector: inout Vector?, to message: MessageInterrupt) {
    do {
      if let number = vector?.number {
        vector?.message = message
        try machine.setMessage(number, address: message.address, data: message.data)
        return
      }
      let number = try machine.allocateMessageNumber()
      do {
        let notifier = try EventNotifier()
        try machine.setMessage(number, address: message.address, data: message.data)
        try machine.attachInterrupt(number, to: notifier)
        vector = Vector(number: number, notifier: notifier, message: message)
      } catch {
        try? machine.releaseMessageNumber(number)
      }
    } catch {
      remove(&vector)
    }
  }

  private func remove(_ vector: inout Vector?) {
    guard let old = vector else { return }
    vector = nil
    try? machine.detachInterrupt(old.number, from: old.notifier)
    try? machine.releaseMessageNumber(old.number)
  }

  func deliver(_ vector: Int, of table: MSIXTable) -> Bool {
    vectors.withLock { vectors in
      guard vector < vectors.count, let bound = vectors[vector] else { return false }
      bound.notifier.signal()
      return true
    }
  }
}
