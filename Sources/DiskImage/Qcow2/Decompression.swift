// Reading compressed clusters: raw deflate or zstd. The length on disk is only an upper bound, what follows the stream
// is rubbish or the next cluster, and the output is exactly one cluster: nothing an image says makes us produce more.
import CLinux
import CZlib
import CZstd

/// One cluster's plain bytes, kept because neighbouring small reads want the same one. Never changed once made.
final class DecompressedCluster: @unchecked Sendable {
  let descriptor: UInt64
  let bytes: AlignedBuffer

  init(descriptor: UInt64, bytes: AlignedBuffer) {
    self.descriptor = descriptor
    self.bytes = bytes
  }
}

extension Qcow2Image {
  /// Reads a stretch that lies within one compressed cluster.
  func readCompressed(
    _ descriptor: UInt64, at offset: UInt64, count: UInt64, into list: BufferList,
    from start: UInt64
  ) throws(DiskImageError) {
    let inCluster = geometry.offsetInCluster(offset)
    if count == geometry.clusterSize && list.count == 1 {
      return try decompress(descriptor, into: list.vectors[0].iov_base + Int(start))
    }
    lock.lock()
    var cluster = decompressed
    lock.unlock()
    if cluster?.descriptor != descriptor {
      let bytes = AlignedBuffer(count: Int(geometry.clusterSize))
      try decompress(descriptor, into: bytes.pointer)
      cluster = DecompressedCluster(descriptor: descriptor, bytes: bytes)
      lock.lock()
      decompressed = cluster
      lock.unlock()
    }
    if let cluster {
      list.store(cluster.bytes.pointer + Int(inCluster), from: start, count: count)
    }
  }

  /// Fills one cluster's worth of memory.
  func decompress(_ descriptor: UInt64, into output: UnsafeMutableRawPointer)
    throws(DiskImageError)
  {
    let place = CompressedPlace(descriptor, geometry)
    // Compressing never makes a cluster longer than itself; what a hostile length says beyond that is not read.
    let count = Int(min(place.count, geometry.clusterSize + 512))
    let input = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 16)
    defer { input.deallocate() }
    try storage.read(into: input, count: count, at: place.offset)
    let size = Int(geometry.clusterSize)
    let isGood =
      header.compression == .deflate
      ? Deflate.expand(input, count, into: output, size)
      : Zstandard.expand(input, count, into: output, size)
    if !isGood {
      throw DiskImageError(
        .corrupt, path, "has a compressed cluster that cannot be unpacked", offset: place.offset)
    }
  }
}

enum Deflate {
  /// True when exactly `size` bytes came out.
  static func expand(
    _ input: UnsafeRawPointer, _ count: Int, into output: UnsafeMutableRawPointer, _ size: Int
  ) -> Bool {
    var stream = z_stream()
    guard
      inflateInit2_(&stream, -15, zlibVersion(), Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { return false }
    defer { inflateEnd(&stream) }
    stream.next_in = UnsafeMutablePointer(
      mutating: input.assumingMemoryBound(to: Bytef.self))
    stream.avail_in = uInt(count)
    stream.next_out = output.assumingMemoryBound(to: Bytef.self)
    stream.avail_out = uInt(size)
    let result = inflate(&stream, Z_FINISH)
    // Z_BUF_ERROR: the output is full though the stream goes on, or the input ended just there.
    return (result == Z_STREAM_END || result == Z_BUF_ERROR || result == Z_OK)
      && stream.avail_out == 0
  }
}

enum Zstandard {
  /// True when exactly `size` bytes came out of whole frames.
  static func expand(
    _ input: UnsafeRawPointer, _ count: Int, into output: UnsafeMutableRawPointer, _ size: Int
  ) -> Bool {
    guard let context = ZSTD_createDCtx() else { return false }
    defer { ZSTD_freeDCtx(context) }
    var source = ZSTD_inBuffer(src: input, size: count, pos: 0)
    var target = ZSTD_outBuffer(dst: output, size: size, pos: 0)
    while true {
      let before = (source.pos, target.pos)
      let rest = ZSTD_decompressStream(context, &target, &source)
      if ZSTD_isError(rest) != 0 { return false }
      if target.pos == size && rest == 0 { return true }
      // Neither side moves: the frame is cut off, or wants to give more than a cluster.
      if (source.pos, target.pos) == before { return false }
    }
  }
}
