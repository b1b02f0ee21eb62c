import Devices
import Glibc
import Machine
import Platform
import TestGuests
import Testing

/// That each device of a configuration is on the board, at its place and connected.
@Suite(
  .serialized,
  .enabled(if: GuestConversation.missing == nil, "\(GuestConversation.missing ?? "")"))
struct BoardDeviceTests {
  private final class Recorder: CharacterBackend {
    let seen = Monitor<[UInt8]>([])
    func guestDidSend(_ bytes: UnsafeRawBufferPointer) { seen.update { $0 += bytes } }
    func guestCanReceive() {}
  }

  @Test("slots of the virtio devices; what the guest writes to the console reaches its back end")
  func slots() throws {
    var configuration = try CompiledGuest.configuration(
      """
      void guest_main(void) {
        static const u32 expected[][2] = {
          {0, 0x12378086}, {1, 0x70008086}, {2, 0x10041AF4}, {3, 0x10051AF4}, {31, 0x10031AF4},
          {4, 0x10011AF4}, {5, 0xFFFFFFFF},
        };
        for (int i = 0; i < 7; i++)
          if (pci_read(expected[i][0], 0) != expected[i][1]) finish(i + 1);
        pci_write(31, 0x10, 0xC001); pci_write(31, 4, 1);
        out8(0xC000 + 0x14 + 8, '!');
        // A queue of the disk's for each processor.
        pci_write(4, 0x10, 0xD001); pci_write(4, 4, 1);
        if (in8(0xD000 + 0x14 + 34) != 2) finish(8);
        finish(passed);
      }
      """, processors: 2)
    let disk = try TestFolder.make("disk") + "/disk.raw"
    let file = open(disk, O_RDWR | O_CREAT, 0o600)
    #expect(ftruncate(file, 1 << 20) == 0)
    close(file)
    configuration.disks = [.init(path: disk, format: .raw)]
    configuration.opticalDrive = .init(path: nil)
    configuration.consolePorts = 2
    let consoles = [Recorder(), Recorder()]
    let end = Monitor<MachineEnd?>(nil)
    let machine = try Machine(configuration, serialBackends: [], consoleBackends: consoles) {
      if case .ended(let how) = $0 { end.update { $0 = how } }
    }
    defer { machine.stop() }
    #expect(machine.consoleDevices.count == 2)
    try machine.start()
    let how = end.wait(until: MonotonicClock.now + 10_000_000_000) { $0 }
    #expect(how == CompiledGuest.passed)
    #expect(consoles[0].seen.read { $0 } == Array("!".utf8))
    #expect(consoles[1].seen.read { $0 }.isEmpty)
  }

  @Test("the clock shows the host's time again after a pause")
  func clockAfterPause() throws {
    let conversation = try GuestConversation(
      try CompiledGuest.configuration(
        """
        void guest_main(void) {
          out8(0x3F8, '>');
          while (!(in8(0x3FD) & 1)) {}
          u8 seconds;
          do { out8(0x70, 0x0A); } while (in8(0x71) & 0x80);
          out8(0x70, 0); seconds = in8(0x71);
          finish((seconds >> 4) * 10 + (seconds & 15));
        }
        """))
    try conversation.expect(">")
    conversation.machine.pause()
    // Asked for, and done by another thread: a guest that still runs would answer.
    let limit = MonotonicClock.now + 10_000_000_000
    while conversation.machine.runState != .paused, MonotonicClock.now < limit { usleep(1000) }
    #expect(conversation.machine.runState == .paused)
    conversation.send("x")
    #expect(throws: (any Error).self) { try conversation.end(seconds: 3) }
    conversation.machine.resume()
    guard case .debugExit(let status) = try conversation.end() else {
      Issue.record("no answer")
      return
    }
    let difference = (Int(time(nil)) % 60 - Int(status >> 1) + 60) % 60
    #expect([0, 1].contains(difference), "the guest's clock is \(difference) s late")
  }
}
