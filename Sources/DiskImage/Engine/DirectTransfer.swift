// The short way for a request whose bytes lie in one piece of one file: the kernel can move them on its own.
import CLinux

/// Where a request's bytes lie in a file of the host. Until it is ended the place belongs to the request.
package struct DirectTransfer {
  package var descriptor: Int32
  package var offset: UInt64
  /// Of the owner's gate; 0 where it has none.
  package var generation: UInt64
}

/// A disk that can say where the bytes of a request lie.
package protocol DirectlyAccessible: BlockDevice {
  /// Claims the place of a request's bytes; nil when there is more to do than moving bytes: allocating, copying,
  /// decompressing, looking into several pieces, or reporting an error.
  ///
  /// - Parameter alignment: the request's addresses and lengths, or-ed.
  func beginDirect(isWrite: Bool, at offset: UInt64, count: UInt64, alignment: UInt64)
    -> DirectClaim?
  /// The bytes have moved, or never will.
  func endDirect(_ transfer: DirectTransfer)
}

/// A claim and the disk of the chain that gave it.
package struct DirectClaim {
  package var transfer: DirectTransfer
  package var owner: any DirectlyAccessible
  /// Also of a disk around the owner, and the generation in which the request entered there.
  var gate: RequestGate?
  var entered: UInt64 = 0

  init(transfer: DirectTransfer, owner: any DirectlyAccessible) {
    self.transfer = transfer
    self.owner = owner
  }

  package func end() {
    owner.endDirect(transfer)
    gate?.leave(entered)
  }
}

extension RawImage: DirectlyAccessible {
  package func beginDirect(isWrite: Bool, at offset: UInt64, count: UInt64, alignment: UInt64)
    -> DirectClaim?
  {
    guard canTransfer(isWrite: isWrite), isInside(offset, count),
      let descriptor = storage.descriptor(forAlignment: alignment | offset, isWrite: isWrite)
    else { return nil }
    return DirectClaim(
      transfer: DirectTransfer(descriptor: descriptor, offset: offset, generation: 0), owner: self)
  }

  package func endDirect(_ transfer: DirectTransfer) {}
}

extension Qcow2Image: DirectlyAccessible {
  package func beginDirect(isWrite: Bool, at offset: UInt64, count: UInt64, alignment: UInt64)
    -> DirectClaim?
  {
    guard !(isWrite && isReadOnly), isInside(offset, count), let generation = tryBegin() else {
      return nil
    }
    var below: (any DirectlyAccessible)?
    if let host = place(isWrite: isWrite, at: offset, count: count, below: &below),
      let descriptor = dataStorage.descriptor(forAlignment: alignment | host, isWrite: isWrite)
    {
      return DirectClaim(
        transfer: DirectTransfer(descriptor: descriptor, offset: host, generation: generation),
        owner: self)
    }
    gate.leave(generation)
    // What the layer does not have is the business of the one below alone: it cannot change under the request.
    return below?.beginDirect(isWrite: false, at: offset, count: count, alignment: alignment)
  }

  package func endDirect(_ transfer: DirectTransfer) { gate.leave(transfer.generation) }

  /// The host offset of a stretch that is one piece of plain data, for a write one that is ours alone.
  private func place(
    isWrite: Bool, at offset: UInt64, count: UInt64, below: inout (any DirectlyAccessible)?
  ) -> UInt64? {
    lock.lock()
    defer { lock.unlock() }
    guard failure == nil, let run = try? mapping(at: offset, limit: count), run.count >= count
    else { return nil }
    if run.kind == .unallocated && !isWrite { below = backing as? any DirectlyAccessible }
    guard run.kind == .data else { return nil }
    if isWrite {
      guard run.isCopied, isTableWritable(offset >> geometry.clusterBits),
        (try? requireData(run.host, count: run.count)) != nil
      else { return nil }
    }
    return run.host
  }
}

extension BlockDevice {
  /// Whether a request lies inside the disk and is not empty.
  fileprivate func isInside(_ offset: UInt64, _ count: UInt64) -> Bool {
    count > 0 && offset <= size && count <= size - offset
  }
}
