// SwiftPM wants a source file in a C target.
#include "soft_processor.h"

_Static_assert(sizeof(soft_operation) == 32, "a decoded instruction is half a cache line");
_Static_assert(offsetof(soft_cpu, registers) == 0, "the register file comes first");
_Static_assert(offsetof(soft_cpu, rip) == 18 * 8, "rip can be named as register 18");
