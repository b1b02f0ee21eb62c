import CSoftProcessor
import Platform
import SoftProcessor
import Synchronization
import Testing

private typealias Register = APICFixture.Register

/// The local APIC against the Intel SDM 3A, chapter 11.
@Suite struct LocalAPICTests {
  @Test("The highest priority comes first, and nothing of the class in service or below")
  func priorities() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    for vector: UInt32 in [0x31, 0x52, 0x35, 0x51] { #expect(fixture.send(vector, to: 0)) }
    #expect(fixture.events(0) == UInt32(SOFT_EVENT_INTERRUPT))
    #expect(apic.acknowledge() == 0x52)
    #expect(apic.acknowledge() == -1)
    #expect(apic.readPage(Register.processorPriority, size: 4) == 0x50)
    fixture.send(0x61, to: 0)
    #expect(apic.acknowledge() == 0x61)
    apic.endInterrupt()
    apic.endInterrupt()
    #expect(apic.acknowledge() == 0x51)
    apic.endInterrupt()
    #expect(apic.acknowledge() == 0x35)
    apic.endInterrupt()
    #expect(apic.acknowledge() == 0x31)
    apic.endInterrupt()
    #expect(apic.acknowledge() == -1)
    #expect(apic.readPage(Register.processorPriority, size: 4) == 0)
  }

