// One packed stream to a buffer of known size. What a stream says about itself is not believed: nothing is written
// beyond the buffer, and the memory that a decoder may take is bounded.

import CBzip2
import CLz4
import CLzma
import CZlib
import CZstd

/// How the kernel's build packs kernels (its arch/x86/boot/compressed/Makefile), but for LZO, which few ever used.
enum PackedFormat: String, CaseIterable {
  case gzip, bzip2, lzma, xz, lz4, zstd
  /// An executable as it is.
  case plain

  /// By the first bytes, as the kernel's own lib/decompress.c tells them apart.
  init?(_ start: [UInt8]) {
    let formats: [(PackedFormat, [UInt8])] = [
      (.gzip, [0x1F, 0x8B]), (.bzip2, [0x42, 0x5A, 0x68]), (.lzma, [0x5D, 0x00, 0x00]),
      (.xz, [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]), (.lz4, [0x02, 0x21, 0x4C, 0x18]),
      (.zstd, [0x28, 0xB5, 0x2F, 0xFD]), (.plain, [0x7F, 0x45, 0x4C, 0x46]),
    ]
    guard let match = formats.first(where: { start.starts(with: $0.1) }) else { return nil }
    self = match.0
  }

  /// What XZ and LZMA may take for their dictionary and tables; the kernel's build uses up to 128 MiB.
  private static let dictionaryLimit: UInt64 = 256 << 20
  /// ZSTD_WINDOWLOG_LIMIT_DEFAULT: 128 MiB.
  private static let windowLogLimit: Int32 = 27
  /// A block of LZ4's legacy frame is this long but for the last (lz4_Frame_format.md, Legacy frame).
  private static let legacyBlockSize = 8 << 20

  /// Fills `output` from the front.
  ///
  /// - Returns: how many bytes there were, or nil when the stream is damaged or longer than `output`.
  func unpack(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Int? {
    guard let source = input.baseAddress, let target = output.baseAddress,
      input.count <= Int(Int32.max), output.count <= Int(UInt32.max)
    else { return nil }
    let from = source.assumingMemoryBound(to: UInt8.self)
    let to = target.assumingMemoryBound(to: UInt8.self)
    switch self {
    case .gzip: return Self.inflateGzip(from, input.count, to, output.count)
    case .bzip2: return Self.expandBzip2(from, input.count, to, output.count)
    case .lzma, .xz: return expandLZMA(from, input.count, to, output.count)
    case .lz4: return Self.expandLZ4(input, output)
    case .zstd: return Self.expandZstandard(input, output)
    case .plain:
      guard input.count <= output.count else { return nil }
      output.copyMemory(from: input)
      return input.count
    }
  }

  private static func inflateGzip(
    _ source: UnsafePointer<UInt8>, _ count: Int, _ target: UnsafeMutablePointer<UInt8>,
    _ room: Int
  ) -> Int? {
    var stream = z_stream()
    // 16 beside the window size of 2^15: a gzip header and trailer.
    guard
      inflateInit2_(
        &stream, 16 + 15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { return nil }
    defer { inflateEnd(&stream) }
    stream.next_in = UnsafeMutablePointer(mutating: source)
    stream.avail_in = UInt32(count)
    stream.next_out = target
    stream.avail_out = UInt32(room)
    guard inflate(&stream, Z_FINISH) == Z_STREAM_END else { return nil }
    return room - Int(stream.avail_out)
  }

  private static func expandBzip2(
    _ source: UnsafePointer<UInt8>, _ count: Int, _ target: UnsafeMutablePointer<UInt8>,
    _ room: Int
  ) -> Int? {
    var stream = bz_stream()
    guard BZ2_bzDecompressInit(&stream, 0, 0) == BZ_OK else { return nil }
    defer { BZ2_bzDecompressEnd(&stream) }
    stream.next_in = UnsafeMutableRawPointer(mutating: source).assumingMemoryBound(to: CChar.self)
    stream.avail_in = UInt32(count)
    stream.next_out = UnsafeMutableRawPointer(target).assumingMemoryBound(to: CChar.self)
    stream.avail_out = UInt32(room)
    while true {
      let before = (stream.avail_in, stream.avail_out)
      switch BZ2_bzDecompress(&stream) {
      case BZ_STREAM_END: return room - Int(stream.avail_out)
      case BZ_OK where before != (stream.avail_in, stream.avail_out): continue
      default: return nil
      }
    }
  }

  /// XZ with any filters of liblzma's (the kernel's build uses x86 BCJ and LZMA2), or bare LZMA.
  private func expandLZMA(
    _ source: UnsafePointer<UInt8>, _ count: Int, _ target: UnsafeMutablePointer<UInt8>,
    _ room: Int
  ) -> Int? {
    var stream = lzma_stream()
    let result =
      self == .xz
      ? lzma_stream_decoder(&stream, Self.dictionaryLimit, 0)
      : lzma_alone_decoder(&stream, Self.dictionaryLimit)
    guard result == LZMA_OK else { return nil }
    defer { lzma_end(&stream) }
    stream.next_in = source
    stream.avail_in = count
    stream.next_out = target
    stream.avail_out = room
    while true {
      let before = (stream.avail_in, stream.avail_out)
      switch lzma_code(&stream, LZMA_RUN) {
      case LZMA_STREAM_END: return room - stream.avail_out
      case LZMA_OK where before != (stream.avail_in, stream.avail_out): continue
      default: return nil
      }
    }
  }

  /// The legacy frame: blocks behind their sizes. The kernel's build puts the unpacked size behind the last.
  private static func expandLZ4(
    _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer
  ) -> Int? {
    var place = 4
    var done = 0
    while input.count - place > 4 {
      let size = Int(
        UInt32(littleEndian: input.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
      place += 4
      guard size > 0, size <= input.count - place, let source = input.baseAddress,
        let target = output.baseAddress
      else { return nil }
      let written = LZ4_decompress_safe(
        (source + place).assumingMemoryBound(to: CChar.self),
        (target + done).assumingMemoryBound(to: CChar.self), Int32(size),
        Int32(min(output.count - done, legacyBlockSize)))
      guard written >= 0 else { return nil }
      place += size
      done += Int(written)
      // Only the last block is short.
      if written < legacyBlockSize { break }
    }
    return done
  }

  private static func expandZstandard(
    _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer
  ) -> Int? {
    guard let context = ZSTD_createDCtx() else { return nil }
    defer { ZSTD_freeDCtx(context) }
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLogLimit)
    var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
    var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
    while true {
      let before = (source.pos, target.pos)
      let result = ZSTD_decompressStream(context, &target, &source)
      guard ZSTD_isError(result) == 0 else { return nil }
      if result == 0 { return target.pos }
      if before == (source.pos, target.pos) { return nil }
    }
  }
}
