// Arithmetic of the x87 by the host's x87: the guest's state is loaded whole (FRSTOR), one instruction runs, the state is
// stored whole (FNSAVE). Both are instructions that do not wait, so that even unmasked exceptions stay in the status
// word, where the guest's next waiting instruction finds them.
#include "soft_x87.h"

#include <string.h>

#include "x87_short.h"

/// The 108 bytes of FNSAVE in 32-bit protected format.
typedef struct {
  uint32_t control, status, tags, instruction_offset, instruction_selector, data_offset, data_selector;
  uint8_t registers[80];
  /// Not the host's: exceptions that were pending before.
  uint32_t kept;
} saved_state;

// One stub of 4 bytes for each opcode and ModRM byte: the instruction and a return. Memory operands are at [rsi].
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl soft_x87_register_stubs\n"
    ".hidden soft_x87_register_stubs\n"
    "soft_x87_register_stubs:\n"
    ".set opcode, 0xD8\n"
    ".rept 8\n"
    ".set modrm, 0xC0\n"
    ".rept 64\n"
    ".byte opcode, modrm, 0xC3, 0xCC\n"
    ".set modrm, modrm + 1\n"
    ".endr\n"
    ".set opcode, opcode + 1\n"
    ".endr\n"
    ".globl soft_x87_memory_stubs\n"
    ".hidden soft_x87_memory_stubs\n"
    "soft_x87_memory_stubs:\n"
    ".set opcode, 0xD8\n"
    ".rept 8\n"
    ".set modrm, 0x06\n"
    ".rept 8\n"
    ".byte opcode, modrm, 0xC3, 0xCC\n"
    ".set modrm, modrm + 8\n"
    ".endr\n"
    ".set opcode, opcode + 1\n"
    ".endr\n");
extern const uint8_t soft_x87_register_stubs[] __attribute__((visibility("hidden")));
extern const uint8_t soft_x87_memory_stubs[] __attribute__((visibility("hidden")));

static inline uint32_t top(const soft_cpu *cpu) { return cpu->fsw >> 11 & 7; }

/// Abridged tags (bit n: not empty) as the full ones that FRSTOR takes: it looks at the registers itself for the rest.
static uint32_t full_tags(uint32_t abridged) {
  uint32_t tags = 0;
  for (uint32_t n = 0; n < 8; n++)
    if (!(abridged >> n & 1)) tags |= 3u << 2 * n;
  return tags;
}
static uint8_t abridged_tags(uint32_t tags) {
  uint32_t abridged = 0;
  for (uint32_t n = 0; n < 8; n++)
    if ((tags >> 2 * n & 3) != 3) abridged |= 1u << n;
  return (uint8_t)abridged;
}

void soft_x87_store_registers(soft_cpu *cpu, uint8_t *image) {
  for (uint32_t n = 0, from = top(cpu); n < 8; n++)
    memcpy(image + 10 * n, cpu->x87[(from + n) & 7], 10);
}
void soft_x87_load_registers(soft_cpu *cpu, const uint8_t *image) {
  for (uint32_t n = 0, to = top(cpu); n < 8; n++) memcpy(cpu->x87[(to + n) & 7], image + 10 * n, 10);
}

/// Loads the guest's state, runs the stub, stores what became of it.
static void run(soft_cpu *cpu, const uint8_t *stub, void *memory, saved_state *state) {
  memset(state, 0, 28);
  state->control = cpu->fcw | 0xFFFF0000;
  // A pending exception that the guest does not want to hear of (CR0.NE clear) would be the host's to hear of.
  const uint32_t pending = cpu->fsw & ~(uint32_t)cpu->fcw & 0x3F;
  const uint32_t kept = pending ? cpu->fsw & 0x3F : 0;
  state->status = (cpu->fsw & ~(kept | (pending ? SOFT_X87_SUMMARY | SOFT_X87_BUSY : 0))) | 0xFFFF0000;
  state->tags = full_tags(cpu->ftw) | 0xFFFF0000;
  soft_x87_store_registers(cpu, state->registers);
  uint64_t flags = (cpu->host_flags & 0x8D5) | 2;
  // The red zone is left alone: CALL pushes below it. FCMOV reads and FCOMI writes the flags.
  __asm__ volatile(
      "leaq -128(%%rsp), %%rsp\n\t"
      "frstor (%[state])\n\t"
      "pushq %[flags]\n\t"
      "popfq\n\t"
      "call *%[stub]\n\t"
      "pushfq\n\t"
      "popq %[flags]\n\t"
      "fnsave (%[state])\n\t"
      "leaq 128(%%rsp), %%rsp"
      : [flags] "+r"(flags)
      : [state] "r"(state), [stub] "r"(stub), "S"(memory)
      : "memory", "cc");
  cpu->host_flags = flags & 0x8D5;
  state->kept = kept;
}

