// How translated code ends: on to the next block, without the loop where it is known and fresh and no event waits.
import CSoftProcessor

extension Translator {
  /// From the block's start to a direct branch's target.
  func target(of instruction: TranslatedInstruction) -> Int64 {
    let operation = instruction.operation
    return following(operation) &+ Int64(bitPattern: operation.immediate)
  }

  private func following(_ operation: soft_operation) -> Int64 {
    Int64(operation.offset) + Int64(operation.length)
  }

  mutating func emitEnd(_ instruction: TranslatedInstruction, _ number: Int) {
    let operation = instruction.operation
    switch instruction.kind {
    case .end:
      writeBack()
      goOn(Int64(operation.offset), slot: 1, number)
    case .jump:
      if loopHead != nil { return goRound(number) }
      writeBack()
      goOn(target(of: instruction), slot: 0, number)
    case .jumpIf:
      loadFlags()
      let changed = dirty
      if loopHead == nil { writeBack() }
      let taken = host.jump(instruction.condition)
      writeBack()
      goOn(following(operation), slot: 1, number)
      host.bind(taken)
      if loopHead == nil { return goOn(target(of: instruction), slot: 0, number) }
      dirty = changed
      goRound(number)
    case .call: emitCall(instruction, number)
    case .callIndirect:
      if instruction.isMemory {
        findOperand(instruction, number)
        host.load(HostRegister.rsi, .at(HostRegister.rax))
      } else {
        host.move(HostRegister.rsi, place(instruction.rm))
      }
      lookUpStack(-8, isWrite: true, number)
      // RAX the target, RSI the place on the stack.
      host.code(0x87, size: 3, HostRegister.rax, .register(HostRegister.rsi))
      writeBack()
      findBlock(number)
      pushReturn(operation)
      enterFound()
    case .jumpIndirect:
      if instruction.isMemory {
        findOperand(instruction, number)
        host.load(HostRegister.rax, .at(HostRegister.rax))
      } else {
        host.move(HostRegister.rax, place(instruction.rm))
      }
      writeBack()
      findBlock(number)
      enterFound()
    default:
      lookUpStack(0, isWrite: false, number)
      host.load(HostRegister.rax, .at(HostRegister.rax))
      writeBack()
      findBlock(number)
      host.immediate(
        0, .memory(.field(4 * 8)), Int32(truncatingIfNeeded: 8 + operation.immediate & 0x1FFFF))
      enterFound()
    }
  }

  private mutating func emitCall(_ instruction: TranslatedInstruction, _ number: Int) {
    lookUpStack(-8, isWrite: true, number)
    writeBack()
    host.move(HostRegister.rsi, HostRegister.rax)
    let distance = target(of: instruction)
    guard let near = Int32(exactly: distance) else { return exit(HostCondition.always, number) }
    if isInPage(distance) {
      findLink(slot: 0, number)
      pushReturn(instruction.operation)
      enterLink(near)
    } else {
      host.load(HostRegister.rax, .field(Int(SOFT_OFFSET_RIP)))
      host.immediate(0, .register(HostRegister.rax), near)
      findBlock(number)
      pushReturn(instruction.operation)
      enterFound()
    }
  }

  /// Stores the return address through RSI and moves the guest's stack pointer; RAX and RDX stay.
  private mutating func pushReturn(_ operation: soft_operation) {
    host.load(HostRegister.rcx, .field(Int(SOFT_OFFSET_RIP)))
    host.immediate(0, .register(HostRegister.rcx), Int32(truncatingIfNeeded: following(operation)))
    host.store(HostRegister.rcx, .at(HostRegister.rsi))
    host.immediate(5, .memory(.field(4 * 8)), 8)
  }

  // MARK: Successors

  /// On to a place at a known distance from the block's start.
  private mutating func goOn(_ distance: Int64, slot: Int, _ number: Int) {
    guard let near = Int32(exactly: distance) else { return exit(HostCondition.always, number) }
    if isInPage(distance) {
      findLink(slot: slot, number)
      enterLink(near)
    } else {
      host.load(HostRegister.rax, .field(Int(SOFT_OFFSET_RIP)))
      host.immediate(0, .register(HostRegister.rax), near)
      findBlock(number)
      enterFound()
    }
  }

  /// The block again, with the registers where they are.
  private mutating func goRound(_ number: Int) {
    guard let loopHead else { return }
    checkEvents(number)
    let page = UInt64(UInt(bitPattern: block.pointee.page_generation))
    host.constant(HostRegister.rax, page)
    host.code(0x81, size: 2, 7, .memory(.at(HostRegister.rax)))
    host.number(UInt64(block.pointee.generation), count: 4)
    exit(HostCondition.notEqual, number)
    countInstructions()
    host.bind(host.jump(HostCondition.always), to: loopHead)
  }

