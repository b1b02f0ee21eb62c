import Devices
import Firmware
import Glibc
import GuestMemory
import Testing

/// Carries a table loader script out as firmware does; the addresses are the test's.
private struct LoadedFiles {
  var bytes: [String: [UInt8]] = [:]
  var addresses: [String: UInt64] = [:]

  init(_ items: FirmwareItems) throws {
    let script = try #require(items.fileBytes("etc/table-loader"))
    #expect(script.count % 128 == 0)
    var next: UInt64 = 0x0FE0_0000
    for start in stride(from: 0, to: script.count, by: 128) {
      let entry = Array(script[start..<(start + 128)])
      let file = entry.text(at: 4, count: 56)
      switch entry.integer(UInt32.self, at: 0) {
      case 1:
        bytes[file] = items.fileBytes(file)
        #expect(entry.integer(UInt32.self, at: 60).nonzeroBitCount == 1)
        let isLow = entry[64] == 2
        addresses[file] = isLow ? 0xF_5400 : next
        if !isLow { next += 0x10_0000 }
      case 2:
        let source = entry.text(at: 60, count: 56)
        let offset = Int(entry.integer(UInt32.self, at: 116))
        let base = try #require(addresses[source])
        if entry[120] == 8 {
          let value = try #require(bytes[file]).integer(UInt64.self, at: offset)
          #expect(value < UInt64(try #require(bytes[source]).count))
          bytes[file]?.put(value + base, at: offset)
        } else {
          #expect(entry[120] == 4)
          let value = try #require(bytes[file]).integer(UInt32.self, at: offset)
          bytes[file]?.put(value + UInt32(base), at: offset)
        }
      case 3:
        let offset = Int(entry.integer(UInt32.self, at: 60))
        let first = Int(entry.integer(UInt32.self, at: 64))
        let count = Int(entry.integer(UInt32.self, at: 68))
        let content = try #require(bytes[file])
        bytes[file]?[offset] &-= Array(content[first..<(first + count)]).sum
      default: Issue.record("unknown command")
      }
    }
  }

  /// The table at a guest address.
  func table(at address: UInt64) throws -> [UInt8] {
    for (file, base) in addresses {
      guard let content = bytes[file], address >= base, address < base + UInt64(content.count)
      else { continue }
      let offset = Int(address - base)
      return Array(content[offset..<(offset + Int(content.integer(UInt32.self, at: offset + 4)))])
    }
    Issue.record("no table at \(address)")
    return []
  }
}

@Suite struct ACPITests {
  @Test func scriptConnectsAllTables() throws {
    var board = exampleBoard(processors: 3)
    board.hasEventTimer = true
    let loaded = try LoadedFiles(FirmwareContent(board).items)
    let root = try #require(loaded.bytes["etc/acpi/rsdp"])
    #expect(root.text(at: 0, count: 8) == "RSD PTR ")
    #expect(Array(root[..<20]).sum == 0 && root.sum == 0)
    let short = try loaded.table(at: UInt64(root.integer(UInt32.self, at: 16)))
    let long = try loaded.table(at: root.integer(UInt64.self, at: 24))
    #expect(short.text(at: 0, count: 4) == "RSDT" && short.sum == 0)
    #expect(long.text(at: 0, count: 4) == "XSDT" && long.sum == 0)
    var signatures: [String] = []
    for index in 0..<((long.count - 36) / 8) {
      let address = long.integer(UInt64.self, at: 36 + 8 * index)
      #expect(UInt64(short.integer(UInt32.self, at: 36 + 4 * index)) == address)
      let table = try loaded.table(at: address)
      #expect(table.sum == 0)
      signatures.append(table.text(at: 0, count: 4))
      if signatures.last == "FACP" {
        let devices = try loaded.table(at: table.integer(UInt64.self, at: 140))
        #expect(devices.text(at: 0, count: 4) == "DSDT" && devices.sum == 0)
        #expect(UInt64(table.integer(UInt32.self, at: 40)) == table.integer(UInt64.self, at: 140))
        let control = table.integer(UInt32.self, at: 36)
        #expect(control % 64 == 0)
        #expect(try loaded.table(at: UInt64(control)).text(at: 0, count: 4) == "FACS")
      }
    }
    #expect(signatures == ["FACP", "APIC", "HPET"])
  }