  @Test("The task priority holds back its class and those below; lowering it posts an event")
  func taskPriority() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.writePage(Register.taskPriority, value: 0x4F)
    fixture.send(0x4F, to: 0)
    #expect(!apic.hasInterrupt())
    fixture.send(0x50, to: 0)
    #expect(apic.acknowledge() == 0x50)
    apic.writePage(Register.endOfInterrupt, value: 0)
    #expect(apic.acknowledge() == -1)
    _ = fixture.events(0)
    apic.writePage(Register.taskPriority, value: 0x30)
    #expect(fixture.events(0) & UInt32(SOFT_EVENT_INTERRUPT) != 0)
    #expect(apic.acknowledge() == 0x4F)
  }

  @Test("A request that is pending already is not accepted again; one in service is")
  func coalescing() throws {
    let fixture = try APICFixture(count: 1)
    #expect(fixture.send(0x40, to: 0))
    #expect(!fixture.send(0x40, to: 0))
    #expect(fixture.apics[0].acknowledge() == 0x40)
    #expect(fixture.send(0x40, to: 0))
    #expect(!fixture.send(0x0F, to: 0), "vectors below 16 are illegal")
    #expect(!fixture.send(0x41, to: 7), "nobody has this number")
  }

  @Test("Level-triggered vectors are reported at their end, with the vector")
  func endOfLevel() throws {
    let fixture = try APICFixture(count: 1)
    let ended = Mutex<[UInt8]>([])
    fixture.board.network.endOfInterrupt = { vector in ended.withLock { $0.append(vector) } }
    fixture.apics[0].writePage(Register.timer, value: 0x10040)
    fixture.send(0x61, to: 0, isLevel: true)
    #expect(fixture.apics[0].readPage(0x180 + 0x30, size: 4) == 1 << 1)
    fixture.send(0x40, to: 0)
    #expect(fixture.apics[0].acknowledge() == 0x61)
    fixture.apics[0].endInterrupt()
    #expect(fixture.apics[0].acknowledge() == 0x40)
    fixture.apics[0].endInterrupt()
    #expect(ended.withLock { $0 } == [0x61], "the own timer's end concerns nobody")
    // The same vector as an edge clears the mode.
    fixture.send(0x61, to: 0)
    #expect(fixture.apics[0].readPage(0x180 + 0x30, size: 4) == 0)
  }

  @Test("Interprocessor interrupts reach whom they name")
  func interprocessor() throws {
    let fixture = try APICFixture(count: 4)
    func taken() -> [Int32] { fixture.apics.map { $0.acknowledge() } }
    func command(_ low: UInt64, _ destination: UInt64 = 0) {
      fixture.apics[1].writePage(Register.commandHigh, value: destination << 24)
      fixture.apics[1].writePage(Register.commandLow, value: low)
    }
    command(0x50, 2)
    #expect(taken() == [-1, -1, 0x50, -1])
    command(0x61 | 1 << 18)
    #expect(taken() == [-1, 0x61, -1, -1])
    command(0x72 | 2 << 18)
    #expect(taken() == [0x72, 0x72, 0x72, 0x72])
    command(0x83 | 3 << 18)
    #expect(taken() == [0x83, -1, 0x83, 0x83])
    command(0x94, 0xFF)
    #expect(taken() == [0x94, 0x94, 0x94, 0x94])
    // Logical, flat: 1 << number.
    for (index, apic) in fixture.apics.enumerated() {
      apic.writePage(Register.logicalDestination, value: 1 << UInt64(24 + index))
    }
    command(0xA5 | 1 << 11, 0b1010)
    #expect(taken() == [-1, 0xA5, -1, 0xA5])
    // Logical, cluster: two clusters of two.
    for (index, apic) in fixture.apics.enumerated() {
      apic.writePage(Register.destinationFormat, value: 0x0FFF_FFFF)
      let number = UInt64(index / 2) << 4 | 1 << UInt64(index % 2)
      apic.writePage(Register.logicalDestination, value: number << 24)
    }
    command(0xB6 | 1 << 11, 0x13)
    #expect(taken() == [-1, -1, 0xB6, 0xB6])
  }

  @Test("NMI, INIT and start-up are events; start-up carries its page")
  func specialModes() throws {
    let fixture = try APICFixture(count: 2, isOn: false)
    func command(_ low: UInt64) {
      fixture.apics[0].writePage(Register.commandHigh, value: 1 << 24)
      fixture.apics[0].writePage(Register.commandLow, value: low)
    }
    command(4 << 8)
    #expect(fixture.events(1) == UInt32(SOFT_EVENT_NMI))
    command(0xC500)
    #expect(fixture.events(1) == UInt32(SOFT_EVENT_INIT))
    command(0x8500)
    #expect(fixture.events(1) == 0, "INIT level de-assert")
    command(0x69F)
    #expect(fixture.events(1) == UInt32(SOFT_EVENT_STARTUP))
    #expect(fixture.cpus[1].pointee.startup_vector == 0x9F)
    #expect(fixture.events(0) == 0)
    #expect(!fixture.send(0x55, to: 1), "fixed interrupts need the software enable bit")
  }

  @Test("Lowest priority: the processor with the lowest task priority, equals in turns")
  func lowestPriority() throws {
    let fixture = try APICFixture(count: 3)
    for (index, apic) in fixture.apics.enumerated() {
      apic.writePage(Register.logicalDestination, value: 1 << UInt64(24 + index))
    }
    fixture.apics[0].writePage(Register.taskPriority, value: 0x20)
    var counts = [0, 0, 0]
    for _ in 0..<30 {
      fixture.send(0x90, to: 0b111, mode: 1, isLogical: true)
      for (index, apic) in fixture.apics.enumerated() where apic.acknowledge() == 0x90 {
        counts[index] += 1
        apic.endInterrupt()
      }
    }
    #expect(counts[0] == 0)
    #expect(counts[1] + counts[2] == 30)
    #expect(min(counts[1], counts[2]) >= 10)
  }

  @Test("x2APIC: by MSRs, 32-bit identities, clusters of sixteen; the page is gone")
  func extended() throws {
    let fixture = try APICFixture(count: 20)
    let apic = fixture.apics[0]
    #expect(apic.readModelSpecific(0x802) == nil)
    for apic in fixture.apics { #expect(apic.setBase(0xFEE0_0C00)) }
    #expect(fixture.cpus[0].pointee.apic_base == 0xFEE0_0D00, "the boot bit stays")
    #expect(apic.setBase(0xFEE0_0900) == false, "back to xAPIC only by way of off")
    #expect(fixture.apics[17].readModelSpecific(0x802) == 17)
    #expect(fixture.apics[17].readModelSpecific(0x80D) == 1 << 16 | 1 << 1)
    #expect(apic.readModelSpecific(0x80E) == nil)
    #expect(apic.writeModelSpecific(0x830, 17 << 32 | 0x77))
    #expect(fixture.apics[17].acknowledge() == 0x77)
    #expect(apic.writeModelSpecific(0x830, (1 << 16 | 0b11) << 32 | 1 << 11 | 0x88))
    #expect(fixture.apics[16].acknowledge() == 0x88)
    #expect(fixture.apics[17].acknowledge() == 0x88)
    #expect(fixture.apics[1].acknowledge() == -1)
    #expect(apic.writeModelSpecific(0x83F, 0x45))
    #expect(apic.acknowledge() == 0x45)
    #expect(!apic.writeModelSpecific(0x80B, 1), "EOI takes zero only")
    #expect(apic.writeModelSpecific(0x80B, 0))
    #expect(!apic.writeModelSpecific(0x802, 0), "the identity is fixed")
  }

  @Test("Illegal vectors and registers are errors, told once and by the error entry")
  func errors() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.writePage(Register.error, value: 0xFE)
    apic.writePage(Register.commandLow, value: 0x05 | 1 << 18)
    #expect(apic.acknowledge() == 0xFE)
    #expect(apic.readPage(Register.errorStatus, size: 4) == 0)
    apic.writePage(Register.errorStatus, value: 0)
    #expect(apic.readPage(Register.errorStatus, size: 4) == 1 << 5)
    apic.writePage(Register.errorStatus, value: 0)
    #expect(apic.readPage(Register.errorStatus, size: 4) == 0)
  }

  @Test("The 8259As reach the boot processor through LINT0 while it is open")
  func externalInterrupts() throws {
    let fixture = try APICFixture(count: 2, isOn: false)
    fixture.board.network.acknowledge8259 = { 0x08 }
    fixture.board.network.setExternalRequest(true)
    #expect(fixture.events(0) == UInt32(SOFT_EVENT_INTERRUPT))
    #expect(fixture.apics[0].hasInterrupt())
    #expect(!fixture.apics[1].hasInterrupt())
    #expect(fixture.apics[0].acknowledge() == 8)
    fixture.apics[0].writePage(Register.localInput0, value: 0x10700)
    #expect(!fixture.apics[0].hasInterrupt())
    fixture.apics[0].writePage(Register.localInput0, value: 0x700)
    #expect(fixture.apics[0].hasInterrupt())
    fixture.board.network.setExternalRequest(false)
    #expect(!fixture.apics[0].hasInterrupt())
    // With the local APIC off, INTR goes to the processor itself.
    fixture.apics[0].writePage(Register.localInput0, value: 0x10700)
    #expect(fixture.apics[0].setBase(0xFEE0_0000))
    fixture.board.network.setExternalRequest(true)
    #expect(fixture.apics[0].hasInterrupt())
  }

  @Test("Switched off by software: entries are masked and nothing is accepted")
  func softwareDisable() throws {
    let fixture = try APICFixture(count: 1)
    let apic = fixture.apics[0]
    apic.writePage(Register.timer, value: 0x40)
    apic.writePage(Register.spurious, value: 0xFF)
    #expect(apic.readPage(Register.timer, size: 4) == 0x1_0040)
    apic.writePage(Register.timer, value: 0x41)
    #expect(apic.readPage(Register.timer, size: 4) == 0x1_0041)
    #expect(!fixture.send(0x50, to: 0))
  }

  @Test("A saved page restored elsewhere: requests, service, priorities")
  func state() throws {
    let first = try APICFixture(count: 2)
    let apic = first.apics[1]
    first.send(0x60, to: 1)
    #expect(apic.acknowledge() == 0x60)
    first.send(0x75, to: 1, isLevel: true)
    first.send(0x33, to: 1)
    apic.writePage(Register.taskPriority, value: 0x20)
    let bytes = apic.save()
    #expect(bytes.count == 1024)
    #expect(bytes[0x23] == 1, "the identity stands in the top byte")

    let second = try APICFixture(count: 2)
    let restored = second.apics[1]
    #expect(restored.restore(bytes, deadline: 0))
    #expect(second.events(1) & UInt32(SOFT_EVENT_INTERRUPT) != 0)
    #expect(second.cpus[1].pointee.cr8 == 2)
    #expect(restored.acknowledge() == 0x75)
    restored.endInterrupt()
    #expect(restored.acknowledge() == -1, "0x60 is in service")
    restored.endInterrupt()
    #expect(restored.acknowledge() == 0x33)
    #expect(!restored.restore([1, 2, 3], deadline: 0))
  }
}