  /// Blocks of one page are linked to each other; see `findSuccessor`.
  private func isInPage(_ distance: Int64) -> Bool {
    let place = Int64(block.pointee.physical_address & 0xFFF) &+ distance
    return place >= 0 && place < 4096
  }

  private mutating func checkEvents(_ number: Int) {
    host.immediate(7, .memory(.field(Int(SOFT_OFFSET_EVENTS))), 0, size: 2)
    exit(HostCondition.notEqual, number)
  }

  /// The block in RDX is there, no event waits, and its page has not changed. RCX is lost.
  private mutating func checkBlock(_ number: Int) {
    host.code(0x85, size: 3, HostRegister.rdx, .register(HostRegister.rdx))
    exit(HostCondition.equal, number)
    checkEvents(number)
    host.load(HostRegister.rcx, .at(HostRegister.rdx, Int(SOFT_OFFSET_BLOCK_PAGE)))
    host.load(HostRegister.rcx, .at(HostRegister.rcx), size: 2)
    host.code(
      0x3B, size: 2, HostRegister.rcx,
      .memory(.at(HostRegister.rdx, Int(SOFT_OFFSET_BLOCK_GENERATION))))
    exit(HostCondition.notEqual, number)
  }

  /// RDX = the linked block, or an exit.
  private mutating func findLink(slot: Int, _ number: Int) {
    host.load(HostRegister.rcx, .field(Int(SOFT_OFFSET_BLOCK)))
    if first > 0 {
      // A handler before may have dropped all blocks.
      host.code(0x85, size: 3, HostRegister.rcx, .register(HostRegister.rcx))
      exit(HostCondition.equal, number)
    }
    let link = slot == 0 ? SOFT_OFFSET_BLOCK_LINK0 : SOFT_OFFSET_BLOCK_LINK1
    host.load(HostRegister.rdx, .at(HostRegister.rcx, Int(link)))
    checkBlock(number)
  }

  private mutating func enterLink(_ distance: Int32) {
    if distance != 0 { host.immediate(0, .memory(.field(Int(SOFT_OFFSET_RIP))), distance) }
    host.store(HostRegister.rdx, .field(Int(SOFT_OFFSET_BLOCK)))
    host.jump(through: .at(HostRegister.rdx, Int(SOFT_OFFSET_BLOCK_CODE)))
  }

  /// RDX = the block at the address in RAX by the jump cache, or an exit. See `jumpIndirect`.
  private mutating func findBlock(_ number: Int) {
    let rax = HostRegister.rax
    let rcx = HostRegister.rcx
    let rdx = HostRegister.rdx
    host.move(rcx, rax)
    host.code(0xC1, size: 3, 5, .register(rcx))
    host.byte(UInt8(SOFT_JUMP_CACHE_BITS))
    host.code(0x33, size: 2, rcx, .register(rax))
    host.immediate(4, .register(rcx), 1 << Int32(SOFT_JUMP_CACHE_BITS) - 1, size: 2)
    host.loadAddress(rcx, HostAddress(base: rcx, index: rcx, scale: 1), size: 2)
    host.load(rdx, .field(Int(SOFT_OFFSET_JUMP_CACHE)))
    host.loadAddress(rcx, HostAddress(base: rdx, index: rcx, scale: 3))
    host.code(0x3B, size: 3, rax, .memory(.at(rcx, Int(SOFT_OFFSET_JUMP_LINEAR))))
    exit(HostCondition.notEqual, number)
    host.load(rdx, .field(Int(SOFT_OFFSET_TLB_GENERATION)), size: 2)
    host.code(0x3B, size: 2, rdx, .memory(.at(rcx, Int(SOFT_OFFSET_JUMP_GENERATION))))
    exit(HostCondition.notEqual, number)
    host.load(rdx, .field(Int(SOFT_OFFSET_MODE)), size: 2)
    host.code(0x3B, size: 2, rdx, .memory(.at(rcx, Int(SOFT_OFFSET_JUMP_MODE))))
    exit(HostCondition.notEqual, number)
    host.load(rdx, .at(rcx, Int(SOFT_OFFSET_JUMP_BLOCK)))
    checkBlock(number)
  }

  private mutating func enterFound() {
    host.store(HostRegister.rax, .field(Int(SOFT_OFFSET_RIP)))
    host.store(HostRegister.rdx, .field(Int(SOFT_OFFSET_BLOCK)))
    host.jump(through: .at(HostRegister.rdx, Int(SOFT_OFFSET_BLOCK_CODE)))
  }
}