  @Test func directPlacementIsFoundByScanning() throws {
    let memory = try GuestMemory(size: 64 << 20)
    let tables = ACPITables(exampleBoard(memory: 64 << 20, processors: 255))
    try tables.plan().apply(to: memory)
    let scan = try memory.bytes(at: GuestAddress(0xE0000), count: 0x20000)
    let place = try #require(
      stride(from: 0, to: scan.count, by: 16).first {
        scan.text(at: $0, count: 8) == "RSD PTR "
          && Array(scan[$0..<($0 + 20)]).sum == 0 && Array(scan[$0..<($0 + 36)]).sum == 0
      })
    let list = Int(scan.integer(UInt64.self, at: place + 24)) - 0xE0000
    #expect(scan.text(at: list, count: 4) == "XSDT")
    for index in 0..<2 {
      let table = Int(scan.integer(UInt64.self, at: list + 36 + 8 * index)) - 0xE0000
      let size = Int(scan.integer(UInt32.self, at: table + 4))
      #expect(Array(scan[table..<(table + size)]).sum == 0)
    }
  }

  @Test func shortestPackageLengths() {
    // A buffer of n bytes: opcode, length, n as integer, content.
    #expect(AMLTerm.buffer([1, 2]).encoded == [0x11, 5, 0x0A, 2, 1, 2])
    let middle = AMLTerm.buffer([UInt8](repeating: 7, count: 100)).encoded
    #expect(Array(middle[..<5]) == [0x11, 0x48, 0x06, 0x0A, 100])
    let large = AMLTerm.buffer([UInt8](repeating: 7, count: 5000)).encoded
    // 3 + 3 + 5000 = 0x138E
    #expect(Array(large[..<7]) == [0x11, 0x8E, 0x38, 0x01, 0x0B, 0x88, 0x13])
    #expect(AMLTerm.name("\\_SB.PCI0.X", .integer(0)).encoded.count == 1 + 1 + 2 + 12 + 1)
    #expect(AMLTerm.identifier("PNP0A03").encoded == [0x0C, 0x41, 0xD0, 0x0A, 0x03])
  }

  @Test func interruptControllersMatchTheBoard() throws {
    let tables = ACPITables(exampleBoard(processors: 300))
    let offset = try #require(tables.offsets["APIC"])
    let bytes = tables.tables.bytes
    let end = offset + Int(bytes.integer(UInt32.self, at: offset + 4))
    var counts: [UInt8: Int] = [:]
    var overrides: [UInt8: (UInt32, UInt16)] = [:]
    var place = offset + 44
    while place < end {
      counts[bytes[place], default: 0] += 1
      if bytes[place] == 2 {
        overrides[bytes[place + 3]] = (
          bytes.integer(UInt32.self, at: place + 4), bytes.integer(UInt16.self, at: place + 8)
        )
      }
      #expect(bytes[place + 1] > 2)
      place += Int(bytes[place + 1])
    }
    #expect(place == end)
    #expect(counts[0] == 255 && counts[9] == 45 && counts[1] == 1)
    #expect(overrides[0]?.0 == 2 && overrides[0]?.1 == 0)
    #expect(overrides[9]?.0 == 9 && overrides[9]?.1 == 0xD)
  }

  static let compiler = "/usr/bin/iasl"

  @Test(
    .enabled(if: isExecutable(ACPITests.compiler), "needs iasl (apt install acpica-tools)"),
    arguments: [1, 4, 300])
  func compilerAcceptsAllTables(processors: Int) throws {
    var board = exampleBoard(memory: 6 << 30, processors: processors)
    board.hasEventTimer = true
    board.serialPorts = BoardDescription.standardSerialPorts
    board.highDeviceMemory = (1 << 38)..<(1 << 39)
    let tables = ACPITables(board)
    let memory = try GuestMemory(size: 16 << 20)
    try tables.plan().apply(to: memory)
    let directory = TemporaryDirectory()
    for (signature, offset) in tables.offsets {
      let address = ACPITables.rootAddress + 64 + UInt64(offset)
      let size: UInt32 = try #require(memory.load(at: GuestAddress(address + 4)))
      let bytes = try memory.bytes(at: GuestAddress(address), count: Int(size))
      _ = directory.write(bytes, to: "\(signature).dat")
    }
    for signature in tables.offsets.keys.sorted() {
      let run = "cd \(directory.path) && \(Self.compiler) -d \(signature).dat >log 2>&1"
      #expect(system(run) == 0)
      var text = String(decoding: directory.read("log"), as: UTF8.self)
      #expect(!text.contains("rror") && !text.contains("arning"), "\(signature): \(text)")
      let again = "cd \(directory.path) && \(Self.compiler) -oa \(signature).dsl >log 2>&1"
      #expect(system(again) == 0, "\(String(decoding: directory.read("log"), as: UTF8.self))")
      text = String(decoding: directory.read("log"), as: UTF8.self)
      #expect(text.contains("0 Errors"), "\(signature): \(text)")
      #expect(text.contains("0 Warnings") || !text.contains("Warnings"), "\(signature): \(text)")
    }
    let source = String(decoding: directory.read("DSDT.dsl"), as: UTF8.self)
    for expected in [
      "PNP0A03", "IO (Decode16,", "0x03F8", "PCI_Config, 0x60, 0x04", "S5, Package (0x04)",
      "0xFEBFFFFF",
    ] {
      let isThere = source.contains(expected)
      #expect(isThere, "\(expected)")
    }
  }
}