static const uint8_t *stub_of(uint32_t opcode, uint32_t modrm) {
  uint32_t row = opcode & 7;
  return modrm >= 0xC0 ? soft_x87_register_stubs + (row * 64 + (modrm - 0xC0)) * 4
                       : soft_x87_memory_stubs + (row * 8 + (modrm >> 3 & 7)) * 4;
}

static void take(soft_cpu *cpu, const saved_state *state) {
  cpu->fsw = (uint16_t)(state->status | state->kept);
  if (state->kept) cpu->fsw |= SOFT_X87_SUMMARY | SOFT_X87_BUSY;
  cpu->ftw = abridged_tags(state->tags);
  soft_x87_load_registers(cpu, state->registers);
}

void soft_x87_execute(soft_cpu *cpu, uint32_t opcode, uint32_t modrm, const void *memory) {
  soft_x87_outcome outcome;
  if (soft_x87_short(
          cpu, opcode, modrm, soft_x87_memory_stubs, soft_x87_register_stubs, (void *)memory, &outcome))
    return;
  saved_state state;
  run(cpu, stub_of(opcode, modrm), (void *)memory, &state);
  take(cpu, &state);
}

_Static_assert(sizeof(saved_state) <= 112, "the pending state is kept in the upper half of the scratch");

/// Behind the whole state in the scratch: which of the two ways the pending store went.
enum { PENDING = 256, OUTCOME = PENDING + 128 };

uint32_t soft_x87_execute_store(soft_cpu *cpu, uint32_t opcode, uint32_t modrm, void *memory) {
  soft_x87_outcome *outcome = (soft_x87_outcome *)(void *)(cpu->scratch + OUTCOME);
  if (soft_x87_short(cpu, opcode, modrm, soft_x87_memory_stubs, soft_x87_register_stubs, memory, outcome))
    return 1;
  outcome->is_store = 0;
  saved_state *state = (saved_state *)(void *)(cpu->scratch + PENDING);
  run(cpu, stub_of(opcode, modrm), memory, state);
  // The summary was clear before: what is set and unmasked now, this instruction found. Of those, invalid operation,
  // overflow and underflow keep the result back (SDM 1, 8.5).
  return !(state->status & ~(uint32_t)cpu->fcw & 0x19);
}

void soft_x87_commit(soft_cpu *cpu) {
  const soft_x87_outcome *outcome = (const soft_x87_outcome *)(const void *)(cpu->scratch + OUTCOME);
  if (outcome->is_store) {
    cpu->fsw = outcome->status;
    cpu->ftw = outcome->tags;
  } else {
    take(cpu, (const saved_state *)(void *)(cpu->scratch + PENDING));
  }
}

// MARK: Which instruction it is

static const soft_x87_form undefined = {SOFT_X87_UNDEFINED, 0, 0};

static soft_x87_form control(uint32_t kind, uint32_t size) {
  return (soft_x87_form){SOFT_X87_CONTROL, (uint8_t)size, (uint8_t)kind};
}

