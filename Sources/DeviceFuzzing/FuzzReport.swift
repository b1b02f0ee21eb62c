/// What a run of the fuzzer did and saw.
package struct FuzzReport: Sendable, CustomStringConvertible {
  package var seed: UInt64
  /// Accesses by kind.
  package var ports = 0
  package var memory = 0
  package var configuration = 0
  package var virtqueues = 0
  package var storageCommands = 0
  package var networkFrames = 0
  /// Chains that devices gave back, modulo what restarts hid: shows that they were reached.
  package var completions = 0
  /// Commands that the SATA adapter ended well.
  package var storageCompletions = 0
  /// Times that the plain network adapter was seen to have received.
  package var networkReceptions = 0
  /// Pairs of queues of the virtio network adapter that have carried frames.
  package var networkPairs = 0
  /// Streams of the socket device that were opened, and bytes that went through them.
  package var streams: UInt64 = 0
  package var streamBytes: UInt64 = 0
  /// How often a port of it stood still after an error.
  package var storageErrors = 0
  /// How often a device was found with DEVICE_NEEDS_RESET.
  package var errorBits = 0
  /// Times that a driver was started properly.
  package var starts = 0
  package var messages: UInt64 = 0
  /// Bytes of this process after the warm-up and at the end.
  package var residentBefore = 0
  package var residentAfter = 0
  /// Devices that did not work after the final power-on reset, by name.
  package var broken: [String] = []

  package var accesses: Int {
    ports + memory + configuration + virtqueues + storageCommands + networkFrames
  }
  package var growth: Int { residentAfter - residentBefore }

  package var description: String {
    """
    seed \(seed): \(accesses) accesses (\(ports) ports, \(memory) memory, \(configuration) PCI \
    configuration, \(virtqueues) virtqueue, \(storageCommands) SATA, \(networkFrames) 82540EM), \(starts) driver starts, \
    \(completions) chains and \(storageCompletions) commands back, \(networkReceptions) receptions, \(networkPairs) pairs used, \(streams) \
    streams with \(streamBytes) bytes, \(errorBits) times \
    DEVICE_NEEDS_RESET, \(storageErrors) ports stopped, \(messages) interrupt messages, growth \(growth / 1024) KiB\
    \(broken.isEmpty ? "" : ", broken: " + broken.joined(separator: ", "))
    """
  }
}
