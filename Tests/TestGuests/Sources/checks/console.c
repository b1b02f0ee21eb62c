// COM1, reports, small helpers.
#include "kernel.h"

const char *stage;

void console_start(void) {
  out8(COM1 + 1, 0);     // no interrupts
  out8(COM1 + 3, 0x83);  // DLAB
  out8(COM1 + 0, 1);     // 115200
  out8(COM1 + 1, 0);
  out8(COM1 + 3, 3);     // 8n1
  out8(COM1 + 2, 7);     // FIFOs on and empty
  out8(COM1 + 4, 3);     // DTR, RTS
}

void put(char c) {
  while (!(in8(COM1 + 5) & 0x20)) relax();
  out8(COM1, c);
}

char get(void) {
  while (!(in8(COM1 + 5) & 1)) relax();
  return in8(COM1);
}

static void number(u64 value, u32 base) {
  char digits[24];
  int count = 0;
  if (base == 16) {
    do digits[count++] = "0123456789abcdef"[value & 15]; while (value >>= 4);
  } else {
    u32 low = value;
    do digits[count++] = '0' + low % 10; while (low /= 10);
  }
  while (count) put(digits[--count]);
}

static void print_list(const char *format, __builtin_va_list list) {
  for (; *format; format++) {
    if (*format != '%') { put(*format); continue; }
    switch (*++format) {
    case 's': for (const char *s = __builtin_va_arg(list, const char *); *s; s++) put(*s); break;
    case 'u': number(__builtin_va_arg(list, u32), 10); break;
    case 'x': number(__builtin_va_arg(list, u32), 16); break;
    case 'X': number(__builtin_va_arg(list, u64), 16); break;
    case 'c': put(__builtin_va_arg(list, int)); break;
    default: put(*format);
    }
  }
}

void print(const char *format, ...) {
  __builtin_va_list list;
  __builtin_va_start(list, format);
  print_list(format, list);
  __builtin_va_end(list);
}

void check(const char *name, int passed, const char *format, ...) {
  print("%s %s.%s", passed ? "ok" : "FAIL", stage, name);
  if (!passed) {
    __builtin_va_list list;
    __builtin_va_start(list, format);
    put(' ');
    print_list(format, list);
    __builtin_va_end(list);
  }
  put('\n');
}

void skip(const char *name, const char *reason) { print("skip %s.%s %s\n", stage, name, reason); }

int text_equal(const char *a, const char *b) {
  while (*a && *a == *b) { a++; b++; }
  return *a == *b;
}

void fill(void *target, u8 value, u32 count) {
  __asm__ volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(value) : "memory");
}
void copy(void *target, const void *source, u32 count) {
  __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count)::"memory");
}
// The compiler may call these.
void *memset(void *target, int value, word count) { fill(target, value, count); return target; }
void *memcpy(void *target, const void *source, word count) { copy(target, source, count); return target; }
