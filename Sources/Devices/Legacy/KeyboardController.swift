/// The 8042 keyboard controller of a PS/2 with a keyboard and a mouse (IBM PS/2 Hardware Interface Technical Reference,
/// "Keyboard and auxiliary device controller"): port 0x60 is offset 0, port 0x64 offset 4.
///
/// Output 0 is IRQ 1 and output 1 is IRQ 12. Commands finish at once, so the input buffer is never full. It starts as
/// firmware leaves it (translation and both interrupts on), for guests that are booted without any.
package struct KeyboardController: ByteWideChip, Snapshottable, Codable, Equatable {
  package static let port: UInt16 = 0x60
  /// `Offset.data` and `Offset.command` are single ports, with port 0x61 in between belonging to another chip.
  package enum Offset {
    package static let data: UInt64 = 0
    package static let command: UInt64 = 4
  }
  package static let stateVersion = 1

  package enum Status {
    /// OBF: port 0x60 has a byte.
    package static let outputFull: UInt8 = 1 << 0
    /// IBF
    package static let inputFull: UInt8 = 1 << 1
    /// The self-test has passed.
    package static let system: UInt8 = 1 << 2
    /// The last write went to port 0x64.
    package static let command: UInt8 = 1 << 3
    /// Nobody has turned the key.
    package static let unlocked: UInt8 = 1 << 4
    /// The byte comes from the mouse.
    package static let auxiliary: UInt8 = 1 << 5
  }

  /// The command byte, byte 0 of the controller's memory.
  package enum Configuration {
    package static let keyboardInterrupt: UInt8 = 1 << 0
    package static let auxiliaryInterrupt: UInt8 = 1 << 1
    package static let system: UInt8 = 1 << 2
    package static let disableKeyboard: UInt8 = 1 << 4
    package static let disableAuxiliary: UInt8 = 1 << 5
    /// Set 2 becomes set 1.
    package static let translate: UInt8 = 1 << 6
    static let initial = keyboardInterrupt | auxiliaryInterrupt | system | translate
  }

  package enum OutputPort {
    /// Low resets the processor.
    package static let notReset: UInt8 = 1 << 0
    package static let addressLine20: UInt8 = 1 << 1
    package static let keyboardFull: UInt8 = 1 << 4
    package static let auxiliaryFull: UInt8 = 1 << 5
    /// Clock and data of the keyboard, idle.
    static let idle: UInt8 = 0xC0
  }

  package enum Command {
    package static let readMemory: ClosedRange<UInt8> = 0x20...0x3F
    package static let writeMemory: ClosedRange<UInt8> = 0x60...0x7F
    package static let testPassword: UInt8 = 0xA4
    package static let loadPassword: UInt8 = 0xA5
    package static let enablePassword: UInt8 = 0xA6
    package static let disableAuxiliary: UInt8 = 0xA7
    package static let enableAuxiliary: UInt8 = 0xA8
    package static let testAuxiliary: UInt8 = 0xA9
    package static let selfTest: UInt8 = 0xAA
    package static let testKeyboard: UInt8 = 0xAB
    package static let disableKeyboard: UInt8 = 0xAD
    package static let enableKeyboard: UInt8 = 0xAE
    package static let readInputPort: UInt8 = 0xC0
    package static let readOutputPort: UInt8 = 0xD0
    package static let writeOutputPort: UInt8 = 0xD1
    package static let writeKeyboardBuffer: UInt8 = 0xD2
    package static let writeAuxiliaryBuffer: UInt8 = 0xD3
    package static let writeAuxiliaryDevice: UInt8 = 0xD4
    package static let disableAddressLine20: UInt8 = 0xDD
    package static let enableAddressLine20: UInt8 = 0xDF
    package static let readTestInputs: UInt8 = 0xE0
    /// Pulses the output port's bits that are 0 in the low nibble: bit 0 resets.
    package static let pulseOutput: ClosedRange<UInt8> = 0xF0...0xFF
  }

  private enum Answer {
    static let selfTestPassed: UInt8 = 0x55
    static let testPassed: UInt8 = 0x00
    static let noPassword: UInt8 = 0xF1
    /// Bit 7: the keyboard is not locked.
    static let inputPort: UInt8 = 0x80
  }

  private static let answerLimit = 16
  private static let memorySize = 32
  /// Marks an answer that looks as if it came from the mouse.
  private static let fromAuxiliary: UInt16 = 0x100

  private var keyboard = PS2Keyboard()
  private var mouse = PS2Mouse()
  private var memory: [UInt8]
  private var answers = BoundedQueue<UInt16>(capacity: answerLimit)
  private var output: UInt8 = 0
  private var isFull = false
  private var isAuxiliary = false
  private var lastWasCommand = true
  /// The command whose parameter comes next to port 0x60.
  private var awaiting: UInt8?
  private var addressLine20 = true
  /// 0xF0 has come from the keyboard and marks the next code as a break.
  private var breakPending = false
  /// Keys of the host that wait their turn, and when the next may come.
  private var typed = TypedKeys()
  private var requests: BoardRequests = []
  private var dipped: UInt32 = 0

  package init() {
    memory = Array(repeating: 0, count: Self.memorySize)
    memory[0] = Configuration.initial
  }

  /// Power-on state.
  package mutating func reset() { self = Self() }

  // MARK: The host's side

  /// A key goes down or up. False: the guest does not read, and there is no room.
  package mutating func key(_ key: KeyCode, pressed: Bool) -> Bool {
    defer { load() }
    return keyboard.key(key, pressed: pressed)
  }

  /// Whole key strokes, one after the other, at the pace of a quick typist: the buffer of a BIOS holds 15 keys only.
  ///
  /// - Returns: false when so many wait that the guest cannot be reading; nothing is typed then.
  package mutating func type(_ strokes: [KeyStroke], now: MachineTime) -> Bool {
    guard typed.append(strokes) else { return false }
    advance(to: now)
    return true
  }

  /// Keys that have not reached the keyboard yet.
  package var waitingKeyCount: Int { typed.count }

  /// Moves the mouse by counts to the right and down, and the wheel towards the user; `buttons` are those held now.
  package mutating func moveMouse(
    x: Int32, y: Int32, wheel: Int32 = 0, buttons: PS2Mouse.Buttons
  ) {
    mouse.move(x: x, y: y, wheel: wheel, buttons: buttons)
    load()
  }

  /// The keyboard's lights: bit 0 scroll lock, 1 num lock, 2 caps lock.
  package var indicators: UInt8 { keyboard.indicators }

  // MARK: Chip

  package var outputs: UInt32 {
    guard isFull else { return 0 }
    if isAuxiliary { return configuration & Configuration.auxiliaryInterrupt != 0 ? 2 : 0 }
    return configuration & Configuration.keyboardInterrupt != 0 ? 1 : 0
  }

  package var deadline: MachineTime? { typed.deadline }

  package mutating func advance(to now: MachineTime) {
    guard typed.next(&keyboard, now: now) else { return }
    load()
  }

  /// Each byte is an edge: the line falls when one is read, even where the next is there at once.
  package mutating func takePulses() -> UInt32 {
    defer { dipped = 0 }
    return dipped & outputs
  }

  package mutating func takeRequests() -> BoardRequests {
    defer { requests = [] }
    return requests
  }

  package mutating func readByte(at offset: UInt64, now: MachineTime) -> UInt8 {
    switch offset {
    case Offset.data:
      isFull = false
      dipped |= ~outputs
      let byte = output
      load()
      return byte
    case Offset.command: return status
    default: return 0xFF
    }
  }

  package mutating func writeByte(at offset: UInt64, value: UInt8, now: MachineTime) {
    switch offset {
    case Offset.data:
      lastWasCommand = false
      writeData(value)
    case Offset.command:
      lastWasCommand = true
      awaiting = nil
      command(value)
    default: return
    }
    load()
  }

  // MARK: Inside

  private var configuration: UInt8 {
    get { memory[0] }
    set { memory[0] = newValue }
  }

  private var status: UInt8 {
    var status = Status.unlocked
    if isFull { status |= Status.outputFull }
    if isFull && isAuxiliary { status |= Status.auxiliary }
    if lastWasCommand { status |= Status.command }
    if configuration & Configuration.system != 0 { status |= Status.system }
    return status
  }

  /// Fills the output buffer if it is empty: answers of the controller first, then keyboard, then mouse.
  private mutating func load() {
    if isFull { return }
    if let answer = answers.popFirst() {
      put(UInt8(truncatingIfNeeded: answer), auxiliary: answer & Self.fromAuxiliary != 0)
      return
    }
    if configuration & Configuration.disableKeyboard == 0 {
      while let byte = keyboard.nextByte() {
        guard let translated = translate(byte) else { continue }
        put(translated, auxiliary: false)
        return
      }
    }
    if configuration & Configuration.disableAuxiliary == 0, let byte = mouse.nextByte() {
      put(byte, auxiliary: true)
    }
  }

  private mutating func put(_ byte: UInt8, auxiliary: Bool) {
    output = byte
    isFull = true
    isAuxiliary = auxiliary
  }

  /// nil: the byte was the prefix of a break code and is now part of the next one.
  private mutating func translate(_ byte: UInt8) -> UInt8? {
    guard configuration & Configuration.translate != 0 else {
      breakPending = false
      return byte
    }
    if byte == ScanCode.breakPrefix {
      breakPending = true
      return nil
    }
    let translated = ScanCode.translate(byte)
    // The prefixes 0xE0 and 0xE1 come before 0xF0, so what follows it is always the code.
    defer { breakPending = false }
    return breakPending ? translated | ScanCode.breakBit : translated
  }

  private mutating func answer(_ byte: UInt8, auxiliary: Bool = false) {
    answers.append(UInt16(byte) | (auxiliary ? Self.fromAuxiliary : 0))
  }

  private mutating func command(_ command: UInt8) {
    switch command {
    case Command.readMemory: answer(memory[Int(command & 0x1F)])
    case Command.writeMemory, Command.loadPassword, Command.writeOutputPort,
      Command.writeKeyboardBuffer, Command.writeAuxiliaryBuffer, Command.writeAuxiliaryDevice:
      awaiting = command
    case Command.testPassword: answer(Answer.noPassword)
    case Command.disableAuxiliary: configuration |= Configuration.disableAuxiliary
    case Command.enableAuxiliary: configuration &= ~Configuration.disableAuxiliary
    case Command.testAuxiliary, Command.testKeyboard, Command.readTestInputs:
      answer(Answer.testPassed)
    case Command.selfTest:
      configuration |= Configuration.system
      answer(Answer.selfTestPassed)
    case Command.disableKeyboard: configuration |= Configuration.disableKeyboard
    case Command.enableKeyboard: configuration &= ~Configuration.disableKeyboard
    case Command.readInputPort: answer(Answer.inputPort)
    case Command.readOutputPort: answer(outputPort)
    case Command.disableAddressLine20: setAddressLine20(false)
    case Command.enableAddressLine20: setAddressLine20(true)
    case Command.pulseOutput where command & OutputPort.notReset == 0: requests.insert(.reset)
    default: break
    }
  }

  private mutating func writeData(_ byte: UInt8) {
    let command = awaiting ?? 0
    awaiting = nil
    switch command {
    case Command.writeMemory: memory[Int(command & 0x1F)] = byte
    // The password is not kept: it ends with a zero and locks nothing.
    case Command.loadPassword: if byte != 0 { awaiting = command }
    case Command.writeOutputPort:
      setAddressLine20(byte & OutputPort.addressLine20 != 0)
      if byte & OutputPort.notReset == 0 { requests.insert(.reset) }
    case Command.writeKeyboardBuffer: answer(byte)
    case Command.writeAuxiliaryBuffer: answer(byte, auxiliary: true)
    case Command.writeAuxiliaryDevice:
      configuration &= ~Configuration.disableAuxiliary
      mouse.receive(byte)
    default:
      // A byte for the keyboard switches its interface on.
      configuration &= ~Configuration.disableKeyboard
      keyboard.receive(byte)
    }
  }

  private var outputPort: UInt8 {
    var port = OutputPort.notReset | OutputPort.idle
    if addressLine20 { port |= OutputPort.addressLine20 }
    if isFull { port |= isAuxiliary ? OutputPort.auxiliaryFull : OutputPort.keyboardFull }
    return port
  }

  private mutating func setAddressLine20(_ enabled: Bool) {
    guard enabled != addressLine20 else { return }
    addressLine20 = enabled
    requests.subtract([.enableAddressLine20, .disableAddressLine20])
    requests.insert(enabled ? .enableAddressLine20 : .disableAddressLine20)
  }

  // MARK: Snapshottable

  package func saveState() -> KeyboardController { self }

  package func check(_ state: Self) throws(DeviceStateError) {
    var possible = self
    possible.restoreState(state)
    // These are of a moment that is over.
    (possible.requests, possible.dipped) = (state.requests, state.dipped)
    try DeviceStateError.refuse(state, unlike: possible)
  }

  package mutating func restoreState(_ state: KeyboardController) {
    self = state
    keyboard.normalize()
    mouse.normalize()
    typed.normalize()
    memory = Array((memory + Array(repeating: 0, count: Self.memorySize)).prefix(Self.memorySize))
    answers = BoundedQueue(capacity: Self.answerLimit, contentsOf: state.answers)
    requests = []
    dipped = 0
  }
}
