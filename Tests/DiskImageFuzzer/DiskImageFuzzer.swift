// A libFuzzer target: the input is a list of changes to a good image, so that every byte of it counts.
//
//   UNDERJACK_FUZZ=1 swift build -c release --product DiskImageFuzzer --scratch-path .build-fuzz
//   .build-fuzz/release/DiskImageFuzzer -max_len=256 -max_total_time=1800
import DiskImage

/// The good images, made once.
private let bases = (0..<DamagedImage.kinds).map {
  (try? DamagedImage.base($0)) ?? []
}

/// The first byte picks the image; then each 12 bytes are a change: area, width, offset (2), value (8).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard count > 0 else { return 0 }
  let input = UnsafeBufferPointer(start: start, count: count)
  let base = bases[Int(input[0]) % DamagedImage.kinds]
  var bytes = base
  var place = 1
  while place + 12 <= count {
    let value = (0..<8).reduce(UInt64(0)) { $0 << 8 | UInt64(input[place + 4 + $1]) }
    let offset = Int(input[place + 2]) << 8 | Int(input[place + 3])
    change(&bytes, base, area: input[place], width: input[place + 1], offset, value)
    place += 12
  }
  if let complaint = DamagedImage.exercise(bytes) { fatalError(complaint) }
  return 0
}

private func change(
  _ bytes: inout [UInt8], _ base: [UInt8], area: UInt8, width: UInt8, _ offset: Int, _ value: UInt64
) {
  func table(_ field: Int) -> Int { Int(SampleImage.word(base, field) & 0xFF_FFFF) }
  func first(_ offset: Int) -> Int {
    offset + 8 <= base.count ? Int(SampleImage.word(base, offset) & 0xFF_FE00) : 0
  }
  let starts = [
    0, table(40), first(table(40)), table(48), first(table(48)), table(64), 0,
    max(0, base.count - 8192),
  ]
  let width = [1, 2, 4, 8][Int(width & 3)]
  // The seventh area cuts the file.
  if area & 7 == 6 {
    bytes.removeLast(min(bytes.count, Int(value & 0xFFFF)))
    return
  }
  let start = starts[Int(area & 7)] + offset
  guard start + width <= bytes.count else { return }
  bytes.replaceSubrange(start..<start + width, with: SampleImage.big(value, width))
}

/// libFuzzer's own driver (LLVM documentation, 'Using libFuzzer as a library').
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutableRawPointer,
  _ test: @convention(c) (UnsafePointer<UInt8>, Int) -> CInt
) -> CInt

/// What SwiftPM starts.
@_cdecl("DiskImageFuzzer_main")
public func start(_ count: CInt, _ arguments: UnsafeMutableRawPointer) -> CInt {
  var count = count
  var arguments = arguments
  return runDriver(&count, &arguments) { fuzzOneInput($0, $1) }
}
