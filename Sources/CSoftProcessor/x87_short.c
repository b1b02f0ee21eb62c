// The short way for x87 instructions that need one or two registers: only those are loaded into the host's x87, and only
// they are stored again. Everything unusual (empty or full stack, unmasked exceptions, rare instructions) takes the long
// way of soft_x87.c.
//
// The host's exception flags are sticky; between instructions they must not hold one that the guest's do not, or the next
// instruction would seem to have raised it.
#include <string.h>

#include "x87_short.h"

enum { CONTROL_DEFAULT = 0x37F, EXCEPTIONS = 0x3F, CONDITION_1 = 1 << 9, CONDITIONS = 0x4700 };

/// What an instruction does to the stack.
typedef struct {
  /// Number of the second register, or -1.
  int32_t second;
  uint8_t needs_top, pushes, writes_top, writes_second, pops;
  /// C0 to C3 all come from the instruction; else C1 only.
  uint8_t is_comparison;
  /// The ModRM byte that is executed: the second register is the host's ST1.
  uint8_t modrm;
} plan;

static int arithmetic(uint32_t group) { return group != 2 && group != 3; }

/// 0 when the instruction is not for the short way.
static int make_plan(uint32_t row, uint32_t modrm, plan *p) {
  uint32_t group = modrm >> 3 & 7;
  memset(p, 0, sizeof *p);
  p->second = -1;
  p->modrm = (uint8_t)modrm;
  if (modrm < 0xC0) {
    if (row == 0 || row == 2 || row == 4 || row == 6) {
      p->needs_top = 1;
      if (arithmetic(group))
        p->writes_top = 1;
      else
        p->is_comparison = 1, p->pops = group == 3;
      return 1;
    }
    // FLD and FILD; FBLD goes the long way.
    if (group == 0 || (row == 3 && group == 5) || (row == 7 && group == 5)) {
      p->pushes = p->writes_top = 1;
      return 1;
    }
    // FST, FSTP, FIST, FISTP, FISTTP.
    p->needs_top = 1;
    p->pops = !(group == 2);
    return !(row == 7 && (group == 4 || group == 6));
  }
  p->second = (int32_t)(modrm & 7);
  p->modrm = (uint8_t)((modrm & 0xF8) | (p->second ? 1 : 0));
  p->needs_top = 1;
  switch (row) {
  case 0:
    if (arithmetic(group))
      p->writes_top = 1;
    else
      p->is_comparison = 1, p->pops = group == 3;
    return 1;
  case 1:
    if (modrm >= 0xE8 && modrm <= 0xEE) { // constants
      p->second = -1, p->modrm = (uint8_t)modrm, p->needs_top = 0;
      p->pushes = p->writes_top = 1;
      return 1;
    }
    if (modrm == 0xE0 || modrm == 0xE1 || modrm == 0xFA || modrm == 0xFC) { // FCHS, FABS, FSQRT, FRNDINT
      p->second = -1, p->modrm = (uint8_t)modrm, p->writes_top = 1;
      return 1;
    }
    return 0;
  case 2:
    if (modrm != 0xE9) return 0; // FUCOMPP
    p->is_comparison = 1, p->pops = 2, p->modrm = (uint8_t)modrm;
    return 1;
  case 4:
    if (!arithmetic(group)) return 0;
    p->writes_second = 1;
    return 1;
  case 5:
    if (group != 4 && group != 5) return 0; // FUCOM, FUCOMP
    p->is_comparison = 1, p->pops = group == 5;
    return 1;
  case 6:
    if (modrm == 0xD9) { // FCOMPP
      p->is_comparison = 1, p->pops = 2, p->modrm = (uint8_t)modrm;
      return 1;
    }
    if (!arithmetic(group) || p->second == 0) return 0;
    p->writes_second = p->pops = 1;
    return 1;
  default: return 0;
  }
}

/// FLD, FXCH, FST and FSTP between registers move 80 bits and compute nothing.
static int move(soft_cpu *cpu, uint32_t row, uint32_t modrm) {
  uint32_t top = cpu->fsw >> 11 & 7, other = (top + (modrm & 7)) & 7;
  if (!(cpu->ftw >> top & 1)) {
    // FLD of a register needs no top.
    if (row != 1 || modrm >= 0xC8) return 0;
  }
  uint8_t kept[10];
  if (row == 1 && modrm < 0xC8) { // FLD ST(i)
    uint32_t next = (top - 1) & 7;
    if (!(cpu->ftw >> other & 1) || cpu->ftw >> next & 1) return 0;
    memcpy(cpu->x87[next], cpu->x87[other], 10);
    cpu->ftw |= (uint8_t)(1 << next);
    cpu->fsw = (uint16_t)((cpu->fsw & ~0x3800) | next << 11);
  } else if (row == 1 && modrm < 0xD0) { // FXCH
    if (!(cpu->ftw >> other & 1)) return 0;
    memcpy(kept, cpu->x87[top], 10);
    memcpy(cpu->x87[top], cpu->x87[other], 10);
    memcpy(cpu->x87[other], kept, 10);
  } else if (row == 5 && modrm >= 0xD0 && modrm < 0xE0) { // FST, FSTP
    memcpy(kept, cpu->x87[top], 10);
    memcpy(cpu->x87[other], kept, 10);
    cpu->ftw |= (uint8_t)(1 << other);
    if (modrm >= 0xD8) {
      cpu->ftw &= (uint8_t)~(1 << top);
      cpu->fsw = (uint16_t)((cpu->fsw & ~0x3800) | ((top + 1) & 7) << 11);
    }
  } else {
    return 0;
  }
  cpu->fsw &= (uint16_t)~CONDITION_1;
  return 1;
}

