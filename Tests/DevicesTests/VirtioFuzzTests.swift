import CLinux
import DeviceFuzzing
import Devices
import GuestMemory
import Platform
import Testing

/// A guest gone mad: random accesses to configuration space, BARs and rings. The host neither traps nor hangs nor
/// grows, and the devices work again after a reset.
@Suite struct VirtioFuzzTests {
  private final class Sponge: CharacterBackend {
    func guestDidSend(_ bytes: UnsafeRawBufferPointer) {}
    func guestCanReceive() {}
  }

  private struct Machine {
    let board: PCITestBoard
    let transports: [VirtioPCITransport]
    let console: VirtioConsole
    let drive: OpticalDrive
    let disk = MemoryDisk(size: 1 << 20)

    init() throws {
      board = try PCITestBoard(memorySize: 4 << 20)
      drive = OpticalDrive(medium: MemoryDisk(size: 1 << 20))
      console = try VirtioConsole(ports: [
        .init(backend: Sponge()), .init(name: "second", isTerminal: false, backend: Sponge()),
      ])
      let devices: [any VirtioDevice] = [
        try VirtioBlock(backend: disk, options: .init(queueCount: 2)), try VirtioRandom(),
        try VirtioSCSI(targets: [drive]), console,
      ]
      let board = board
      transports = devices.map {
        VirtioPCITransport($0, memory: board.memory, sink: board.sink)
      }
      for (index, transport) in transports.enumerated() {
        board.host.attach(transport, at: PCIAddress(device: UInt8(2 + index)))
      }
      let probe = PCIRegion(contents: [1, 2, 3])
      board.host.attach(
        PIIX4PowerManagement(registers: probe, ports: board.ports),
        at: PCIAddress(device: 1, function: 3))
    }

    static let deviceCount = 4
  }

