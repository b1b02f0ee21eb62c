import CLinux
import Platform

/// The guest of `uj-bench soft`: a BusyBox initramfs whose init tells when the shell could start, then runs loops, each
/// of which marks its begin and end on the console, so that the host's clock measures them.
struct SoftBenchmarkGuest {
  /// The loops in the order in which they run.
  static let loops = ["alu", "crc", "sieve", "copy", "syscall", "float", "fork", "fault"]
  static let readyText = "SHELL-READY"

  let folder: String
  var initramfs: String { folder + "/initrd.gz" }

  /// Builds the guest in a fresh folder of the temporary directory.
  ///
  /// - Throws: `BenchmarkError` when the C compiler or cpio is missing; says which.
  init(busybox: String) throws {
    for tool in ["/usr/bin/cc", "/usr/bin/cpio", "/bin/gzip", busybox]
    where access(tool, R_OK) != 0 {
      throw BenchmarkError("\(tool) is missing: install gcc, cpio and busybox-static")
    }
    var template = Array("/tmp/uj-bench-soft-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchmarkError("no folder in /tmp") }
    folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let root = folder + "/root"
    try Self.shell("mkdir -p \(root)/bin \(root)/proc \(root)/sys \(root)/dev")
    try Self.write(Self.source, to: folder + "/loops.c")
    try Self.shell("cc -O2 -static -o \(root)/bin/loops \(folder)/loops.c")
    try Self.shell("cp \(busybox) \(root)/bin/busybox")
    for applet in ["sh", "mount", "poweroff", "echo"] {
      try Self.shell("ln -s busybox \(root)/bin/\(applet)")
    }
    try Self.write(Self.script, to: root + "/init")
    try Self.shell("chmod +x \(root)/init")
    try Self.shell("cd \(root) && find . | cpio -o -H newc --quiet | gzip -1 > \(folder)/initrd.gz")
  }

  func remove() { try? Self.shell("rm -rf \(folder)") }

  private static func shell(_ command: String) throws {
    guard system(command) == 0 else { throw BenchmarkError("failed: \(command)") }
  }

  private static func write(_ text: String, to path: String) throws {
    guard let file = fopen(path, "w") else { throw BenchmarkError("\(path) cannot be written") }
    defer { fclose(file) }
    fputs(text, file)
  }

  private static var script: String {
    """
    #!/bin/sh
    mount -t proc proc /proc
    mount -t devtmpfs dev /dev
    echo \(readyText)
    for loop in \(loops.joined(separator: " ")); do loops $loop; done
    echo ALL-DONE
    poweroff -f

    """
  }

  /// The software processor tells by CPUID how many instructions it has executed; elsewhere only `alu` knows.
  private static let source = #"""
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <termios.h>
    #include <unistd.h>

    static volatile uint64_t sink;

    static uint64_t alu(void) {
      uint64_t count = 20000000, a = 1, b = 2, c = 3;
      __asm__ volatile(
          "1:\n add %1, %0\n xor %2, %1\n lea 3(%2,%0), %2\n rol $7, %0\n sub %2, %1\n"
          " and $-9, %0\n or $5, %2\n imul %0, %1\n dec %3\n jnz 1b\n"
          : "+r"(a), "+r"(b), "+r"(c), "+r"(count));
      sink = a + b + c;
      return 200000000;
    }

    static uint64_t crc(void) {
      static uint8_t data[65536];
      uint32_t table[256], value = ~0u;
      for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
        table[i] = c;
      }
      for (int round = 0; round < 200; round++)
        for (int i = 0; i < 65536; i++) value = table[(value ^ data[i]) & 255] ^ value >> 8;
      sink = value;
      return 0;
    }

    static uint64_t sieve(void) {
      enum { LIMIT = 8 << 20 };
      uint8_t *composite = malloc(LIMIT);
      uint64_t primes = 0;
      memset(composite, 0, LIMIT);
      for (uint32_t i = 2; i < LIMIT; i++) {
        if (composite[i]) continue;
        primes++;
        for (uint64_t j = (uint64_t)i * i; j < LIMIT; j += i) composite[j] = 1;
      }
      sink = primes;
      return 0;
    }

    static uint64_t copy(void) {
      enum { SIZE = 1 << 20 };
      uint8_t *a = malloc(SIZE), *b = malloc(SIZE);
      memset(a, 1, SIZE);
      for (int i = 0; i < 1000; i++) {
        memcpy(b, a, SIZE);
        a[i] = b[SIZE - 1];
      }
      sink = b[17];
      return 0;
    }

    static uint64_t calls(void) {
      for (int i = 0; i < 300000; i++) sink += syscall(SYS_getppid);
      return 0;
    }

    static uint64_t floating(void) {
      double x = 0.5, y = 1.25, z = 2.0, energy = 0;
      for (int i = 0; i < 5000000; i++) {
        double d = x * x + y * y + z * z + 0.01;
        double f = 1.0 / d;
        x += (y - z) * f;
        y += (z - x) * f * 0.5;
        z += (x - y) * f * 0.25;
        energy += x * y - z;
      }
      sink = (uint64_t)(int64_t)energy;
      return 0;
    }

    static uint64_t forks(void) {
      for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        waitpid(child, 0, 0);
      }
      return 0;
    }

    static uint64_t faults(void) {
      enum { SIZE = 16 << 20 };
      for (int round = 0; round < 10; round++) {
        uint8_t *p = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < SIZE; i += 4096) p[i] = 1;
        munmap(p, SIZE);
      }
      return 0;
    }

    static uint64_t executed(void) {
      uint32_t a = 0x400000F0, b, c = 0, d;
      __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
      return b == 0x63694A55 ? (uint64_t)d << 32 | a : 0;
    }

    int main(int argc, char **argv) {
      static const struct { const char *name; uint64_t (*body)(void); } loops[] = {
          {"alu", alu}, {"crc", crc}, {"sieve", sieve}, {"copy", copy}, {"syscall", calls},
          {"float", floating}, {"fork", forks}, {"fault", faults}};
      for (unsigned i = 0; i < sizeof loops / sizeof *loops; i++) {
        if (argc < 2 || strcmp(argv[1], loops[i].name)) continue;
        printf("BEGIN %s\n", argv[1]);
        fflush(stdout);
        tcdrain(1);
        uint64_t before = executed();
        uint64_t instructions = loops[i].body();
        if (before) instructions = executed() - before;
        printf("END %s %llu\n", argv[1], (unsigned long long)instructions);
      }
      return 0;
    }

    """#
}
