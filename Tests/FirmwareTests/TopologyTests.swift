import Devices
import Firmware
import Processor
import Testing

/// Two sockets of three cores: local APIC numbers 0 to 2 and 4 to 6.
@Suite struct TopologyTests {
  private var board: BoardDescription {
    var board = exampleBoard(processors: 6)
    board.topology = ProcessorTopology(sockets: 2, cores: 3)
    return board
  }

  @Test("the MADT has the numbers of the topology")
  func interruptControllers() throws {
    let tables = ACPITables(board)
    let offset = try #require(tables.offsets["APIC"])
    let bytes = tables.tables.bytes
    let entries = (0..<6).map { offset + 44 + $0 * 8 }
    #expect(entries.map { bytes[$0 + 2] } == [0, 1, 2, 3, 4, 5])
    #expect(entries.map { bytes[$0 + 3] } == [0, 1, 2, 4, 5, 6])
  }

  @Test("SMBIOS has a structure for each socket")
  func sockets() {
    var sockets = 0
    let bytes = SMBIOSTables(board).structures
    var place = 0
    while place + 4 < bytes.count {
      if bytes[place] == 4 {
        sockets += 1
        // Cores, enabled cores, threads.
        #expect(Array(bytes[place + 0x23..<place + 0x26]) == [3, 3, 3])
      }
      place += Int(bytes[place + 1])
      while place + 1 < bytes.count && (bytes[place] != 0 || bytes[place + 1] != 0) { place += 1 }
      place += 2
    }
    #expect(sockets == 2)
  }

  @Test("firmware is told how many there are, and the limit of their numbers")
  func firmwareConfiguration() throws {
    let items = try FirmwareContent(board).items
    #expect(items.bytes(FirmwareItems.Key.processorCount) == [6, 0])
    #expect(items.bytes(FirmwareItems.Key.maximumProcessorCount) == [7, 0])
  }
}