static soft_x87_form classify_memory(uint32_t row, uint32_t group) {
  static const uint8_t sizes[8] = {4, 0, 4, 4, 8, 8, 2, 2};
  uint8_t size = sizes[row];
  switch (row) {
  case 0: case 2: case 4: case 6: // arithmetic with m32, m32 integer, m64, m16 integer
    return (soft_x87_form){SOFT_X87_LOAD, size, 0};
  case 1:
    switch (group) {
    case 0: return (soft_x87_form){SOFT_X87_LOAD, 4, 0};
    case 2: case 3: return (soft_x87_form){SOFT_X87_STORE, 4, 0};
    case 4: return control(SOFT_X87_FLDENV, 28);
    case 5: return control(SOFT_X87_FLDCW, 2);
    case 6: return control(SOFT_X87_FNSTENV, 28);
    case 7: return control(SOFT_X87_FNSTCW, 2);
    default: return undefined;
    }
  case 3:
    switch (group) {
    case 0: return (soft_x87_form){SOFT_X87_LOAD, 4, 0};
    case 1: case 2: case 3: return (soft_x87_form){SOFT_X87_STORE, 4, 0};
    case 5: return (soft_x87_form){SOFT_X87_LOAD, 10, 0};
    case 7: return (soft_x87_form){SOFT_X87_STORE, 10, 0};
    default: return undefined;
    }
  case 5:
    switch (group) {
    case 0: return (soft_x87_form){SOFT_X87_LOAD, 8, 0};
    case 1: case 2: case 3: return (soft_x87_form){SOFT_X87_STORE, 8, 0};
    case 4: return control(SOFT_X87_FRSTOR, 108);
    case 6: return control(SOFT_X87_FNSAVE, 108);
    case 7: return control(SOFT_X87_FNSTSW, 2);
    default: return undefined;
    }
  default:
    switch (group) {
    case 0: return (soft_x87_form){SOFT_X87_LOAD, 2, 0};
    case 1: case 2: case 3: return (soft_x87_form){SOFT_X87_STORE, 2, 0};
    case 4: return (soft_x87_form){SOFT_X87_LOAD, 10, 0};
    case 5: return (soft_x87_form){SOFT_X87_LOAD, 8, 0};
    case 6: return (soft_x87_form){SOFT_X87_STORE, 10, 0};
    default: return (soft_x87_form){SOFT_X87_STORE, 8, 0};
    }
  }
}

/// Register forms that exist: bit n of row r is ModRM 0xC0 + n of opcode 0xD8 + r. Aliases of old are among them.
static const uint64_t register_forms[8] = {
    0xFFFFFFFFFFFFFFFF, // D8
    0xFFFF7F33FF01FFFF, // D9: without D1-D7, E2, E3, E6, E7, EF
    0x00000200FFFFFFFF, // DA: FCMOVcc, FUCOMPP
    0x00FFFF1FFFFFFFFF, // DB: FCMOVNcc, control, FUCOMI, FCOMI
    0xFFFFFFFFFFFFFFFF, // DC
    0x0000FFFFFFFFFFFF, // DD: without F0-FF
    0xFFFFFFFF02FFFFFF, // DE: without D8, DA-DF
    0x00FFFF01FFFFFFFF, // DF: without E1-E7, F8-FF
};

soft_x87_form soft_x87_classify(uint32_t opcode, uint32_t modrm) {
  uint32_t row = opcode & 7;
  if (modrm < 0xC0) return classify_memory(row, modrm >> 3 & 7);
  if (!(register_forms[row] >> (modrm - 0xC0) & 1)) return undefined;
  if (row == 3 && modrm >= 0xE0 && modrm <= 0xE4)
    return control(
        modrm == 0xE2   ? SOFT_X87_FNCLEX
        : modrm == 0xE3 ? SOFT_X87_FNINIT
                        : SOFT_X87_NOTHING,
        0);
  if (row == 7 && modrm == 0xE0) return control(SOFT_X87_FNSTSW_AX, 0);
  return (soft_x87_form){SOFT_X87_REGISTER, 0, 0};
}

// MARK: Control

/// ES and B say whether an exception is set that is not masked.
static void update_summary(soft_cpu *cpu) {
  if (cpu->fsw & ~cpu->fcw & 0x3F)
    cpu->fsw |= SOFT_X87_SUMMARY | SOFT_X87_BUSY;
  else
    cpu->fsw &= (uint16_t)~(SOFT_X87_SUMMARY | SOFT_X87_BUSY);
}

void soft_x87_initialize(soft_cpu *cpu) {
  cpu->fcw = 0x37F;
  cpu->fsw = 0;
  cpu->ftw = 0;
  cpu->fop = 0;
  cpu->fip = cpu->fdp = 0;
  cpu->fcs = cpu->fds = 0;
}

