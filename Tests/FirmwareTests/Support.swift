import Firmware
import Glibc

/// A machine as most tests want it.
func exampleBoard(memory: UInt64 = 256 << 20, processors: Int = 2) -> BoardDescription {
  BoardDescription(
    name: "example", uuid: Array(0x10..<0x20), memorySize: memory, processorCount: processors)
}

extension [UInt8] {
  func integer<Value: FixedWidthInteger>(_ type: Value.Type, at offset: Int) -> Value {
    var value: Value = 0
    for index in (0..<MemoryLayout<Value>.size).reversed() {
      value = value << 8 | Value(truncatingIfNeeded: self[offset + index])
    }
    return value
  }

  func text(at offset: Int, count: Int) -> String {
    String(decoding: self[offset..<(offset + count)].prefix { $0 != 0 }, as: UTF8.self)
  }

  mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    for index in 0..<MemoryLayout<Value>.size {
      self[offset + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index))
    }
  }

  var sum: UInt8 { reduce(0, &+) }
}

/// A small generator with a fixed start: failures can be repeated.
struct FixedGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    // SplitMix64
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}

/// A directory that goes away with the value.
final class TemporaryDirectory {
  let path: String
  init() {
    var template = Array("/tmp/firmware-tests-XXXXXX\0".utf8CString)
    path = String(cString: mkdtemp(&template))
  }
  deinit { _ = system("rm -rf '\(path)'") }

  func write(_ bytes: [UInt8], to name: String) -> String {
    let file = path + "/" + name
    guard let stream = fopen(file, "w") else { return file }
    _ = bytes.withUnsafeBytes { fwrite($0.baseAddress, 1, $0.count, stream) }
    fclose(stream)
    return file
  }

  func read(_ name: String) -> [UInt8] {
    guard let stream = fopen(path + "/" + name, "r") else { return [] }
    defer { fclose(stream) }
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = fread(&buffer, 1, buffer.count, stream)
      if count == 0 { return result }
      result += buffer[..<count]
    }
  }
}

extension TemporaryDirectory {
  static func isMissing(_ path: String) -> Bool { access(path, R_OK) != 0 }
}

func isExecutable(_ path: String) -> Bool { access(path, X_OK) == 0 }
