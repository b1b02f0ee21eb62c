// From a block of decoded instructions to machine code of the host.
//
// A run of translatable instructions becomes one piece of code that stands in the place of its first instruction's
// handler. It keeps guest registers in host registers from their first use to the end of the run. Whatever is not plain (a
// miss in the translation buffer, an event, a successor that is not known) is not done here: the code writes its registers
// back and goes to the handler of the instruction in hand, which does it from the beginning. So exceptions, devices, and
// code that changes are the interpreter's alone, and no host address of translated code is ever on the stack.
//
// Flags stay in the host's flags while they are needed; where they may be looked at later, they are saved as LAHF and SETO
// give them (`flags_raw`), and the interpreter's form is made of it on the way out.
import CSoftProcessor

struct Translator {
  let cpu: CPU
  let block: UnsafeMutablePointer<soft_block>
  var host: HostAssembler
  /// Where the first byte of `host` will be executed.
  let origin: UInt
  let operations: UnsafeMutablePointer<soft_operation>
  var instructions: [TranslatedInstruction?] = []

  // Of the run in hand.
  /// Host registers by guest register; 18 is the block's start.
  var places = [UInt8](repeating: HostRegister.none, count: 19)
  /// Guest registers whose place holds the value; those whose value is newer than the processor's.
  var loaded: UInt32 = 0
  var dirty: UInt32 = 0
  /// The host's flags are the guest's; `flags_raw` was saved in this run.
  var hasHostFlags = false
  var hasRawFlags = false
  /// By instruction of the run: whether its flags must be saved, or are used at all.
  var needs: [(saved: Bool, value: Bool)] = []
  var first = 0
  /// Where a branch to the block's own start goes on, with all registers loaded.
  var loopHead: Int?
  var exits: [Exit] = []

  /// A jump to the interpreter's handler of an instruction.
  struct Exit {
    var jump: Int
    var number: Int
    var dirty: UInt32
  }

  /// Those that translated code keeps guest registers in. RAX, RCX, RDX, RSI are for the moment, RDI is the processor.
  private static let pool: [UInt8] = [3, 5, 8, 9, 10, 11, 12, 13, 14, 15]

  init(
    _ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>, _ host: HostAssembler, origin: UInt
  ) {
    self.cpu = cpu
    self.block = block
    self.host = host
    self.origin = origin
    operations = UnsafeMutablePointer(mutating: block.pointee.operations)
  }

  /// Translates what can be translated, and puts it in the handlers' place. False: nothing is.
  mutating func run() -> Bool {
    guard describe() else { return false }
    var number = 0
    var entries: [(number: Int, counted: Int, plain: Int)] = []
    while number < instructions.count {
      guard instructions[number] != nil else {
        number += 1
        continue
      }
      let end = runEnd(from: number)
      let isWhole = number == 0 && instructions[end - 1]?.endsBlock == true
      if isWhole || end - number >= 3 {
        let entry = translate(number, end)
        entries.append((number, entry.counted, entry.plain))
      }
      number = end
    }
    guard !entries.isEmpty, !host.isFull else { return false }
    for entry in entries {
      let handler = soft_handler_at(pointer(entry.plain))
      if entry.number == 0 {
        block.pointee.code = pointer(entry.counted)
        UnsafeMutablePointer(mutating: block.pointee.entry).pointee.handler = handler
      } else {
        operations[entry.number].handler = handler
      }
    }
    return entries[0].number == 0
  }

