// `uj disk bench`: requests per second on an image.
import ArgumentParser
import CLinux
import DiskImage
import Platform
import Synchronization

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
  @OptionGroup var common: DiskOptions

  private final class Counter: Sendable {
    let next = Atomic<Int>(0)
    let failure = Mutex<DiskImageError?>(nil)
  }

  func run() throws {
    var options = OpenOptions()
    options.direct = direct
    let disk = try image.open(write ? .readWrite : .readOnly, trust: common.trust, options)
    let bytes = Int(size?.bytes ?? 4096)
    let step = stride?.bytes ?? UInt64(bytes)
    guard bytes > 0, disk.size >= UInt64(bytes), (1...256).contains(depth), count > 0 else {
      throw UsageFailure("\(image.path): needs 1 to 256 requests of at most the disk's size")
    }
    let counter = Counter()
    let (total, writes, interval) = (count, write, flushInterval)
    let span = disk.size - UInt64(bytes) + 1
    let start = MonotonicClock.now
    let threads = try (0..<depth).map { number in
      try PosixThread(name: "bench\(number)") {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 4096)
        defer { buffer.deallocate() }
        memset(buffer.baseAddress!, 0x5a, bytes)
        do throws(DiskImageError) {
          while true {
            let index = counter.next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < total else { return }
            let place = UInt64(index) &* step % span / UInt64(bytes) * UInt64(bytes)
            if writes {
              try disk.write(from: UnsafeRawBufferPointer(buffer), at: place)
            } else {
              try disk.read(into: buffer, at: place)
            }
            if interval > 0 && index % interval == interval - 1 { try disk.flush() }
          }
        } catch {
          counter.failure.withLock { $0 = error }
        }
      }
    }
    for thread in threads { thread.join() }
    if let error = counter.failure.withLock({ $0 }) { throw error }
    let seconds = Double(MonotonicClock.now - start) / 1e9
    try disk.close()
    let rate = UInt64(Double(total) / seconds)
    print(
      common.json
        ? DiskJSON.object([
          ("requests-per-second", .number(rate)), ("microseconds", .number(UInt64(seconds * 1e6))),
        ]).encoded
        : "\(rate) requests/s, \(readableSize(rate &* UInt64(bytes)))/s")
  }
}