  private static func residentBytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, 256, file) != nil else { return 0 }
    let text = String(
      decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
  }

  /// Small and special numbers more often than others.
  private func value(_ random: inout SeededGenerator) -> UInt64 {
    switch random.next() % 8 {
    case 0: 0
    case 1: .max
    case 2: random.next() % 16
    case 3: 1 << (random.next() % 64)
    case 4: random.next() % (4 << 20)
    case 5: random.next() & 0xFFFF
    default: random.next()
    }
  }

  private func width(_ random: inout SeededGenerator, upTo limit: Int = 4) -> AccessWidth {
    AccessWidth.allCases[Int(random.next() % UInt64(limit))]
  }

  private func step(
    _ machine: Machine, _ drivers: [VirtioTestDriver], _ random: inout SeededGenerator
  ) {
    let board = machine.board
    let which = Int(random.next() % UInt64(drivers.count))
    let driver = drivers[which]
    let device = driver.device
    let value = value(&random)
    switch random.next() % 64 {
    case 0...9:
      // Configuration space, but rarely the I/O BAR: each new place costs the test a search.
      let register = Int(random.next() & 0xFF)
      guard register & 0xFC != 0x10 else { return }
      board.setConfig(device, register, value, width(&random, upTo: 3))
    case 10...14: _ = board.config(device, Int(random.next() & 0xFF), width(&random, upTo: 3))
    case 15:
      if random.next() % 32 == 0 {
        board.setConfig(device, 0x10, 0xC000 + random.next() % 8 * 0x80)
      }
      board.setConfig(device, 0x20, 0xE000_0000 + random.next() % 8 * 0x4000)
      board.setConfig(device, 0x24, 0)
      board.setConfig(device, 4, 7, .word)
    case 16...24:
      let structure: UInt64 = [0, 0, 0x1000, 0x2000, 0x3000][Int(random.next() % 5)]
      board.store(driver.modern + structure + random.next() % 64, value, width(&random))
    case 25...30:
      _ = board.load(driver.modern + random.next() % 0x4010, width(&random))
    case 31...36:
      board.ports.write(
        port: driver.port &+ UInt16(random.next() % 130), width: width(&random, upTo: 3),
        value: value)
    case 37...39:
      _ = board.ports.read(
        port: driver.port &+ UInt16(random.next() % 130), width: width(&random, upTo: 3))
    case 40:
      // A correct start, so that something runs that can then be broken.
      VirtioTestDriver(board, device: device, interface: .modern).start()
      driver.start(queues: queueCounts[which], wanted: random.next() | 1 << 32)
    case 41...52: breakRing(driver, &random)
    case 53:
      let bytes = [UInt8](repeating: 7, count: Int(random.next() % 5000))
      bytes.withUnsafeBytes { _ = machine.console.ports[Int(value & 1)].offer($0) }
    case 54:
      if value & 1 == 0 {
        machine.drive.eject(force: value & 2 == 0)
      } else {
        machine.drive.insert(machine.disk)
      }
    case 55: board.setConfig(1, 0x60 + Int(value & 3), value >> 8, .byte)
    case 56 where random.next() % 16 == 0:
      board.setConfig(1, [0x40, 0x80][Int(value & 1)], value & 0xF1, function: 3)
    case 57 where value % 16 == 0:
      let transport = machine.transports[which]
      transport.pause()
      let state = transport.saveState()
      transport.restoreState(state)
      transport.resume()
    case 58 where value % 16 == 0: board.host.reset()
    default: driver.kick(Int(random.next() % 6))
    }
  }

  private let queueCounts = [2, 1, 3, 6]

  /// Descriptors that are mostly right, with one thing wrong now and then.
  private func breakRing(_ driver: VirtioTestDriver, _ random: inout SeededGenerator) {
    guard !driver.layouts.isEmpty else { return }
    let queue = Int(random.next() % UInt64(driver.layouts.count))
    guard driver.size[queue] > 0 else { return }
    let first = Int(random.next() % UInt64(driver.size[queue]))
    var buffers: [VirtioTestDriver.Buffer] = []
    for _ in 0..<1 + random.next() % 5 {
      let isOdd = random.next() % 16 == 0
      buffers.append(
        .init(
          address: isOdd ? value(&random) : driver.bufferBase + random.next() % 0x8_0000,
          length: isOdd
            ? UInt32(truncatingIfNeeded: value(&random)) : UInt32(1 + random.next() % 600),
          isWritable: false))
    }
    let writable = Int(random.next() % UInt64(buffers.count + 1))
    for index in writable..<buffers.count { buffers[index].isWritable = true }
    // A header that some device understands.
    driver.board.memory.store(random.next() % 15, at: GuestAddress(buffers[0].address))
    driver.board.memory.store(random.next() % 4096, at: GuestAddress(buffers[0].address &+ 8))
    if random.next() % 2 == 0 { buffers[0].length = [8, 16, 24, 51][Int(random.next() % 4)] }
    let table = random.next() % 4 == 0 ? driver.bufferBase + 0x9_0000 : nil
    driver.chain(queue, buffers, first: first, indirect: table)
    if random.next() % 32 == 0 {
      driver.setDescriptor(
        queue, first, address: value(&random), length: UInt32(truncatingIfNeeded: value(&random)),
        flags: UInt16(random.next() & 7), next: UInt16(truncatingIfNeeded: value(&random)))
    }
    driver.offer(
      queue,
      head: random.next() % 64 == 0 ? UInt16(truncatingIfNeeded: value(&random)) : UInt16(first))
    driver.kick(queue)
  }

  @Test(.timeLimit(.minutes(5)), arguments: [0x5EED_0001, UInt64.random(in: 0 ... .max)])
  func madGuestHarmsNobody(_ seed: UInt64) throws {
    print("virtio fuzz seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let machine = try Machine()
    var drivers: [VirtioTestDriver] = []
    for index in 0..<Machine.deviceCount {
      drivers.append(
        VirtioTestDriver(
          machine.board, device: 2 + index, interface: index % 2 == 0 ? .modern : .legacy,
          ringBase: 0x1_0000 * UInt64(1 + index * 8)))
    }
    var before = 0
    for index in 0..<100_000 {
      step(machine, drivers, &random)
      if index % 500 == 0 {
        machine.board.memoryBus.collect()
        machine.board.sink.clear()
      }
      if index == 20_000 { before = Self.residentBytes() }
    }
    let growth = Self.residentBytes() - before
    #expect(growth < 64 << 20, "grew by \(growth) bytes; seed \(seed)")
    // Power-on, and everything works.
    machine.board.host.reset()
    for (index, transport) in machine.transports.enumerated() {
      let driver = VirtioTestDriver(machine.board, device: 2 + index, interface: .modern)
      driver.start(queues: queueCounts[index])
      #expect(driver.status & 0x4F == 0x0F, "device \(index); seed \(seed)")
      guard transport.device is VirtioBlock else { continue }
      let data = driver.bufferBase + 0x1000
      #expect(
        driver.block(
          type: 0, sector: 0, data: [.init(address: data, length: 512, isWritable: true)]) == 0)
    }
  }

  /// The queue alone, against its rules: what is taken lies in RAM and is given back once.
  @Test(arguments: [0x5EED_0002, UInt64.random(in: 0 ... .max)])
  func takenChainsLieInMemory(_ seed: UInt64) throws {
    print("virtio queue fuzz seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let memory = try GuestMemory(size: 1 << 20)
    let base = UInt(bitPattern: memory.pointer(at: GuestAddress(0), count: 1 << 20))
    let chain = VirtioChain()
    var taken = 0
    for _ in 0..<2000 {
      let size = UInt16(1) << UInt16(random.next() % 9)
      for address in stride(from: 0x1_0000, to: 0x1_4000, by: 8) as StrideTo<UInt64> {
        // Descriptors with small lengths and mostly small addresses.
        memory.store(
          random.next() % 3 == 0
            ? random.next() & 0x0007_00FF_0000_0FF0 : random.next() % (1 << 20),
          at: GuestAddress(address))
      }
      let features = VirtioFeatures(rawValue: (random.next() & 3) << 28)
      let queue = try VirtioQueue(
        index: 0, layout: VirtioQueueLayout(size: size, legacyPage: 0x10), maximumSize: 256,
        features: features, memory: memory,
        position: VirtioQueuePosition(
          nextAvailable: UInt16(truncatingIfNeeded: random.next()), usedIndex: 65_535))
      let available = queue.layout.available
      for slot in 0..<UInt64(size) {
        memory.store(
          UInt16(random.next() % UInt64(size)), at: GuestAddress(available + 4 + 2 * slot))
      }
      memory.store(
        queue.nextAvailable &+ UInt16(random.next() % UInt64(size + 2)),
        at: GuestAddress(available + 2))
      var heads: [UInt16] = []
      do throws(VirtioViolation) {
        while try queue.take(into: chain) {
          taken += 1
          #expect(!heads.contains(chain.head))
          var sum: UInt64 = 0
          for segment in [chain.readable, chain.writable].joined() {
            let start = UInt(bitPattern: segment.iov_base)
            #expect(start >= base && start + UInt(segment.iov_len) <= base + 1 << 20)
            sum += UInt64(segment.iov_len)
          }
          #expect(sum == chain.readableBytes + chain.writableBytes)
          if random.next() % 2 == 0 {
            queue.give(head: chain.head, written: 0)
            _ = queue.wantsInterrupt()
          } else {
            heads.append(chain.head)
          }
        }
      } catch {}
      #expect(queue.outstanding == heads.count)
      _ = queue.allowNotifications()
    }
    #expect(taken > 500, "the fuzz reaches what it is for")
  }
}
