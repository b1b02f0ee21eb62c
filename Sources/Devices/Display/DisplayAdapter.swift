// The standard VGA of QEMU and Bochs: function 1234:1111 with 16 MiB of display memory behind base address 0, its
// registers once more behind base address 2 (VGA ports from 0x400, Bochs interface from 0x500), the BIOS in the ROM,
// and the addresses that every VGA has had since 1987.

import GuestMemory
import Platform
import Synchronization

/// The display of a PC. What it shows is read by `snapshot`, from any thread, without stopping the guest.
public final class DisplayAdapter: PCIDevice {
  /// Bytes of display memory.
  public static let memorySize = DisplayCore.memorySize
  /// The processor's window, which must not be RAM.
  public static let windowRange = VGAPlanes.windowBase..<VGAPlanes.windowBase + VGAPlanes.windowSize

  public let function: PCIFunction
  let core: DisplayCore
  private let registers: DisplayRegisters

  /// - Parameters:
  ///   - rom: the video BIOS; nil for none (a guest that is booted directly does not need it).
  ///   - mapper: shows memory to the guest without exits, where the machine can.
  /// - Throws: when the host has no memory.
  public init(
    rom: PCIRegion?, clock: any MachineClock, mapper: (any PCIRegionMapper)? = nil
  ) throws(PlatformError) {
    core = try DisplayCore(clock: clock, mapper: mapper)
    registers = DisplayRegisters(core)
    function = PCIFunction(
      PCIIdentity(vendor: 0x1234, device: 0x1111, revision: 2, classCode: 0x030000))
    function.addRegion(0, core.memory, isPrefetchable: true)
    function.addBaseAddress(2, kind: .memory32, size: DisplayRegisters.size, device: registers)
    if let rom { function.addROM(rom) }
  }

  /// Takes the addresses that every VGA has. The buses keep what answers there.
  public func register(ports: PortBus, memory: MemoryBus) {
    ports.register(
      DisplayPorts(core), at: VGAController.firstPort, count: VGAController.portCount)
    ports.register(
      BochsDisplayPorts(core), at: BochsDisplayInterface.indexPort,
      count: BochsDisplayInterface.portCount)
    memory.register(
      DisplayWindow(core), at: GuestAddress(VGAPlanes.windowBase), count: VGAPlanes.windowSize)
    core.start()
  }

  /// Takes back what the guest was shown. Before the machine's memory goes.
  public func stop() { core.stop() }

  public func reset() {
    core.replaceState { state in
      state.controller = VGAController()
      state.bochs = BochsDisplayInterface(memorySize: Self.memorySize)
    }
  }

  // MARK: The host's side

  /// What is shown now. Text is copied; graphics are told by mode only, see `picture`.
  public func snapshot() -> DisplaySnapshot { core.snapshot() }
}

extension DisplayCore {
  func snapshot() -> DisplaySnapshot {
    guarded.withLock { state in
      let content = content(&state)
      if content != state.lastContent {
        state.lastContent = content
        state.generation &+= 1
      }
      return DisplaySnapshot(generation: state.generation, content: content)
    }
  }

  private func content(_ state: inout Guarded) -> DisplayContent {
    let bochs = state.bochs
    let registers = state.controller.registers
    if bochs.isEnabled {
      return .graphics(GraphicsMode(width: bochs.width, height: bochs.height, depth: bochs.depth))
    }
    guard registers.isDisplaying else { return .blank }
    guard registers.isGraphics else {
      if state.textIsMapped { storeText() }
      return .text(state.controller.textScreen(planes))
    }
    return .graphics(registers.graphicsMode)
  }
}

extension VGARegisters {
  /// The mode that the registers make, when it is none of text.
  var graphicsMode: GraphicsMode {
    let isBytes = graphics[Graphics.mode] & Graphics.shift256 != 0
    let isInterleaved = graphics[Graphics.mode] & Graphics.shiftInterleaved != 0
    let lines = rowHeight * (doublesLines ? 2 : 1)
    // In CGA modes the two lines of a character row are two lines of the picture.
    let repeats = controller[Controller.mode] & 1 == 0 ? max(lines / 2, 1) : lines
    return GraphicsMode(
      width: displayedCharacters * (isBytes ? 4 : 8),
      height: max(displayedLines / repeats, 1),
      depth: isBytes ? 8 : isInterleaved ? 2 : attribute[Attribute.planeEnable] & 0xE == 0 ? 1 : 4)
  }
}

extension DisplayAdapter: Snapshottable {
  /// Registers, and the pages of display memory that are not all zeros.
  public struct State: Codable, Sendable {
    var controller: VGAController
    var bochs: BochsDisplayInterface
    var latches: UInt32
    /// By number of the 4 KiB page.
    var pages: [Int: [UInt8]]
  }

  public static let stateVersion = 1
  private static let pageSize = 4096

  public func saveState() -> State {
    core.guarded.withLock { state in
      if state.textIsMapped { core.storeText() }
      var pages: [Int: [UInt8]] = [:]
      let memory = UnsafeRawBufferPointer(start: core.memory.host, count: Self.memorySize)
      for page in 0..<Self.memorySize / Self.pageSize {
        let bytes = memory[page * Self.pageSize..<(page + 1) * Self.pageSize]
        let words = UnsafeRawBufferPointer(rebasing: bytes).bindMemory(to: UInt64.self)
        if words.contains(where: { $0 != 0 }) { pages[page] = [UInt8](bytes) }
      }
      return State(
        controller: state.controller, bochs: state.bochs, latches: state.controller.latches,
        pages: pages)
    }
  }

  public func check(_ saved: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      saved.controller.registers.isWhole, "its registers are more or fewer than they are")
    for (page, bytes) in saved.pages {
      try DeviceStateError.require(
        (0..<Self.memorySize / Self.pageSize).contains(page) && bytes.count == Self.pageSize,
        "page \(page) of its memory has \(bytes.count) bytes or is not there")
    }
  }

  public func restoreState(_ saved: State) {
    core.replaceState { state in
      state.controller = saved.controller
      state.controller.normalize()
      state.controller.latches = saved.latches
      state.bochs = saved.bochs
      state.bochs.normalize(memorySize: Self.memorySize)
      state.controller.hasWidePalette = state.bochs.hasWidePalette
      let memory = UnsafeMutableRawBufferPointer(start: core.memory.host, count: Self.memorySize)
      for page in 0..<Self.memorySize / Self.pageSize {
        let place = UnsafeMutableRawBufferPointer(
          rebasing: memory[page * Self.pageSize..<(page + 1) * Self.pageSize])
        if let bytes = saved.pages[page], bytes.count == Self.pageSize {
          place.copyBytes(from: bytes)
        } else if place.contains(where: { $0 != 0 }) {
          place.initializeMemory(as: UInt8.self, repeating: 0)
        }
      }
    }
  }
}
