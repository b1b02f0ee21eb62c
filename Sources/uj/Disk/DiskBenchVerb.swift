// `uj disk bench`: requests per second on an image.
import ArgumentParser
import CLinux
import DiskImage
import Platform

struct DiskBenchVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure reads or writes of an image. Writing destroys its content.")
  @Argument(help: "The image.")
  var image: ImageArgument
  @Option(name: [.customShort("d"), .long], help: "Requests in flight.")
  var depth = 1
  @Option(name: [.customShort("s"), .customLong("size")], help: "Bytes per request.")
  var size: SizeArgument?
  @Option(name: [.customShort("c"), .long], help: "Requests.")
  var count = 20_000
  @Option(
    name: [.customShort("S"), .customLong("stride")], help: "Bytes from one request to the next.")
  var stride: SizeArgument?
  @Flag(name: [.customShort("w"), .long], help: "Write.")
  var write = false
  @Flag(help: "Past the host's page cache.")
  var direct = false
  @Option(help: "Flush after so many requests.")
  var flushInterval = 0
  @Flag(help: "Do without io_uring.")
  var threads = false
  @OptionGroup var common: DiskOptions

  func run() throws {
    var options = OpenOptions()
    options.direct = direct
    let disk = try image.open(write ? .readWrite : .readOnly, trust: common.trust, options)
    let bytes = Int(size?.bytes ?? 4096)
    let step = stride?.bytes ?? UInt64(bytes)
    guard bytes > 0, disk.size >= UInt64(bytes), (1...256).contains(depth), count > 0 else {
      throw UsageFailure("\(image.path): needs 1 to 256 requests of at most the disk's size")
    }
    let engine = try RequestEngine(disk, depth: depth, usesRing: !threads)
    let start = MonotonicClock.now
    // The same places as qemu-img bench has with these numbers.
    let span = disk.size / UInt64(bytes) * UInt64(bytes)
    try transfer(engine, span: span, bytes: bytes, step: step)
    let seconds = Double(MonotonicClock.now - start) / 1e9
    try disk.close()
    let rate = UInt64(Double(count) / seconds)
    print(
      common.json
        ? DiskJSON.object([
          ("requests-per-second", .number(rate)), ("microseconds", .number(UInt64(seconds * 1e6))),
        ]).encoded
        : "\(rate) requests/s, \(readableSize(rate &* UInt64(bytes)))/s")
  }

  /// Keeps `depth` requests in flight until all are done.
  private func transfer(_ engine: RequestEngine, span: UInt64, bytes: Int, step: UInt64) throws {
    let buffers = UnsafeMutableRawBufferPointer.allocate(
      byteCount: bytes * depth, alignment: 4096)
    let vectors = UnsafeMutableBufferPointer<iovec>.allocate(capacity: depth)
    defer {
      buffers.deallocate()
      vectors.deallocate()
    }
    memset(buffers.baseAddress!, 0x5a, buffers.count)
    for index in 0..<depth {
      vectors[index] = iovec(
        iov_base: buffers.baseAddress! + index * bytes, iov_len: bytes)
    }
    var free = Array(0..<depth)
    var submitted = 0
    var failure: DiskImageError?
    let flushToken = UInt64(depth)
    while failure == nil && (submitted < count || engine.inFlight > 0) {
      while submitted < count, !engine.isFull, let slot = free.popLast() {
        let place = UInt64(submitted) &* step % span / UInt64(bytes) * UInt64(bytes)
        _ = engine.submit(
          write ? .write : .read, UnsafePointer(vectors.baseAddress! + slot), count: 1, at: place,
          token: UInt64(slot))
        submitted += 1
        if flushInterval > 0 && submitted % flushInterval == 0 {
          engine.reap(waits: true) { token, error in
            failure = failure ?? error
            if token != flushToken { free.append(Int(token)) }
          }
          _ = engine.submit(.flush, token: flushToken)
        }
      }
      engine.reap(waits: true) { token, error in
        failure = failure ?? error
        if token != flushToken { free.append(Int(token)) }
      }
    }
    while engine.inFlight > 0 {
      engine.reap(waits: true) { _, error in failure = failure ?? error }
    }
    if let failure { throw failure }
  }
}
