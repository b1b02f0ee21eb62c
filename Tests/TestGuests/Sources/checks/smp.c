#include "kernel.h"
void processor_main(void); void processor_main(void) { for (;;) __asm__ volatile("cli; hlt"); }
