// The short way for a request whose bytes lie in one piece of one file: the kernel can move them on its own.
import CLinux

/// Where a request's bytes lie in a file of the host. Until it is ended the place belongs to the request.
package struct DirectTransfer {
  package var descriptor: Int32
  package var offset: UInt64
  /// Of the owner's gate; 0 where it has none.
  package var generation: UInt64
}

/// What a disk says about a request without doing it.
package enum DirectAnswer {
  /// The bytes are in one place, which belongs to the request until the claim is ended.
  case transfer(DirectClaim)
  /// A read of what no layer has: zeros, and nothing to end.
  case zeros
}

/// A disk that can say where the bytes of a request lie.
package protocol DirectlyAccessible: BlockDevice {
  /// Claims the place of a request's bytes; nil when there is more to do than moving bytes: allocating, copying,
  /// decompressing, looking into several pieces, or reporting an error.
  ///
  /// - Parameter alignment: the request's addresses and lengths, or-ed.
  func beginDirect(isWrite: Bool, at offset: UInt64, count: UInt64, alignment: UInt64)
    -> DirectAnswer?
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
    -> DirectAnswer?
  {
    guard canTransfer(isWrite: isWrite), isInside(offset, count),
      let descriptor = storage.descriptor(forAlignment: alignment | offset, isWrite: isWrite)
    else { return nil }
    let transfer = DirectTransfer(descriptor: descriptor, offset: offset, generation: 0)
    return .transfer(DirectClaim(transfer: transfer, owner: self))
  }

  package func endDirect(_ transfer: DirectTransfer) {}
}

extension Qcow2Image: DirectlyAccessible {
  /// Where the whole of a stretch is.
  private enum Place {
    case host(UInt64)
    case zeros
    /// Not in this layer.
    case below
    /// In pieces, or not to be had by moving bytes alone.
    case elsewhere
  }

  package func beginDirect(isWrite: Bool, at offset: UInt64, count: UInt64, alignment: UInt64)
    -> DirectAnswer?
  {
    guard !(isWrite && isReadOnly), isInside(offset, count), let generation = tryBegin() else {
      return nil
    }
    let place = place(isWrite: isWrite, at: offset, count: count)
    if case .host(let host) = place,
      let descriptor = dataStorage.descriptor(forAlignment: alignment | host, isWrite: isWrite)
    {
      let transfer = DirectTransfer(descriptor: descriptor, offset: host, generation: generation)
      return .transfer(DirectClaim(transfer: transfer, owner: self))
    }
    gate.leave(generation)
    switch place {
    case .host, .elsewhere: return nil
    case .zeros: return .zeros
    case .below:
      guard let backing, offset < backing.size else { return .zeros }
      // It is the business of the layer below alone, which cannot change under the request.
      return directBacking?.beginDirect(
        isWrite: false, at: offset, count: count, alignment: alignment)
    }
  }

  package func endDirect(_ transfer: DirectTransfer) { gate.leave(transfer.generation) }

  /// Finds a stretch; a place to write to is plain data that is ours alone.
  private func place(isWrite: Bool, at offset: UInt64, count: UInt64) -> Place {
    lock.lock()
    defer { lock.unlock() }
    guard failure == nil, let run = try? mapping(at: offset, limit: count), run.count >= count
    else { return .elsewhere }
    if isWrite {
      guard run.kind == .data, run.isCopied, isTableWritable(offset >> geometry.clusterBits),
        (try? requireData(run.host, count: run.count)) != nil
      else { return .elsewhere }
      return .host(run.host)
    }
    switch run.kind {
    case .data: return .host(run.host)
    case .zero: return .zeros
    case .unallocated: return .below
    case .compressed: return .elsewhere
    }
  }
}

extension BlockDevice {
  /// Whether a request lies inside the disk and is not empty.
  fileprivate func isInside(_ offset: UInt64, _ count: UInt64) -> Bool {
    count > 0 && offset <= size && count <= size - offset
  }
}
