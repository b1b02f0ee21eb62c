import Foundation
import Glibc
import Testing

/// What the linker made of `uj`: a host process runs strangers' systems, so nothing in it is both written and executed and
/// its constants cannot be written; and it starts in a blink, so the dynamic linker finds little to do.
@Suite(.enabled(if: access(Underjack.program, R_OK) == 0, "uj is not built"))
struct ProgramLayoutTests {
  private let image: Data
  /// Elf64_Phdr: type, flags, offset, size in the file.
  private let segments: [(type: UInt32, flags: UInt32, offset: Int, size: Int)]

  init() throws {
    let image = try Data(
      contentsOf: URL(fileURLWithPath: Underjack.program), options: .alwaysMapped)
    let table = Int(image.number(at: 32, as: UInt64.self))
    let size = Int(image.number(at: 54, as: UInt16.self))
    segments = (0..<Int(image.number(at: 56, as: UInt16.self))).map { index in
      let header = table + index * size
      return (
        image.number(at: header, as: UInt32.self), image.number(at: header + 4, as: UInt32.self),
        Int(image.number(at: header + 8, as: UInt64.self)),
        Int(image.number(at: header + 32, as: UInt64.self))
      )
    }
    self.image = image
  }

  @Test func nothingIsWrittenAndExecuted() {
    let loaded = segments.filter { $0.type == PT_LOAD }
    #expect(loaded.count == 3)
    #expect(!loaded.contains { $0.flags & UInt32(PF_W) != 0 && $0.flags & UInt32(PF_X) != 0 })
    #expect(
      segments.contains { $0.type == 0x6474_e551 && $0.flags & UInt32(PF_X) == 0 },
      "PT_GNU_STACK: the stack is not executed")
  }

  /// Swift's compiler marks some constants as writable, and a linker's own layout then makes all 2 MiB of them so.
  @Test func constantsAreReadOnly() throws {
    let written = segments.filter { $0.type == PT_LOAD && $0.flags & UInt32(PF_W) != 0 }
    let sealed = try #require(segments.first { $0.type == 0x6474_e552 }, "PT_GNU_RELRO")
    #expect(written.reduce(0) { $0 + $1.size } - sealed.size < 512 << 10)
  }

  /// Each shared library costs a start about 0.2 ms and 150 KiB; a packed relocation needs a bit where a plain one needs 24
  /// bytes.
  @Test func littleIsLeftToTheDynamicLinker() throws {
    let dynamic = try #require(segments.first { $0.type == PT_DYNAMIC })
    var needed: [String] = []
    var names = 0
    var sizes: [UInt64: UInt64] = [:]
    let entries = stride(from: dynamic.offset, to: dynamic.offset + dynamic.size, by: 16).map {
      (image.number(at: $0, as: UInt64.self), image.number(at: $0 + 8, as: UInt64.self))
    }
    for (tag, value) in entries {
      if tag == 5 { names = Int(value) }
      sizes[tag] = value
    }
    for (tag, value) in entries where tag == 1 {
      let start = names + Int(value)
      let end = try #require(image[start...].firstIndex(of: 0))
      needed.append(String(decoding: image[start..<end], as: UTF8.self))
    }
    #expect(Set(needed).isSubset(of: ["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"]))
    #expect(try #require(sizes[35], "DT_RELRSZ") > 0)
    #expect(try #require(sizes[8], "DT_RELASZ") < 64 << 10)
  }
}

extension Data {
  fileprivate func number<Number: FixedWidthInteger>(at offset: Int, as: Number.Type) -> Number {
    withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) }
  }
}
