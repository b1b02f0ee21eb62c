// Cases of XSAVE and XRSTOR: an area in memory, a mask in EDX:EAX.
import CSoftProcessor
import NativeProcessor

extension CaseGenerator {
  /// ModRM, the mask, and for XRSTOR an image that is mostly right.
  mutating func makeState(_ form: InstructionForm, rex: UInt8) {
    // Not the registers of the mask.
    let base: UInt8 = random.pick([1, 3, 6, 7])
    code.append((form.group ?? 0) << 3 | base)
    var target = UInt64(NATIVE_DATA) &+ 0x200 &+ random.below(0x40) &* 64
    if random.chance(3) { target &+= random.below(64) }
    // REX.X has no meaning without an index.
    registers[Int(base | (rex & 1) << 3)] = target
    registers[0] = random.chance(30) ? 7 : random.below(8)
    registers[2] = 0
    operand = target
    let offset = Int(truncatingIfNeeded: target &- UInt64(NATIVE_DATA))
    pokes.append((offset + 512, random.below(8)))
    guard form.name == "xrstor" else { return }
    var components = random.below(8)
    var compaction: UInt64 = 0
    if random.chance(40) { compaction = 1 << 63 | components | random.below(8) }
    // Components that no host has.
    if random.chance(2) { components |= 1 << (20 + random.below(42)) }
    if random.chance(2) { compaction ^= 1 << (20 + random.below(44)) }
    pokes.append((offset + 512, components))
    pokes.append((offset + 520, compaction))
    for place in stride(from: 528, to: 576, by: 8) {
      pokes.append((offset + place, random.chance(1) ? random.value() : 0))
    }
    // Status: any top of the stack, no exception pending. Tags, opcode.
    pokes.append((offset, 0x37F | random.below(8) << 27 | (random.next() & 0xFF) << 32))
    var status = 0x1F80 | random.next() & 0xE07F
    // Not bit 17, AMD's misaligned exception mask, which is not offered.
    if random.chance(3) { status |= 1 << random.pick([16, 18, 19, 24, 31]) }
    pokes.append((offset + 24, status))
    for register in 0..<8 {
      pokes.append((offset + 32 + 16 * register, random.value()))
      pokes.append((offset + 40 + 16 * register, random.next() & 0xFFFF))
    }
    for place in stride(from: 160, to: 416, by: 8) {
      pokes.append((offset + place, random.value()))
    }
    for place in stride(from: 576, to: 832, by: 8) {
      pokes.append((offset + place, random.value()))
    }
  }
}
