// PCI configuration mechanism 1, and what is on bus 0 (PCI Local Bus Specification 3.0).
#include "kernel.h"

static u32 address(u32 device, u32 function, u32 offset) {
  return BIT(31) | device << 11 | function << 8 | (offset & 0xFC);
}
u32 pci_read(u32 device, u32 function, u32 offset) {
  out32(0xCF8, address(device, function, offset));
  return in32(0xCFC);
}
void pci_write(u32 device, u32 function, u32 offset, u32 value) {
  out32(0xCF8, address(device, function, offset));
  out32(0xCFC, value);
}
u8 pci_read8(u32 device, u32 function, u32 offset) {
  out32(0xCF8, address(device, function, offset));
  return in8(0xCFC + (offset & 3));
}
void pci_write8(u32 device, u32 function, u32 offset, u8 value) {
  out32(0xCF8, address(device, function, offset));
  out8(0xCFC + (offset & 3), value);
}
void pci_write16(u32 device, u32 function, u32 offset, u16 value) {
  out32(0xCF8, address(device, function, offset));
  out16(0xCFC + (offset & 2), value);
}

int pci_find(u32 vendor, u32 product) {
  for (u32 device = 0; device < 32; device++)
    if (pci_read(device, 0, 0) == (product << 16 | vendor)) return device;
  return -1;
}

void pci_checks(void) {
  out32(0xCF8, 0x80000000);
  check("pci.address-register", in32(0xCF8) == 0x80000000, "%x", in32(0xCF8));
  check("pci.host-bridge", pci_read(0, 0, 0) == 0x12378086, "%x", pci_read(0, 0, 0));
  check("pci.isa-bridge", pci_read(1, 0, 0) == 0x70008086 && pci_read8(1, 0, 0x0E) & 0x80, "%x", pci_read(1, 0, 0));
  check("pci.power-management", pci_read(1, 3, 0) == 0x71138086, "%x", pci_read(1, 3, 0));
  check("pci.power-management-base", (pci_read(1, 3, 0x40) & 0xFFC1) == 0x601, "%x", pci_read(1, 3, 0x40));
  check("pci.nobody", pci_read(31, 0, 0) == 0xFFFFFFFF, "%x", pci_read(31, 0, 0));
  u32 bytes = pci_read8(0, 0, 0) | pci_read8(0, 0, 1) << 8 | pci_read8(0, 0, 2) << 16 | (u32)pci_read8(0, 0, 3) << 24;
  check("pci.bytes", bytes == 0x12378086, "%x", bytes);
  out32(0xCF8, 0x80000000);
  check("pci.words", in16(0xCFE) == 0x1237, "%x", in16(0xCFE));
  out32(0xCF8, 0);
  check("pci.not-enabled", in32(0xCFC) == 0xFFFFFFFF, "%x", in32(0xCFC));
  pci_write(0, 0, 0, 0);
  check("pci.read-only", pci_read(0, 0, 0) == 0x12378086, "%x", pci_read(0, 0, 0));
  // Any virtio function: sizes of its base addresses.
  for (u32 device = 2; device < 32; device++) {
    if ((pci_read(device, 0, 0) & 0xFFFF) != 0x1AF4) continue;
    u32 kept = pci_read(device, 0, 0x20), high = pci_read(device, 0, 0x24);
    u32 command = pci_read(device, 0, 4) & 0xFFFF;
    pci_write16(device, 0, 4, command & ~7);
    pci_write(device, 0, 0x20, 0xFFFFFFFF);
    pci_write(device, 0, 0x24, 0xFFFFFFFF);
    u32 mask = pci_read(device, 0, 0x20), upper = pci_read(device, 0, 0x24);
    pci_write(device, 0, 0x20, kept);
    pci_write(device, 0, 0x24, high);
    pci_write16(device, 0, 4, command);
    u32 size = -(mask & ~15u);
    check("pci.base-address-size", (mask & 7) == 4 && size >= 4096 && !(size & (size - 1)) && upper == 0xFFFFFFFF, "%x %x", upper, mask);
    check("pci.base-address-kept", pci_read(device, 0, 0x20) == kept, "%x was %x", pci_read(device, 0, 0x20), kept);
    break;
  }
}