void soft_x87_clear_exceptions(soft_cpu *cpu) { cpu->fsw &= 0x7F00; }

void soft_x87_set_control(soft_cpu *cpu, uint32_t value) {
  // Bit 6 reads as 1; bits 7 and 13 to 15 as 0.
  cpu->fcw = (uint16_t)((value & 0x1F3F) | 0x40);
  update_summary(cpu);
}

// MARK: Images

static void put16(uint8_t *image, uint32_t offset, uint64_t value) {
  uint16_t word = (uint16_t)value;
  memcpy(image + offset, &word, 2);
}
static void put32(uint8_t *image, uint32_t offset, uint64_t value) {
  uint32_t word = (uint32_t)value;
  memcpy(image + offset, &word, 4);
}
static uint32_t get16(const uint8_t *image, uint32_t offset) {
  uint16_t word;
  memcpy(&word, image + offset, 2);
  return word;
}
static uint32_t get32(const uint8_t *image, uint32_t offset) {
  uint32_t word;
  memcpy(&word, image + offset, 4);
  return word;
}

/// The tag word of FNSTENV: what is in each register (SDM 1, 8.1.7).
static uint32_t described_tags(const soft_cpu *cpu) {
  uint32_t tags = 0;
  for (uint32_t n = 0; n < 8; n++) {
    uint32_t tag;
    if (!(cpu->ftw >> n & 1)) {
      tag = 3;
    } else {
      uint64_t significand;
      uint16_t exponent;
      memcpy(&significand, cpu->x87[n], 8);
      memcpy(&exponent, cpu->x87[n] + 8, 2);
      exponent &= 0x7FFF;
      if (exponent == 0 && significand == 0)
        tag = 1;
      else
        tag = exponent == 0 || exponent == 0x7FFF || !(significand >> 63) ? 2 : 0;
    }
    tags |= tag << 2 * n;
  }
  return tags;
}

uint32_t soft_x87_store_environment(
    soft_cpu *cpu, uint8_t *image, uint32_t is_wide, uint32_t is_protected) {
  uint64_t instruction = cpu->fip, data = cpu->fdp;
  if (!is_protected) {
    instruction = (uint32_t)(instruction + ((uint32_t)cpu->fcs << 4));
    data = (uint32_t)(data + ((uint32_t)cpu->fds << 4));
  }
  if (is_wide) {
    put32(image, 0, cpu->fcw | 0xFFFF0000);
    put32(image, 4, cpu->fsw | 0xFFFF0000);
    put32(image, 8, described_tags(cpu) | 0xFFFF0000);
    if (is_protected) {
      put32(image, 12, instruction);
      put32(image, 16, cpu->fcs | (uint32_t)(cpu->fop & 0x7FF) << 16);
      put32(image, 20, data);
      put32(image, 24, cpu->fds | 0xFFFF0000);
    } else {
      put32(image, 12, (instruction & 0xFFFF) | 0xFFFF0000);
      put32(image, 16, (cpu->fop & 0x7FF) | (instruction >> 16 & 0xFFFF) << 12);
      put32(image, 20, (data & 0xFFFF) | 0xFFFF0000);
      put32(image, 24, (data >> 16 & 0xFFFF) << 12);
    }
    return 28;
  }
  put16(image, 0, cpu->fcw);
  put16(image, 2, cpu->fsw);
  put16(image, 4, described_tags(cpu));
  put16(image, 6, instruction);
  put16(image, 10, data);
  if (is_protected) {
    put16(image, 8, cpu->fcs);
    put16(image, 12, cpu->fds);
  } else {
    put16(image, 8, (cpu->fop & 0x7FF) | (instruction >> 16 & 0xF) << 12);
    put16(image, 12, (data >> 16 & 0xF) << 12);
  }
  return 14;
}

