// Making compressed clusters, one at a time and by any number of threads.
import CLinux
import CZlib
import CZstd

/// Packs clusters; one object a thread.
final class ClusterCompressor {
  private let method: Qcow2Compression
  private let clusterSize: Int
  let output: AlignedBuffer
  private var deflate = z_stream()
  private let zstd: OpaquePointer?

  init(_ method: Qcow2Compression, clusterSize: UInt64) {
    self.method = method
    self.clusterSize = Int(clusterSize)
    output = AlignedBuffer(count: Int(clusterSize))
    if method == .deflate {
      zstd = nil
      // QEMU unpacks with a window of 4 KiB only.
      deflateInit2_(
        &deflate, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY, zlibVersion(),
        Int32(MemoryLayout<z_stream>.size))
    } else {
      zstd = ZSTD_createCCtx()
    }
  }

  deinit {
    if method == .deflate { deflateEnd(&deflate) }
    if let zstd { ZSTD_freeCCtx(zstd) }
  }

  /// Packs one cluster into `output`; nil when that makes it no smaller.
  func pack(_ input: UnsafeRawPointer) -> Int? {
    method == .deflate ? packDeflate(input) : packZstandard(input)
  }

  private func packDeflate(_ input: UnsafeRawPointer) -> Int? {
    guard deflateReset(&deflate) == Z_OK else { return nil }
    deflate.next_in = UnsafeMutablePointer(mutating: input.assumingMemoryBound(to: Bytef.self))
    deflate.avail_in = uInt(clusterSize)
    deflate.next_out = output.pointer.assumingMemoryBound(to: Bytef.self)
    deflate.avail_out = uInt(clusterSize - 1)
    guard CZlib.deflate(&deflate, Z_FINISH) == Z_STREAM_END else { return nil }
    return clusterSize - 1 - Int(deflate.avail_out)
  }

  private func packZstandard(_ input: UnsafeRawPointer) -> Int? {
    guard let zstd else { return nil }
    let count = ZSTD_compressCCtx(zstd, output.pointer, clusterSize - 1, input, clusterSize, 3)
    return ZSTD_isError(count) == 0 && count > 0 ? count : nil
  }
}

extension Qcow2Image {
  /// Stores one whole cluster compressed if that saves space, plain otherwise.
  ///
  /// - Parameters:
  ///   - bytes: One cluster; behind the end of the disk it is zeros.
  ///   - offset: A multiple of the cluster size.
  func writeCompressed(
    _ bytes: UnsafeRawPointer, at offset: UInt64, _ compressor: ClusterCompressor
  ) throws(DiskImageError) {
    guard let count = compressor.pack(bytes) else {
      let there = min(geometry.clusterSize, size - offset)
      return try write(
        from: UnsafeRawBufferPointer(start: bytes, count: Int(there)), at: offset)
    }
    let generation = try begin()
    defer { gate.leave(generation) }
    try relievePressure()
    let cluster = offset >> geometry.clusterBits
    let place = try reserveCompressed(for: cluster, UInt64(count))
    var problem: DiskImageError?
    do throws(DiskImageError) {
      try storage.write(from: compressor.output.pointer, count: count, at: place)
    } catch { problem = error }
    lock.lock()
    defer {
      endFlight(cluster)
      lock.unlock()
    }
    let descriptor = CompressedPlace.descriptor(
      offset: place, count: UInt64(count), geometry)
    if let problem {
      // Nothing refers to the bytes: their references go without waiting.
      for touched
        in (place >> geometry.clusterBits)...((place + UInt64(count) - 1)
        >> geometry.clusterBits)
      {
        try? dropReference(to: touched)
      }
      compressedTail = 0
      throw problem
    }
    try publishCompressed(descriptor, cluster)
  }

  /// Takes room for packed bytes; the guest cluster is in flight afterwards.
  private func reserveCompressed(for cluster: UInt64, _ count: UInt64) throws(DiskImageError)
    -> UInt64
  {
    lock.lock()
    defer { lock.unlock() }
    if let failure { throw failure }
    while waitIfInFlight(cluster, 1) {}
    try makeTableWritable(for: cluster)
    let place = try packedPlace(count)
    inFlight.append(InFlight(first: cluster, count: 1))
    return place
  }

  /// The next bytes of the cluster that compressed data shares, or of a new one; straddles two that are neighbours.
  /// Needs the lock.
  private func packedPlace(_ count: UInt64) throws(DiskImageError) -> UInt64 {
    let size = geometry.clusterSize
    let tail = compressedTail
    let shared = tail >> geometry.clusterBits
    let used = geometry.offsetInCluster(tail)
    var place = tail
    if used != 0 {
      let mayShare = try refcount(of: shared) < geometry.refcountMaximum
      if mayShare && used + count <= size {
        try addReference(to: shared)
        return finishPacking(place, count)
      }
      let run = try allocate(1)
      if mayShare && run.first == shared + 1 {
        try addReference(to: shared)
      } else {
        place = run.first << geometry.clusterBits
      }
    } else {
      place = try allocate(1).first << geometry.clusterBits
    }
    return finishPacking(place, count)
  }

  private func finishPacking(_ place: UInt64, _ count: UInt64) -> UInt64 {
    compressedTail = place + count
    if geometry.offsetInCluster(compressedTail) == 0 { compressedTail = 0 }
    return place
  }

  /// Needs the lock.
  private func publishCompressed(_ descriptor: UInt64, _ cluster: UInt64) throws(DiskImageError) {
    let slot = try l2Slot(of: cluster)
    guard slot >= 0 else { throw badEntry(cluster) }
    let index = cluster & (geometry.l2EntriesPerSlice - 1)
    let old = entry(l2Cache.pointer(slot), index)
    setEntry(l2Cache.pointer(slot), index, L2Entry(descriptor: descriptor))
    l2Cache.markDirty(slot)
    needsBarrier = true
    releaseData(of: old, punch: false)
    noteDirtyTables()
  }
}