  private func pointer(_ position: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bitPattern: origin + UInt(position)) ?? UnsafeRawPointer(operations)
  }

  /// Decodes the block again, for what its operations do not tell. False if its bytes are no longer those.
  private mutating func describe() -> Bool {
    guard let region = regionPage(cpu, block.pointee.physical_address) else { return false }
    let count = Int(block.pointee.count)
    for number in 0..<count {
      let operation = operations[number]
      let offset = Int(operation.offset)
      var decoder = Decoder(
        bytes: UnsafePointer(region.host) + offset,
        available: min(15, Int(block.pointee.length) - offset), mode: block.pointee.mode)
      guard case .decoded = decoder.decode(offset: offset) else { return false }
      let again = decoder.operation
      guard again.opcode == operation.opcode, again.length == operation.length,
        again.immediate == operation.immediate, again.displacement == operation.displacement,
        again.reg == operation.reg, again.rm == operation.rm, again.base == operation.base,
        again.index == operation.index, again.flags == operation.flags
      else { return false }
      instructions.append(
        decoder.isUndefined ? nil : TranslatedInstruction(decoder.instruction, operation))
    }
    // After a branch nothing follows.
    if let last = instructions.last, let last, last.endsBlock { return true }
    instructions.append(.end(operations[count]))
    return true
  }

  /// Behind the last instruction that can be in one run with `start`.
  private func runEnd(from start: Int) -> Int {
    var used: UInt32 = 0
    var number = start
    while number < instructions.count, let instruction = instructions[number] {
      let all = used | instruction.registers | instruction.written
      guard all.nonzeroBitCount <= Self.pool.count else { break }
      used = all
      number += 1
      if instruction.endsBlock { break }
    }
    return number
  }

  /// Translates one run; where its code begins: with the block's instructions counted, and without.
  private mutating func translate(_ start: Int, _ end: Int) -> (counted: Int, plain: Int) {
    first = start
    loaded = 0
    dirty = 0
    hasHostFlags = false
    hasRawFlags = false
    loopHead = nil
    exits = []
    var used: UInt32 = 0
    var written: UInt32 = 0
    for number in start..<end {
      guard let instruction = instructions[number] else { continue }
      used |= instruction.registers | instruction.written
      written |= instruction.written
    }
    var next = 0
    for register in 0..<19 where used >> UInt32(register) & 1 != 0 {
      places[register] = Self.pool[next]
      next += 1
    }
    findNeeds(start, end)

    let counted = host.position
    countInstructions()
    let plain = host.position
    if start == 0, let last = instructions[end - 1], last.kind == .jump || last.kind == .jumpIf,
      target(of: last) == 0
    {
      loadRegisters(used)
      dirty = written
      loopHead = host.position
    }
    for number in start..<end {
      guard let instruction = instructions[number] else { continue }
      emit(instruction, number)
    }
    if let last = instructions[end - 1], !last.endsBlock { leaveTo(end) }
    writeExits()
    return (counted, plain)
  }

  mutating func countInstructions() {
    host.immediate(
      0, .memory(.field(Int(SOFT_OFFSET_INSTRUCTIONS))), Int32(block.pointee.count))
  }

  /// Which flags are wanted, from the end of the run to its beginning.
  private mutating func findNeeds(_ start: Int, _ end: Int) {
    needs = Array(repeating: (true, true), count: end - start)
    var saved = true
    var value = true
    for number in (start..<end).reversed() {
      guard let instruction = instructions[number] else { continue }
      needs[number - start] = (saved, value)
      if instruction.flags.contains(.writes) {
        saved = false
        value = false
      } else if instruction.flags.contains(.changes) {
        value = saved || value
        saved = false
      }
      if instruction.flags.contains(.reads) { value = true }
      if instruction.reachesMemory || instruction.endsBlock {
        saved = true
        value = true
      }
    }
  }

  // MARK: Registers

  func place(_ register: UInt8) -> UInt8 { places[Int(register)] }

  mutating func loadRegisters(_ set: UInt32) {
    let missing = set & ~loaded
    guard missing != 0 else { return }
    for register in 0..<19 where missing >> UInt32(register) & 1 != 0 {
      host.load(places[register], .field(register * 8))
    }
    loaded |= missing
  }

  mutating func note(written set: UInt32) {
    loaded |= set
    dirty |= set
  }

  /// Stores every changed register; flags and the places stay.
  mutating func writeBack(_ set: UInt32) {
    for register in 0..<18 where set >> UInt32(register) & 1 != 0 {
      host.store(places[register], .field(register * 8))
    }
  }

  mutating func writeBack() {
    writeBack(dirty)
    dirty = 0
  }

  // MARK: Exits

  /// To the interpreter's handler of an instruction if the condition is met. Nothing of it was done.
  mutating func exit(_ condition: UInt8, _ number: Int) {
    let jump = host.jump(condition)
    exits.append(Exit(jump: jump, number: number, dirty: dirty))
  }

  /// The run ends inside of the block.
  private mutating func leaveTo(_ number: Int) {
    writeBack()
    host.constant(HostRegister.rsi, UInt64(UInt(bitPattern: operations + number)))
    // Another run may begin there.
    host.load(HostRegister.rdx, .at(HostRegister.rsi))
    leave()
  }

  /// RSI the operation, RDX its handler.
  private mutating func leave() {
    host.store(HostRegister.rdx, .field(Int(SOFT_OFFSET_LEAVING)))
    host.constant(HostRegister.rax, UInt64(UInt(bitPattern: soft_leaving_code())))
    host.jump(register: HostRegister.rax)
  }

  private mutating func writeExits() {
    while let exit = exits.last {
      for other in exits where other.number == exit.number && other.dirty == exit.dirty {
        host.bind(other.jump)
      }
      exits.removeAll { $0.number == exit.number && $0.dirty == exit.dirty }
      writeBack(exit.dirty)
      let operation = operations + exit.number
      host.constant(HostRegister.rsi, UInt64(UInt(bitPattern: operation)))
      host.constant(
        HostRegister.rdx,
        UInt64(UInt(bitPattern: soft_code_of(operation.pointee.handler))))
      leave()
    }
  }
}
