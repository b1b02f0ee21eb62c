import Platform
import Synchronization

/// Dirty tracking of the writes that this process makes for devices and processors in software. What the kernel's
/// processors write is in KVM's own log (KVM_GET_DIRTY_LOG), which `DirtyPages.formUnion` takes in.
extension GuestMemory {
  /// Begins with no page marked; call it with devices and processors paused, and copy everything afterwards.
  ///
  /// - Throws: `.system` when the host has no memory for the bitmap.
  public func startDirtyTracking() throws(GuestMemoryError) {
    do throws(PlatformError) {
      try tracking.withLock { (bitmap) throws(PlatformError) in
        if let bitmap { return bitmap.clear() }
        let created = try DirtyBitmap(pageCount: size / Self.pageSize)
        bitmap = created
        // Kept until this object goes: a late marker may still hold the pointer.
        dirtyBitmap.store(
          UnsafeRawPointer(Unmanaged.passUnretained(created).toOpaque()), ordering: .releasing)
      }
    } catch {
      throw .system(error)
    }
    isTracking.store(true, ordering: .sequentiallyConsistent)
  }

  /// Ends tracking. What was marked is forgotten by the next start.
  public func stopDirtyTracking() {
    isTracking.store(false, ordering: .sequentiallyConsistent)
  }

  public var isTrackingDirtyPages: Bool { isTracking.load(ordering: .relaxed) }

  /// Whether anybody wants to know of writes: a snapshot, or processors that keep decoded code.
  @inlinable @inline(__always)
  public var wantsMarks: Bool {
    isTracking.load(ordering: .relaxed) || isObserved.load(ordering: .relaxed)
  }

  /// Has `body` told of what is marked as written: address and bytes. nil ends it.
  ///
  /// For processors that keep decoded code. Called on devices' threads; set while no device works.
  public func observeWrites(_ body: (@Sendable (GuestAddress, UInt64) -> Void)?) {
    observer.withLock { $0 = body.map { WriteObserver(body: $0) } }
    isObserved.store(body != nil, ordering: .sequentiallyConsistent)
  }

  private func tell(_ start: UnsafeRawPointer, _ count: Int) {
    guard let region = regions.last(where: { start >= UnsafeRawPointer($0.host) }) else { return }
    let address = region.base &+ UInt64(start - UnsafeRawPointer(region.host))
    observer.withLock { $0 }?.body(address, UInt64(count))
  }

  /// Takes the pages of a region that were marked since the last call, and clears their marks.
  ///
  /// - Parameter index: of `regions`; the slot of the same number has the same pages.
  public func takeDirtyPages(ofRegion index: Int) -> DirtyPages? {
    guard regions.indices.contains(index) else { return nil }
    let region = regions[index]
    let count = region.size / Self.pageSize
    let first = FrameNumber(containing: region.base)
    let words = tracking.withLock { bitmap in
      // Regions after the first begin at a multiple of 64 pages: 3 GiB.
      bitmap?.take(first: region.fileOffset / Self.pageSize, count: count)
    }
    guard let words else { return DirtyPages(first: first, count: Int(count)) }
    return DirtyPages(first: first, count: Int(count), words: words)
  }

  /// Marks pages that were written through a pointer. After the write.
  @inlinable @inline(__always)
  public func markDirty(at address: GuestAddress, count: Int) {
    guard wantsMarks, count > 0,
      let start = pointer(at: address, count: UInt64(count))
    else { return }
    mark(start, count)
  }

  /// As above, for memory of this object's by its place in this process.
  @inlinable @inline(__always)
  public func markDirty(host start: UnsafeRawPointer, count: Int) {
    if wantsMarks { mark(start, count) }
  }

  /// Marks what a processor in software has written. Its own decoded code is its own business: the observer is not told.
  ///
  /// - Parameter start: in the host's memory; what is not this object's is ignored.
  package func recordStore(host start: UnsafeRawPointer, count: UInt64) {
    guard start >= UnsafeRawPointer(lowHost),
      let bitmap = dirtyBitmap.load(ordering: .acquiring)
    else { return }
    let offset = UInt64(start - UnsafeRawPointer(lowHost))
    guard offset < size else { return }
    Unmanaged<DirtyBitmap>.fromOpaque(bitmap)._withUnsafeGuaranteedRef {
      $0.mark(offset: offset, count: count)
    }
  }

  /// Out of line: the way that is taken while nobody tracks stays short.
  @usableFromInline @inline(never)
  func mark(_ start: UnsafeRawPointer, _ count: Int) {
    guard count > 0, start >= UnsafeRawPointer(lowHost) else { return }
    if isObserved.load(ordering: .acquiring) { tell(start, count) }
    guard let bitmap = dirtyBitmap.load(ordering: .acquiring) else { return }
    let offset = UInt64(start - UnsafeRawPointer(lowHost))
    Unmanaged<DirtyBitmap>.fromOpaque(bitmap)._withUnsafeGuaranteedRef {
      $0.mark(offset: offset, count: UInt64(count))
    }
  }
}

/// Who wants to know of writes.
///
/// In a type of its own: a mutex around a bare closure converts it on every access, and keeps the conversion, so that a
/// chain of them grows without end.
struct WriteObserver: Sendable {
  let body: @Sendable (GuestAddress, UInt64) -> Void
}