int soft_x87_short(
    soft_cpu *cpu, uint32_t opcode, uint32_t modrm, const uint8_t *memory_stubs,
    const uint8_t *register_stubs, void *memory, soft_x87_outcome *outcome) {
  uint32_t row = opcode & 7;
  // Unmasked exceptions have their own responses.
  if ((cpu->fcw & EXCEPTIONS) != EXCEPTIONS) return 0;
  outcome->is_store = 0;
  if (modrm >= 0xC0 && move(cpu, row, modrm)) return 1;
  plan p;
  if (!make_plan(row, modrm, &p)) return 0;
  uint32_t top = cpu->fsw >> 11 & 7;
  uint32_t second = (top + (uint32_t)(p.second > 0 ? p.second : 0)) & 7;
  if (p.needs_top && !(cpu->ftw >> top & 1)) return 0;
  if (p.second > 0 && !(cpu->ftw >> second & 1)) return 0;
  if (p.pops == 2 && p.second != 1) return 0;
  uint32_t result = top;
  if (p.pushes) {
    result = (top - 1) & 7;
    if (cpu->ftw >> result & 1) return 0;
  }

  uint16_t status;
  __asm__ volatile("fnstsw %0" : "=a"(status));
  if (status & EXCEPTIONS & ~cpu->fsw) __asm__ volatile("fnclex");
  const uint16_t control = cpu->fcw;
  if (control != CONTROL_DEFAULT) __asm__ volatile("fldcw %0" : : "m"(control));
  uint32_t depth = p.pushes;
  if (p.second > 0) {
    __asm__ volatile("fldt %0" : : "m"(*(const uint8_t(*)[10])cpu->x87[second]));
    depth++;
  }
  if (p.needs_top) {
    __asm__ volatile("fldt %0" : : "m"(*(const uint8_t(*)[10])cpu->x87[top]));
    depth++;
  }
  const uint8_t *stub = p.modrm >= 0xC0 ? register_stubs + (row * 64 + (p.modrm - 0xC0u)) * 4
                                        : memory_stubs + (row * 8 + (p.modrm >> 3 & 7u)) * 4;
  __asm__ volatile(
      "leaq -128(%%rsp), %%rsp\n\t"
      "call *%[stub]\n\t"
      "leaq 128(%%rsp), %%rsp\n\t"
      "fnstsw %%ax"
      : "=a"(status)
      : [stub] "r"(stub), "S"(memory)
      : "memory", "cc");
  depth -= p.pops;

  // What is left on the host's stack: after a pop the second register is on top.
  if (p.writes_top || (p.writes_second && (p.second <= 0 || p.pops))) {
    uint32_t to = p.writes_second ? second : result;
    __asm__ volatile("fstpt %0" : "=m"(*(uint8_t(*)[10])cpu->x87[to]));
    depth--;
  } else if (p.writes_second) {
    __asm__ volatile("fstp %%st(0)\n\tfstpt %0" : "=m"(*(uint8_t(*)[10])cpu->x87[second]));
    depth -= 2;
  }
  while (depth-- > 0) __asm__ volatile("fstp %st(0)");
  if (control != CONTROL_DEFAULT) {
    const uint16_t standard = CONTROL_DEFAULT;
    __asm__ volatile("fldcw %0" : : "m"(standard));
  }

  uint32_t taken = p.is_comparison ? CONDITIONS : CONDITION_1;
  uint32_t after = (cpu->fsw & ~taken) | (status & taken) | (status & EXCEPTIONS);
  uint32_t tags = cpu->ftw;
  if (p.pushes) {
    tags |= 1u << result;
    after = (after & ~0x3800u) | result << 11;
  }
  for (uint32_t n = 0; n < p.pops; n++) {
    tags &= ~(1u << ((top + n) & 7));
    after = (after & ~0x3800u) | ((top + n + 1) & 7) << 11;
  }
  outcome->is_store = modrm < 0xC0 && !p.writes_top && !p.is_comparison;
  outcome->status = (uint16_t)after;
  outcome->tags = (uint8_t)tags;
  if (!outcome->is_store) {
    cpu->fsw = (uint16_t)after;
    cpu->ftw = (uint8_t)tags;
  }
  return 1;
}
