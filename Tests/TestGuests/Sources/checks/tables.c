// The tables that say what the machine is: ACPI (6.5, chapter 5) and MP (MultiProcessor Specification 1.4).
#include "kernel.h"

u32 processor_count;

static int sums_to_zero(const u8 *bytes, u32 count) {
  u8 sum = 0;
  while (count--) sum += *bytes++;
  return sum == 0;
}
static int is_text(const u8 *bytes, const char *text) {
  while (*text)
    if (*bytes++ != (u8)*text++) return 0;
  return 1;
}

static const u8 *root(void) {
  static const u8 *found;
  static int searched;
  if (boot->root_pointer) return (const u8 *)(word)boot->root_pointer;
  for (word place = 0xE0000; !searched && place < 0x100000; place += 16)
    if (*(const u32 *)place == 0x20445352 && is_text((const u8 *)place, "RSD PTR ") && sums_to_zero((const u8 *)place, 20)) {
      found = (const u8 *)place;
      break;
    }
  searched = 1;
  return found;
}

const u8 *find_table(const char *name) {
  const u8 *pointer = root();
  if (!pointer) return 0;
  int extended = pointer[15] >= 2 && *(const u32 *)(pointer + 24);
  const u8 *list = (const u8 *)(word) * (const u32 *)(pointer + (extended ? 24 : 16));
  u32 size = extended ? 8 : 4, end = *(const u32 *)(list + 4);
  for (u32 at = 36; at + size <= end; at += size) {
    const u8 *table = (const u8 *)(word) * (const u32 *)(list + at);
    if (is_text(table, name)) return table;
  }
  return 0;
}

static void add(u8 *identifiers, u32 limit, u32 *count, u8 identifier) {
  if (*count < limit) identifiers[*count] = identifier;
  ++*count;
}

u32 processors_of_tables(u8 *identifiers, u32 limit) {
  const u8 *table = find_table("APIC");
  u32 count = 0;
  if (table)
    for (u32 at = 44, end = *(const u32 *)(table + 4); at + 2 <= end && table[at + 1]; at += table[at + 1])
      if (table[at] == 0 && table[at + 4] & 1) add(identifiers, limit, &count, table[at + 3]);
  return count;
}

static const u8 *multiprocessor_pointer(void) {
  for (word place = 0xE0000; place < 0x100000; place += 16)
    if (*(const u32 *)place == 0x5F504D5F) return (const u8 *)place;
  return 0;
}

static void multiprocessor_table(u32 wanted) {
  const u8 *pointer = multiprocessor_pointer();
  check("mp.pointer", pointer && sums_to_zero(pointer, 16), "%x", (u32)(word)pointer);
  if (!pointer) return;
  const u8 *table = (const u8 *)(word) * (const u32 *)(pointer + 4);
  u32 length = *(const u16 *)(table + 4), entries = *(const u16 *)(table + 34), enabled = 0, first = 0, pins = 0, timer = 99;
  check("mp.table", is_text(table, "PCMP") && sums_to_zero(table, length), "at %x, %u bytes", (u32)(word)table, length);
  u32 at = 44;
  for (u32 i = 0; i < entries && at < length; i++) {
    const u8 *entry = table + at;
    switch (entry[0]) {
    case 0:
      if (entry[3] & 1) enabled++;
      if (entry[3] & 2) first++;
      at += 20;
      break;
    case 3:
      pins++;
      if (entry[1] == 0 && entry[5] == 0) timer = entry[7];
      at += 8;
      break;
    default: at += 8;
    }
  }
  check("mp.processors", enabled == wanted && first == 1, "%u instead of %u, %u first", enabled, wanted, first);
  check("mp.interrupts", pins >= 15 && timer == 2 && at == length, "%u, the timer at %u, %u of %u bytes", pins, timer, at, length);
}

void table_checks(void) {
  u8 identifiers[PROCESSOR_LIMIT];
  const u8 *pointer = root();
  if (!pointer && boot->protocol == ENTERED_FIRMWARE) {
    skip("tables", "this firmware makes none");
    return;
  }
  check("acpi.root", pointer && is_text(pointer, "RSD PTR ") && sums_to_zero(pointer, 20), "%x", (u32)(word)pointer);
  if (!pointer) return;
  static const char *names[] = {"FACP", "APIC"};
  for (u32 i = 0; i < COUNT(names); i++) {
    const u8 *table = find_table(names[i]);
    check(i ? "acpi.madt" : "acpi.fadt", table && sums_to_zero(table, *(const u32 *)(table + 4)), "%x", (u32)(word)table);
  }
  const u8 *fixed = find_table("FACP");
  if (fixed) {
    check("acpi.pm-timer-port", *(const u32 *)(fixed + 76) == 0x608, "%x", *(const u32 *)(fixed + 76));
    const u8 *definition = (const u8 *)(word) * (const u32 *)(fixed + 40);
    check("acpi.dsdt", is_text(definition, "DSDT") && sums_to_zero(definition, *(const u32 *)(definition + 4)), "%x", (u32)(word)definition);
  }
  u32 count = processors_of_tables(identifiers, PROCESSOR_LIMIT), distinct = 1;
  for (u32 i = 0; i < count && i < PROCESSOR_LIMIT; i++)
    for (u32 k = 0; k < i; k++) distinct &= identifiers[i] != identifiers[k];
  check("acpi.processors", count == processor_count && distinct, "%u instead of %u, distinct %u", count, processor_count, distinct);
  multiprocessor_table(processor_count);
  // What the entry said.
  check("boot.memory", boot->memory_end == 64 << 20, "%x", boot->memory_end);
}