void soft_x87_load_environment(
    soft_cpu *cpu, const uint8_t *image, uint32_t is_wide, uint32_t is_protected) {
  uint32_t control, tags;
  if (is_wide) {
    control = get16(image, 0);
    cpu->fsw = (uint16_t)get16(image, 4);
    tags = get16(image, 8);
    if (is_protected) {
      cpu->fip = get32(image, 12);
      cpu->fcs = (uint16_t)get16(image, 16);
      cpu->fop = (uint16_t)(get16(image, 18) & 0x7FF);
      cpu->fdp = get32(image, 20);
      cpu->fds = (uint16_t)get16(image, 24);
    } else {
      cpu->fip = get16(image, 12) | (get32(image, 16) >> 12 & 0xFFFF) << 16;
      cpu->fop = (uint16_t)(get16(image, 16) & 0x7FF);
      cpu->fdp = get16(image, 20) | (get32(image, 24) >> 12 & 0xFFFF) << 16;
      cpu->fcs = cpu->fds = 0;
    }
  } else {
    control = get16(image, 0);
    cpu->fsw = (uint16_t)get16(image, 2);
    tags = get16(image, 4);
    if (is_protected) {
      cpu->fip = get16(image, 6);
      cpu->fcs = (uint16_t)get16(image, 8);
      cpu->fdp = get16(image, 10);
      cpu->fds = (uint16_t)get16(image, 12);
    } else {
      cpu->fip = get16(image, 6) | (get16(image, 8) >> 12) << 16;
      cpu->fop = (uint16_t)(get16(image, 8) & 0x7FF);
      cpu->fdp = get16(image, 10) | (get16(image, 12) >> 12) << 16;
      cpu->fcs = cpu->fds = 0;
    }
  }
  cpu->ftw = abridged_tags(tags);
  soft_x87_set_control(cpu, control);
}

void soft_x87_store_x87_part(soft_cpu *cpu, uint8_t *image, uint32_t is_wide) {
  put16(image, 0, cpu->fcw);
  put16(image, 2, cpu->fsw);
  put16(image, 4, cpu->ftw);
  put16(image, 6, cpu->fop & 0x7FF);
  if (is_wide) {
    memcpy(image + 8, &cpu->fip, 8);
    memcpy(image + 16, &cpu->fdp, 8);
  } else {
    put32(image, 8, cpu->fip);
    put32(image, 12, cpu->fcs);
    put32(image, 16, cpu->fdp);
    put32(image, 20, cpu->fds);
  }
  for (uint32_t n = 0, from = top(cpu); n < 8; n++) {
    memcpy(image + 32 + 16 * n, cpu->x87[(from + n) & 7], 10);
    memset(image + 42 + 16 * n, 0, 6);
  }
}

void soft_x87_load_x87_part(soft_cpu *cpu, const uint8_t *image, uint32_t is_wide) {
  cpu->fsw = (uint16_t)get16(image, 2);
  cpu->ftw = image[4];
  cpu->fop = (uint16_t)(get16(image, 6) & 0x7FF);
  if (is_wide) {
    memcpy(&cpu->fip, image + 8, 8);
    memcpy(&cpu->fdp, image + 16, 8);
    cpu->fcs = cpu->fds = 0;
  } else {
    cpu->fip = get32(image, 8);
    cpu->fcs = (uint16_t)get16(image, 12);
    cpu->fdp = get32(image, 16);
    cpu->fds = (uint16_t)get16(image, 20);
  }
  for (uint32_t n = 0, to = top(cpu); n < 8; n++) memcpy(cpu->x87[(to + n) & 7], image + 32 + 16 * n, 10);
  soft_x87_set_control(cpu, get16(image, 0));
}

void soft_x87_store_legacy_area(soft_cpu *cpu, uint8_t *image, uint32_t is_long, uint32_t is_wide) {
  soft_x87_store_x87_part(cpu, image, is_wide);
  put32(image, 24, cpu->mxcsr);
  put32(image, 28, 0xFFFF);
  for (uint32_t n = 0; n < (is_long ? 16 : 8); n++) memcpy(image + 160 + 16 * n, cpu->vectors[n], 16);
}

uint32_t soft_x87_load_legacy_area(
    soft_cpu *cpu, const uint8_t *image, uint32_t is_long, uint32_t is_wide) {
  uint32_t status = get32(image, 24);
  if (status & 0xFFFF0000) return 0;
  soft_x87_load_x87_part(cpu, image, is_wide);
  cpu->mxcsr = status;
  cpu->mxcsr_live = 0;
  for (uint32_t n = 0; n < (is_long ? 16 : 8); n++) memcpy(cpu->vectors[n], image + 160 + 16 * n, 16);
  return 1;
}
